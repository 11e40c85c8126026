"""The loops of the kernel: exact sums rounded once, and features from the states of windows.

Compiled (`core/compiled.py`). A training set calls them with a million windows, a live read
with a few. Loops call no function of another file, because what is compiled is kept until this file
changes.
"""

from __future__ import annotations

from math import frexp, ldexp
from typing import Any

import numpy as np
from numba import types

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.core.compiled import (
    INT_OUT,
    INTS,
    compiled,
    compiled_for,
    given,
    pair,
    written,
)

__all__ = [
    "AGE",
    "COUNT",
    "ELSEWHERE",
    "MEAN",
    "PICK",
    "SHARE",
    "SUM",
    "add_limbs",
    "finalized",
    "finalized_sums",
    "first_at_least",
    "give_numbers",
    "grouped",
    "numbered",
    "rounded_sums",
    "split_values",
]

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


@compiled_for(pair(INT_OUT, INT_OUT), INTS, types.int64)
def grouped(codes: Ints, groups: int) -> tuple[Ints, Ints]:
    """Return the order of `codes` (below `groups`), stable, and where each group begins in it."""
    cuts = np.zeros(groups + 1, np.int64)
    for row in range(len(codes)):
        cuts[codes[row] + 1] += 1
    for group in range(groups):
        cuts[group + 1] += cuts[group]
    place = cuts[:-1].copy()
    order = np.empty(len(codes), np.int64)
    for row in range(len(codes)):
        code = codes[row]
        order[place[code]] = row
        place[code] += 1
    return order, cuts


@compiled_for(types.int64, INTS, types.int64, written("uint32", 1))
def give_numbers(keys: Ints, low: int, numbers: Any) -> int:
    """Number the different keys from 1 on, in their order: `numbers` has those from the key `low`
    on, 0 for none so far. Keys outside get none. Returns how many there are."""
    high = low + len(numbers)
    for row in range(len(keys)):
        if low <= keys[row] < high:
            numbers[keys[row] - low] = 1
    count = 0
    for place in range(len(numbers)):
        if numbers[place] > 0:
            count += 1
            numbers[place] = count
    return count


@compiled_for(written("uint32", 1), INTS, types.int64, given("uint32", 1))
def numbered(keys: Ints, low: int, numbers: Any) -> Any:
    """Return the number of each key, uint32; `numbers` has those from the key `low` on, 0: none."""
    found = np.zeros(len(keys), np.uint32)
    high = low + len(numbers)
    for row in range(len(keys)):
        if low <= keys[row] < high:
            found[row] = numbers[keys[row] - low]
    return found


@compiled_for(INT_OUT, INTS, INTS)
def first_at_least(keys: Ints, wanted: Ints) -> Ints:
    """Return, for each key wanted, the first of the sorted `keys` that is not below it.

    Quick where the wanted ones are in order and not far apart: each search begins at the last.
    """
    found = np.empty(len(wanted), np.int64)
    n, place = len(keys), 0
    for number in range(len(wanted)):
        key = wanted[number]
        if place > 0 and keys[place - 1] >= key:
            low, high = 0, place - 1
        else:
            low, step = place, 1
            while low + step <= n and keys[low + step - 1] < key:
                low += step
                step *= 2
            high = min(low + step - 1, n)
        while low < high:
            middle = (low + high) // 2
            if keys[middle] < key:
                low = middle + 1
            else:
                high = middle
        found[number] = place = low
    return found


@compiled_for(types.int64, given("float64", 1), written("int64", 2))
def add_limbs(values: Floats, running: Ints) -> int:
    """Write the running sums of the limbs of values into `running` (3, n + 1), from column 1 on.

    A value that is not a number adds nothing. Returns the first row that `split_values` refuses,
    or -1.
    """
    first, second, third = np.int64(0), np.int64(0), np.int64(0)
    for row in range(len(values)):
        value = values[row]
        if not np.isnan(value):
            if not abs(value) < 2.0**52:
                return row
            high = np.trunc(value * 2.0**10)
            rest = value - high * 2.0**-10
            middle = np.trunc(rest * 2.0**42)
            rest -= middle * 2.0**-42
            first += np.int64(high)
            second += np.int64(middle)
            third += np.int64(np.rint(rest * 2.0**74))
        running[0, row + 1], running[1, row + 1], running[2, row + 1] = first, second, third
    return -1


@compiled_for(types.int64, given("float64", 1), written("int64", 2))
def split_values(values: Floats, limbs: Ints) -> int:
    """Write the limbs of each value, in units of 2^-10, 2^-42 and 2^-74, into `limbs` (3, n).

    Returns the first row whose value has none (not a number, 2^52 and beyond), or -1.
    """
    for row in range(len(values)):
        value = values[row]
        if not abs(value) < 2.0**52:
            return row
        high = np.trunc(value * 2.0**10)
        rest = value - high * 2.0**-10
        middle = np.trunc(rest * 2.0**42)
        rest -= middle * 2.0**-42
        limbs[0, row], limbs[1, row] = np.int64(high), np.int64(middle)
        limbs[2, row] = np.int64(np.rint(rest * 2.0**74))
    return -1


@compiled_for(written("float64", 1), types.Array(types.int64, 2, "A", readonly=True))
def rounded_sums(limbs: Ints) -> Floats:
    """Return the float64 nearest to each sum of three limbs, shape (n, 3)."""
    found = np.empty(len(limbs))
    for row in range(len(limbs)):
        found[row] = _nearest(limbs[row, 0], limbs[row, 1], limbs[row, 2])
    return found


@compiled_for(
    types.void, given("int64", 2), types.Array(types.int64, 2, "A", readonly=True),
    given("int64", 2), given("int64", 2), written("float64", 2),
)  # fmt: skip
def finalized_sums(plan: Ints, running: Ints, begin: Ints, end: Ints, found: Floats) -> None:
    """Write the features that are read from sums into `found` (queries, features).

    A window has the rows from `begin` (windows, queries) to `end`; `running` (n + 1, lanes) are
    the running sums of the rows; `plan` is as in `finalized`, its other features are left alone.
    """
    for query in range(len(found)):
        last_window, last_lane, total = -1, -1, 0.0
        for column in range(len(plan)):
            how, window, a, b = plan[column, 0], plan[column, 1], plan[column, 2], plan[column, 3]
            if how > SHARE:
                continue
            first, after = begin[window, query], end[window, query]
            count = running[after, a] - running[first, a]
            if how == COUNT:
                found[query, column] = count
                continue
            if how == SHARE:
                known = running[after, b] - running[first, b]
                found[query, column] = count / known if known > 0 else np.nan
                continue
            if count <= 0:
                found[query, column] = np.nan
                continue
            if window != last_window or b != last_lane:
                total = float(running[after, b] - running[first, b])
                if plan[column, 4] > 1:
                    total = _nearest(
                        running[after, b] - running[first, b],
                        running[after, b + 1] - running[first, b + 1],
                        running[after, b + 2] - running[first, b + 2],
                    )
                last_window, last_lane = window, b
            found[query, column] = total if how == SUM else total / count


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
