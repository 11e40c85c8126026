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
    "DEVIATION",
    "ELSEWHERE",
    "MEAN",
    "PICK",
    "SHARE",
    "SUM",
    "VARIANCE",
    "add_limbs",
    "add_squares",
    "finalized",
    "finalized_sums",
    "first_at_least",
    "give_numbers",
    "grouped",
    "numbered",
    "rounded_sums",
    "split_squares",
    "split_values",
    "variances",
]

COUNT, SUM, MEAN, SHARE, VARIANCE, DEVIATION, AGE, PICK, ELSEWHERE = range(9)
"""How a feature is read: see `finalized`."""

_BEYOND = 2**62
"""The top limb of a value that has no exact sum: that of no other value is as large."""

_MOST_SUMMED, _MOST_SQUARED = 2**31, 2**28
"""No limb of a sum of fewer values, and no lane of fewer squares, can have wrapped."""

_DIGIT, _SQUARE = np.uint64(2**32 - 1), np.uint64(2**36 - 1)
_DIGITS = 12
"""Digits of 32 bits of the largest sum of squares, times the largest count."""

_SPARE = 4
"""Digits that a quotient is computed beyond the point: it keeps 72 bits at least."""


_ANY = types.Array(types.int64, 2, "A", readonly=True)


@compiled
def _joined(high: int, middle: int, low: int) -> Any:
    """Return three limbs as one signed number of 128 bits in units of 2^-74: (upper, lower)."""
    shifted = np.uint64(middle & 0xFFFFFFFF) << np.uint64(32)
    lower = shifted + np.uint64(low)
    carry = np.int64(1) if lower < shifted else np.int64(0)
    return high + (middle >> 32) + (low >> 63) + carry, lower


@compiled
def _nearest(high: int, middle: int, low: int) -> float:
    """Return the float64 nearest to high / 2^10 + middle / 2^42 + low / 2^74, ties to even."""
    upper, lower = _joined(high, middle, low)
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


@compiled
def _square(value: float, scale: int, found: Any) -> int:
    """Write the four digits of 36 bits of a square that are not 0 to `found`.

    The square is that of the whole number nearest to `value` * 2^scale, which `value` is but for
    the smallest ones. Returns which digit of it is the first.
    """
    size = abs(value)
    mantissa, exponent = frexp(size)
    shift = exponent - 53 + scale
    if shift < 0:
        whole, shift = np.uint64(np.rint(ldexp(size, scale))), 0
    else:
        whole = np.uint64(ldexp(mantissa, 53))
    # A mantissa has 53 bits and its square 106, in two words; then a shift by less than a digit.
    left, right = whole >> np.uint64(32), whole & _DIGIT
    cross, lower = (left * right) << np.uint64(1), right * right
    before = lower
    lower += cross << np.uint64(32)
    upper = left * left + (cross >> np.uint64(32))
    if lower < before:
        upper += np.uint64(1)
    first, rest = (2 * shift) // 36, (2 * shift) % 36
    found[0] = (lower << np.uint64(rest)) & _SQUARE
    found[1] = ((lower >> np.uint64(36 - rest)) | (upper << np.uint64(28 + rest))) & _SQUARE
    if rest > 8:
        second = (lower >> np.uint64(72 - rest)) | (upper << np.uint64(rest - 8))
    else:
        second = upper >> np.uint64(8 - rest)
    found[2] = second & _SQUARE
    found[3] = upper >> np.uint64(44 - rest)
    return first


@compiled
def _quotient(above: Any, count: Any) -> bool:
    """Divide the digits of a number by `count`, below 2^32; return whether something is left."""
    rest = np.uint64(0)
    for place in range(len(above) - 1, -1, -1):
        here = (rest << np.uint64(32)) | above[place]
        above[place] = here // count
        rest = here - above[place] * count
    return bool(rest != np.uint64(0))


@compiled
def _leading(digits: Any, is_more: bool) -> float:
    """Return the float64 nearest to a number of more than 64 bits, or 0, in digits of 32 bits.

    `is_more` says that it goes on beyond its last digit.
    """
    top = len(digits) - 1
    while top >= 0 and digits[top] == np.uint64(0):
        top -= 1
    if top < 2:
        return 0.0
    bits = frexp(float(digits[top]))[1]
    kept = digits[top] << np.uint64(64 - bits)
    kept |= digits[top - 1] << np.uint64(32 - bits)
    kept |= digits[top - 2] >> np.uint64(bits)
    # The last one of 64 bits also says whether anything was cut off.
    is_more = is_more or (digits[top - 2] & ((np.uint64(1) << np.uint64(bits)) - np.uint64(1))) != 0
    for place in range(top - 2):
        is_more = is_more or digits[place] != np.uint64(0)
    if is_more:
        kept |= np.uint64(1)
    return ldexp(float(kept), 32 * top + bits - 64)


