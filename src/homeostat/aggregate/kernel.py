"""The loops of the kernel: exact sums rounded once, and features from the states of windows.

Compiled (`aggregate/compiled.py`). A training set calls them with a million windows, a live read
with a few. Loops call no function of another file, because what is compiled is kept until this file
changes.
"""

from __future__ import annotations

from math import frexp, ldexp

import numpy as np
from numba import types

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.compiled import compiled, compiled_for, given, written

__all__ = ["COUNT", "ELSEWHERE", "MEAN", "SHARE", "SUM", "finalized", "rounded_sums"]

COUNT, SUM, MEAN, SHARE, AGE, PICK, ELSEWHERE = range(7)
"""How a feature is read: see `finalized`."""


@compiled
def _nearest(high: int, middle: int, low: int) -> float:
    """Return the float64 nearest to high / 2^10 + middle / 2^42 + low / 2^74, ties to even."""
    # As one signed number of 128 bits, in units of 2^-74.
    shifted = np.uint64(middle & 0xFFFFFFFF) << np.uint64(32)
    lower = shifted + np.uint64(low)
    carry = np.int64(1) if lower < shifted else np.int64(0)
    upper = high + (middle >> 32) + (low >> 63) + carry
    negative = upper < 0
    if negative:
        lower = ~lower + np.uint64(1)
        upper = ~upper + (np.int64(1) if lower == np.uint64(0) else np.int64(0))
    if upper == 0:
        found = ldexp(float(lower), -74)
    else:
        # Keep the leading 63 or 64 bits; the last one also says whether anything was cut off.
        bits = min(frexp(float(upper))[1], 63)
        kept = (np.uint64(upper) << np.uint64(64 - bits)) | (lower >> np.uint64(bits))
        if lower & ((np.uint64(1) << np.uint64(bits)) - np.uint64(1)):
            kept |= np.uint64(1)
        found = ldexp(float(kept), bits - 74)
    return -found if negative else found


@compiled_for(written("float64", 1), types.Array(types.int64, 2, "A", readonly=True))
def rounded_sums(limbs: Ints) -> Floats:
    """Return the float64 nearest to each sum of three limbs, shape (n, 3)."""
    found = np.empty(len(limbs))
    for row in range(len(limbs)):
        found[row] = _nearest(limbs[row, 0], limbs[row, 1], limbs[row, 2])
    return found


@compiled_for(
    types.void,
    given("int64", 2),
    given("int64", 3),
    given("float64", 4),
    given("int64", 3),
    types.int64,
    written("float64", 2),
)
def finalized(plan: Ints, sums: Ints, picks: Floats, times: Ints, at: int, found: Floats) -> None:
    """Write the features of entities into `found` (entities, features).

    A row of `plan` is (how, window, a, b, limbs): COUNT of lane a; SUM of the `limbs` lanes from b
    on, MEAN of them, each of the lane a of how many; SHARE of lane a in lane b; the value that
    selection b PICKs from signal a, or the AGE in seconds of the latest value of signal a;
    ELSEWHERE is left alone. `sums`, `picks` and `times` are as in `state_rows.looked_up`.
    """
    for entity in range(len(found)):
        for column in range(len(plan)):
            how, window, a, b = plan[column, 0], plan[column, 1], plan[column, 2], plan[column, 3]
            if how == ELSEWHERE:
                continue
            if how == PICK:
                found[entity, column] = picks[entity, window, a, b]
                continue
            if how == AGE:
                is_none = np.isnan(picks[entity, window, a, b])
                age = (at - times[entity, window, a]) / 1e6
                found[entity, column] = np.nan if is_none else age
                continue
            lanes = sums[entity, window]
            count = lanes[a]
            if how == COUNT:
                found[entity, column] = count
                continue
            if how == SHARE:
                known = lanes[b]
                found[entity, column] = count / known if known > 0 else np.nan
                continue
            if count <= 0:
                found[entity, column] = np.nan
                continue
            if plan[column, 4] == 1:
                total = float(lanes[b])
            else:
                total = _nearest(lanes[b], lanes[b + 1], lanes[b + 2])
            found[entity, column] = total if how == SUM else total / count