@compiled
def _variance(count: int, upper: Any, lower: Any, squares: Any, work: Any) -> float:
    """Return (n * sum of squares - (sum)^2) / n^2, correctly rounded.

    The sum is upper * 2^64 + lower; `squares` are lanes in units of 2^36; both of whole numbers.
    `work` (2, `_DIGITS` + `_SPARE`) is room for digits of 32 bits, the least first.
    """
    if count >= _MOST_SQUARED:
        return np.nan
    n, above, below = np.uint64(count), work[0], work[1]
    above[:] = 0
    below[:] = 0
    for lane in range(len(squares)):
        place, shift = _SPARE + 36 * lane // 32, np.uint64(36 * lane % 32)
        above[place] += (squares[lane] << shift) & _DIGIT
        above[place + 1] += (squares[lane] >> (np.uint64(32) - shift)) & _DIGIT
        if shift:
            above[place + 2] += squares[lane] >> (np.uint64(64) - shift)
    carry = np.uint64(0)
    for place in range(_SPARE, len(above)):
        here = above[place] * n + carry
        above[place], carry = here & _DIGIT, here >> np.uint64(32)
    if upper < 0:
        lower = ~lower + np.uint64(1)
        upper = ~upper + (np.int64(1) if lower == np.uint64(0) else np.int64(0))
    high = np.uint64(upper)
    digits = (lower & _DIGIT, lower >> np.uint64(32), high & _DIGIT, high >> np.uint64(32))
    for left in range(4):
        for right in range(4):
            here, place = digits[left] * digits[right], _SPARE + left + right
            below[place] += here & _DIGIT
            below[place + 1] += here >> np.uint64(32)
    carry, borrow = np.uint64(0), np.int64(0)
    for place in range(_SPARE, len(above)):
        carry += below[place]
        less = np.int64(above[place]) - np.int64(carry & _DIGIT) - borrow
        carry >>= np.uint64(32)
        borrow = np.int64(1) if less < 0 else np.int64(0)
        above[place] = np.uint64(less) & _DIGIT
    is_more = _quotient(above, n)
    is_more = _quotient(above, n) or is_more
    return _leading(above, is_more)


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

    A value that is not a number adds nothing. Returns the first row that is infinite, or -1.
    """
    first, second, third = np.int64(0), np.int64(0), np.int64(0)
    for row in range(len(values)):
        value = values[row]
        if abs(value) >= 2.0**52:
            if np.isinf(value):
                return row
            first += _BEYOND
        elif not np.isnan(value):
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

    Values of 2^52 and beyond have a top limb that no other value has. Returns the first row whose
    value is not a finite number, or -1.
    """
    for row in range(len(values)):
        value = values[row]
        if not abs(value) < 2.0**52:
            if not np.isfinite(value):
                return row
            limbs[0, row], limbs[1, row], limbs[2, row] = _BEYOND, 0, 0
            continue
        high = np.trunc(value * 2.0**10)
        rest = value - high * 2.0**-10
        middle = np.trunc(rest * 2.0**42)
        rest -= middle * 2.0**-42
        limbs[0, row], limbs[1, row] = np.int64(high), np.int64(middle)
        limbs[2, row] = np.int64(np.rint(rest * 2.0**74))
    return -1


@compiled_for(types.void, given("float64", 1), types.int64, written("int64", 2))
def split_squares(values: Floats, scale: int, lanes: Ints) -> None:
    """Write the square of each value, in units of 2^(-2 * scale), into `lanes` (width, n).

    A value that is not a number, or has no exact sum, adds nothing.
    """
    pieces = np.empty(4, np.uint64)
    lanes[:] = 0
    for row in range(len(values)):
        if abs(values[row]) < 2.0**52:
            first = _square(values[row], scale, pieces)
            for place in range(min(4, len(lanes) - first)):
                lanes[first + place, row] = pieces[place]


@compiled_for(types.void, given("float64", 1), types.int64, written("int64", 2))
def add_squares(values: Floats, scale: int, running: Ints) -> None:
    """Write the running sums of `split_squares` into `running` (width, n + 1), from column 1 on."""
    pieces, total = np.empty(4, np.uint64), np.zeros(len(running), np.int64)
    for row in range(len(values)):
        if abs(values[row]) < 2.0**52:
            first = _square(values[row], scale, pieces)
            for place in range(min(4, len(running) - first)):
                total[first + place] += np.int64(pieces[place])
        for lane in range(len(running)):
            running[lane, row + 1] = total[lane]


@compiled_for(written("float64", 1), types.Array(types.int64, 1, "A", readonly=True), _ANY, _ANY)
def variances(counts: Ints, sums: Ints, squares: Ints) -> Floats:
    """Return the variance of each row: NaN for none, or for too many values to be exact.

    `sums` (n, 1 or 3) are those of whole numbers or the limbs of float64, `squares` (n, width) the
    sums of their squares.
    """
    found, work = np.empty(len(counts)), np.empty((2, _DIGITS + _SPARE), np.uint64)
    lanes = np.empty(squares.shape[1], np.uint64)
    for row in range(len(counts)):
        if counts[row] <= 0:
            found[row] = np.nan
            continue
        for lane in range(len(lanes)):
            lanes[lane] = np.uint64(squares[row, lane])
        upper, lower, exponent = sums[row, 0] >> 63, np.uint64(sums[row, 0]), -32 * _SPARE
        if sums.shape[1] > 1:
            upper, lower = _joined(sums[row, 0], sums[row, 1], sums[row, 2])
            exponent -= 148
        found[row] = ldexp(_variance(counts[row], upper, lower, lanes, work), exponent)
    return found


@compiled_for(written("float64", 1), _ANY)
def rounded_sums(limbs: Ints) -> Floats:
    """Return the float64 nearest to each sum of three limbs, shape (n, 3)."""
    found = np.empty(len(limbs))
    for row in range(len(limbs)):
        found[row] = _nearest(limbs[row, 0], limbs[row, 1], limbs[row, 2])
    return found


@compiled_for(
    types.void, given("int64", 2), _ANY, given("int64", 2), given("int64", 2),
    written("float64", 2),
)  # fmt: skip
def finalized_sums(plan: Ints, running: Ints, begin: Ints, end: Ints, found: Floats) -> None:
    """Write the features that are read from sums into `found` (queries, features).

    A window has the rows from `begin` (windows, queries) to `end`; `running` (n + 1, lanes) are
    the running sums of the rows; `plan` is as in `finalized`, its other features are left alone.
    """
    room = 0
    for column in range(len(plan)):
        room = max(room, plan[column, 6])
    work, squares = np.empty((2, _DIGITS + _SPARE), np.uint64), np.empty(room, np.uint64)
    for query in range(len(found)):
        last_window, last_lane, total = -1, -1, 0.0
        last_spread, last_square, spread = -1, -1, 0.0
        for column in range(len(plan)):
            how, window, a, b = plan[column, 0], plan[column, 1], plan[column, 2], plan[column, 3]
            if how > DEVIATION:
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
            if count <= 0 or count >= _MOST_SUMMED:
                found[query, column] = np.nan
                continue
            high = running[after, b] - running[first, b]
            if how in (VARIANCE, DEVIATION):
                c, width = plan[column, 5], plan[column, 6]
                if window != last_spread or c != last_square:
                    for lane in range(width):
                        square = running[after, c + lane] - running[first, c + lane]
                        squares[lane] = np.uint64(square)
                    if plan[column, 4] > 1:
                        upper, lower = _joined(
                            high,
                            running[after, b + 1] - running[first, b + 1],
                            running[after, b + 2] - running[first, b + 2],
                        )
                        spread = _variance(count, upper, lower, squares[:width], work)
                        spread = ldexp(spread, -32 * _SPARE - 148)
                    else:
                        upper, lower = high >> 63, np.uint64(high)
                        spread = _variance(count, upper, lower, squares[:width], work)
                        spread = ldexp(spread, -32 * _SPARE)
                    last_spread, last_square = window, c
                found[query, column] = spread if how == VARIANCE else np.sqrt(spread)
                continue
            if window != last_window or b != last_lane:
                total = float(high)
                if plan[column, 4] > 1:
                    total = _nearest(
                        high,
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

    A row of `plan` is (how, window, a, b, limbs, c, width): COUNT of lane a; SUM of the `limbs`
    lanes from b on, MEAN of them, each of the lane a of how many; VARIANCE and DEVIATION from these
    and the `width` lanes of squares from c on; SHARE of lane a in lane b; the value that selection
    b PICKs from signal a, or the AGE in seconds of the latest value of signal a; ELSEWHERE is left
    alone. `sums`, `picks` and `times` are as in `state_rows.looked_up`.
    """
    room = 0
    for column in range(len(plan)):
        room = max(room, plan[column, 6])
    work, squares = np.empty((2, _DIGITS + _SPARE), np.uint64), np.empty(room, np.uint64)
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
            if count <= 0 or count >= _MOST_SUMMED:
                found[entity, column] = np.nan
                continue
            if how in (VARIANCE, DEVIATION):
                c, width = plan[column, 5], plan[column, 6]
                for lane in range(width):
                    squares[lane] = np.uint64(lanes[c + lane])
                if plan[column, 4] > 1:
                    upper, lower = _joined(lanes[b], lanes[b + 1], lanes[b + 2])
                    spread = _variance(count, upper, lower, squares[:width], work)
                    spread = ldexp(spread, -32 * _SPARE - 148)
                else:
                    upper, lower = lanes[b] >> 63, np.uint64(lanes[b])
                    spread = _variance(count, upper, lower, squares[:width], work)
                    spread = ldexp(spread, -32 * _SPARE)
                found[entity, column] = spread if how == VARIANCE else np.sqrt(spread)
                continue
            if plan[column, 4] == 1:
                total = float(lanes[b])
            else:
                total = _nearest(lanes[b], lanes[b + 1], lanes[b + 2])
            found[entity, column] = total if how == SUM else total / count
