"""JSON objects of one schema, straight into columns, for those that are written plainly.

Compiled (`core/compiled.py`). A loop accepts a payload only if it is sure of every byte of it;
all others (escapes, numbers that are hard to round, what is wrong in any way) are left to
`PayloadDecoder`, which also says what is wrong. What a loop accepts means what it means there: the
tests compare them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from homeostat.core.compiled import compiled, compiled_for, items

__all__ = ["FORMER", "KINDS", "letters", "parsed", "powers"]

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]
Word = Any
"""A number of 64 bits without a sign."""

KINDS = ("string", "integer", "float", "boolean", "timestamp")
STRING, INTEGER, FLOAT, BOOLEAN, TIMESTAMP = range(5)
FORMER = 5
"""What a name stands for; a former name of a field (an alias) is left to the other decoder."""

_GUESSES = 64
_DEEPEST = 30
_FIRST_POWER, _LAST_POWER = -300, 280
_LATEST = 253_402_300_799_999_999
"""The last microsecond of the year 9999; the first of the year 1 is `_EARLIEST`."""
_EARLIEST = -62_135_596_800_000_000

_LETTER = np.array([32 <= c < 128 and c not in (34, 92) for c in range(256)])
"""Which bytes of a text stand for themselves, and for a whole character."""


_WEIGHT = np.zeros(256, np.int64)
"""What a byte of a name counts in its sum: nothing, unless it is a letter or a digit of ASCII.

Names that differ by case, signs and order alone have equal sums; that others have is harmless, as
the other decoder then tells them apart.
"""
for _code in range(128):
    if chr(_code).isalnum():
        _WEIGHT[_code] = (ord(chr(_code).lower()) * 0x9E3779B97F4A7C15) % (1 << 52)


def letters(folded: str) -> int:
    """Return the sum of a name that is case folded already, as the loop sums a key.

    >>> letters("amount") == letters("amuont")
    True
    """
    return int(_WEIGHT[np.frombuffer(folded.encode(), np.uint8)].sum())


@cache
def powers() -> Uint64s:
    """Return 5^q for q from -300 to 280 as 128 leading bits, (high, low), shape (581, 2).

    Truncated for q >= 0, rounded up for q < 0: the table of D. Lemire, "Number parsing at a
    gigabyte per second" (2021), section 4.
    """
    found = np.empty((_LAST_POWER - _FIRST_POWER + 1, 2), np.uint64)
    for place, power in enumerate(range(_FIRST_POWER, _LAST_POWER + 1)):
        if power >= 0:
            value = 5**power
            value = value << 128 >> value.bit_length()
        else:
            divisor = 5**-power
            value = (1 << (divisor.bit_length() + 127)) // divisor + 1
        assert value.bit_length() == 128
        found[place] = value >> 64, value & (2**64 - 1)
    return found


@compiled
def _blank(body: Bytes, at: int, end: int) -> int:
    """Return where white space ends."""
    while at < end:
        letter = body[at]
        if letter > 32 or (letter != 32 and letter != 10 and letter != 13 and letter != 9):
            break
        at += 1
    return at


@compiled
def _rune(body: Bytes, at: int, end: int) -> int:
    """Return where the character of several bytes ends that begins at `at`, -1 if it is none."""
    first = body[at]
    more, low, high = 0, 128, 191
    if 194 <= first <= 223:
        more = 1
    elif 224 <= first <= 239:
        more = 2
        if first == 224:
            low = 160
        elif first == 237:
            high = 159  # surrogates are no characters
    elif 240 <= first <= 244:
        more = 3
        if first == 240:
            low = 144
        elif first == 244:
            high = 143
    if more == 0 or at + more >= end or not low <= body[at + 1] <= high:
        return -1
    for place in range(at + 2, at + 1 + more):
        if not 128 <= body[place] <= 191:
            return -1
    return at + 1 + more


@compiled
def _text(body: Bytes, at: int, end: int) -> int:
    """Return where the quotation mark is that ends the text from `at`, -1 if it is not plain."""
    while at < end:
        if _LETTER[body[at]]:
            at += 1
            continue
        letter = body[at]
        if letter == 34:
            return at
        if letter < 128:
            return -1
        at = _rune(body, at, end)
        if at < 0:
            return -1
    return -1


@compiled
def _number(body: Bytes, at: int, end: int) -> tuple[int, bool, Word, int, bool]:
    """Return (where it ends, is negative, digits, power of ten, is whole); -1 if it is not plain.

    At most nineteen digits, without leading zeros.
    """
    wrong = (-1, False, np.uint64(0), 0, False)
    negative = at < end and body[at] == 45
    if negative:
        at += 1
    digits, count, power, whole = np.uint64(0), 0, 0, True
    first = at
    while at < end and 48 <= body[at] <= 57:
        digits = digits * np.uint64(10) + np.uint64(body[at] - 48)
        at += 1
    count = at - first
    if count == 0 or count > 19 or (count > 1 and body[first] == 48):
        return wrong
    if at < end and body[at] == 46:
        whole = False
        at += 1
        point = at
        while at < end and 48 <= body[at] <= 57:
            digits = digits * np.uint64(10) + np.uint64(body[at] - 48)
            at += 1
        power = point - at
        if power == 0:
            return wrong
        if body[first] == 48:  # 0.00123 has three digits
            zero = point
            while zero < at and body[zero] == 48:
                zero += 1
            count = at - zero
        else:
            count -= power
        if count > 19:
            return wrong
    if at < end and (body[at] == 101 or body[at] == 69):
        whole = False
        at += 1
        minus = at < end and body[at] == 45
        if minus or (at < end and body[at] == 43):
            at += 1
        first, exponent = at, 0
        while at < end and 48 <= body[at] <= 57 and at - first < 4:
            exponent = 10 * exponent + body[at] - 48
            at += 1
        if at == first or (at < end and 48 <= body[at] <= 57):
            return wrong
        power += -exponent if minus else exponent
    return at, negative, digits, power, whole


@compiled
def _product(a: Word, b: Word) -> tuple[Word, Word]:
    """Return a times b as 128 bits: (high, low)."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    a1, a0, b1, b0 = a >> half, a & mask, b >> half, b & mask
    low, cross, other, high = a0 * b0, a1 * b0, a0 * b1, a1 * b1
    middle = cross + (low >> half)
    carried = (middle & mask) + other
    return high + (middle >> half) + (carried >> half), (carried << half) | (low & mask)


@compiled
def _nearest(digits: Word, power: int, table: Uint64s) -> tuple[Word, bool]:
    """Return the bits of the float64 nearest to digits * 10^power > 0, and whether it is sure.

    D. Lemire, "Number parsing at a gigabyte per second" (2021), section 5.
    """
    unsure = (np.uint64(0), False)
    if not _FIRST_POWER <= power <= _LAST_POWER:
        return unsure
    zeros, scaled = 0, digits
    for step in (32, 16, 8, 4, 2, 1):
        if not scaled >> np.uint64(64 - step):
            scaled <<= np.uint64(step)
            zeros += step
    place = power - _FIRST_POWER
    high, low = _product(scaled, table[2 * place])
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):
        more, _ = _product(scaled, table[2 * place + 1])
        low += more
        if low < more:
            high += np.uint64(1)
    if low == ~np.uint64(0) and not -27 <= power <= 55:
        return unsure
    upper = np.int64(high >> np.uint64(63))
    mantissa = high >> np.uint64(upper + 9)
    exponent = ((217_706 * power) >> 16) + 63 + upper - zeros + 1023
    if exponent <= 0:
        return unsure
    halfway = mantissa << np.uint64(upper + 9) == high
    if low <= np.uint64(1) and -4 <= power <= 23 and mantissa & np.uint64(3) == 1 and halfway:
        mantissa &= ~np.uint64(1)
    mantissa = (mantissa + (mantissa & np.uint64(1))) >> np.uint64(1)
    if mantissa >= np.uint64(1 << 53):
        mantissa = np.uint64(1 << 52)
        exponent += 1
    if exponent >= 2047:
        return unsure
    mantissa &= ~np.uint64(1 << 52)
    return mantissa | (np.uint64(exponent) << np.uint64(52)), True


@compiled
def _digits(body: Bytes, at: int, count: int) -> Any:
    """Return a number of so many digits, -1 if one of them is none."""
    found = np.int64(0)
    for place in range(at, at + count):
        digit = np.int64(body[place]) - 48
        if not 0 <= digit <= 9:
            return -1
        found = 10 * found + digit
    return found


@compiled
def _instant(body: Bytes, at: int, end: int) -> tuple[int, bool]:
    """Return the microseconds of `YYYY-MM-DDThh:mm:ss[.ffffff](Z|+hh:mm|-hh:mm)`, if it is that."""
    wrong = (0, False)
    if end - at < 20 or body[at + 4] != 45 or body[at + 7] != 45 or body[at + 10] != 84:
        return wrong
    if body[at + 13] != 58 or body[at + 16] != 58:
        return wrong
    year, month, day = _digits(body, at, 4), _digits(body, at + 5, 2), _digits(body, at + 8, 2)
    hour, minute = _digits(body, at + 11, 2), _digits(body, at + 14, 2)
    second = _digits(body, at + 17, 2)
    if year < 1 or not 1 <= month <= 12 or day < 1:
        return wrong
    if not 0 <= hour <= 23 or not 0 <= minute <= 59 or not 0 <= second <= 59:
        return wrong
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        last = 29 if leap else 28
    else:
        last = 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31
    if day > last:
        return wrong
    at += 19
    micros: Any = 0
    if body[at] == 46:
        at += 1
        count = 0
        while at < end and count < 6 and 48 <= body[at] <= 57:
            micros = 10 * micros + np.int64(body[at]) - 48
            at += 1
            count += 1
        if count == 0:
            return wrong
        while at < end and 48 <= body[at] <= 57:  # finer than a microsecond: cut off
            at += 1
        for _ in range(6 - count):
            micros *= 10
    shift = 0
    if end - at == 1 and body[at] == 90:
        shift = 0
    elif end - at == 6 and (body[at] == 43 or body[at] == 45) and body[at + 3] == 58:
        hours, minutes = _digits(body, at + 1, 2), _digits(body, at + 4, 2)
        if not 0 <= hours <= 23 or not 0 <= minutes <= 59:
            return wrong
        shift = 60 * hours + minutes
        if body[at] == 45:
            shift = -shift
    else:
        return wrong
    # Days since 1970 in the Gregorian calendar, counted in years that begin in March.
    march = year - 1 if month <= 2 else year
    days = 365 * march + march // 4 - march // 100 + march // 400
    days += (153 * ((month + 9) % 12) + 2) // 5 + day - 719_469
    found = ((days * 24 + hour) * 60 + minute - shift) * 60 + second
    found = found * 1_000_000 + micros
    return found, _EARLIEST <= found <= _LATEST


@compiled
def _literal(body: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return (where it ends, 0 false, 1 true, 2 null), -1 if it is none of them."""
    if end - at >= 4:
        a, b, c, d = body[at], body[at + 1], body[at + 2], body[at + 3]
        if a == 116 and b == 114 and c == 117 and d == 101:
            return at + 4, 1
        if a == 110 and b == 117 and c == 108 and d == 108:
            return at + 4, 2
        if a == 102 and b == 97 and c == 108 and d == 115 and end - at > 4 and body[at + 4] == 101:
            return at + 5, 0
    return -1, 0


@compiled
def _scalar(body: Bytes, at: int, end: int) -> int:
    """Return where a plain text, number or literal ends, -1 if it is none."""
    if body[at] == 34:
        found = _text(body, at + 1, end)
        return found + 1 if found >= 0 else -1
    if body[at] == 45 or 48 <= body[at] <= 57:
        return int(_number(body, at, end)[0])
    return _literal(body, at, end)[0]


@compiled
def _skipped(body: Bytes, at: int, end: int) -> int:
    """Return where a value of any kind ends, -1 if it is not plain or too deep."""
    depth, objects = 0, 0  # bit i of `objects`: whether level i is an object
    while True:
        # A value begins at `at`.
        if at >= end:
            return -1
        opened = body[at] == 123 or body[at] == 91
        if opened:
            if depth == _DEEPEST:
                return -1
            is_object = body[at] == 123
            objects = objects | (1 << depth) if is_object else objects & ~(1 << depth)
            depth += 1
            at = _blank(body, at + 1, end)
            if at >= end:
                return -1
            if body[at] == (125 if is_object else 93):
                depth -= 1
                at += 1
                opened = False
        else:
            at = _scalar(body, at, end)
            if at < 0:
                return -1
        if not opened:
            # A value ended before `at`: close levels, or go on to the next member.
            while depth:
                at = _blank(body, at, end)
                if at >= end:
                    return -1
                if body[at] == 44:
                    at = _blank(body, at + 1, end)
                    break
                if body[at] != (125 if (objects >> (depth - 1)) & 1 else 93):
                    return -1
                depth -= 1
                at += 1
            if depth == 0:
                return at
        if (objects >> (depth - 1)) & 1:
            if at >= end or body[at] != 34:
                return -1
            at = _text(body, at + 1, end)
            if at < 0:
                return -1
            at = _blank(body, at + 1, end)
            if at >= end or body[at] != 58:
                return -1
            at = _blank(body, at + 1, end)


@compiled
def _named(body: Bytes, start: int, end: int, names: Bytes, ends: Any, name: int) -> int:
    """Return where the quotation mark is that ends a name, -1 if another text begins at `start`."""
    begin = ends[name - 1] if name else 0
    length = ends[name] - begin
    if start + length >= end or body[start + length] != 34:
        return -1
    for place in range(length):
        if body[start + place] != names[begin + place]:
            return -1
    return int(start + length)


@compiled
def _is_like(body: Bytes, at: int, end: int, sums: Any) -> bool:
    """Return whether a key may be a misspelling: it is not ASCII, or has the sum of a name."""
    found = np.int64(0)
    while at < end:
        letter = body[at]
        if letter >= 128:
            return True
        found += _WEIGHT[letter]
        at += 1
    is_like = False
    for field in range(len(sums)):
        is_like |= sums[field] == found
    return is_like


@compiled
def _value(body: Bytes, at: int, end: int, kind: int, table: Uint64s) -> tuple[int, Any, int]:
    """Return (where the value at `at` ends, its word, its length); -1 if it is not plain."""
    wrong = (-1, 0, 0)
    if kind in (STRING, TIMESTAMP):
        if body[at] != 34:
            return wrong
        found = _text(body, at + 1, end)
        if found < 0:
            return wrong
        if kind == STRING:
            return found + 1, at + 1, found - at - 1
        instant, sure = _instant(body, at + 1, found)
        return (found + 1, instant, 0) if sure else wrong
    if kind == BOOLEAN:
        found, said = _literal(body, at, end)
        return (found, said, 0) if said < 2 else wrong
    found, negative, digits, power, whole = _number(body, at, end)
    if found < 0:
        return wrong
    if kind == INTEGER:
        if digits == np.uint64(0):
            power = 0
        while power < 0 and digits % np.uint64(10) == np.uint64(0):
            digits //= np.uint64(10)
            power += 1
        if power != 0 or digits >= np.uint64(1 << 63):
            return wrong
        word = np.int64(digits)
        return found, -word if negative else word, 0
    if whole and (digits > np.uint64(1 << 53) or (negative and digits == np.uint64(0))):
        return wrong
    bits, sure = np.uint64(0), True
    if digits:
        bits, sure = _nearest(digits, power, table)
    if negative:
        bits |= np.uint64(1) << np.uint64(63)
    return (found, np.int64(bits), 0) if sure else wrong


_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_WHERE = types.Array(types.int64, 1, "A", readonly=True)
_INTS = types.Array(types.int64, 1, "C", readonly=True)
_TABLE = types.Array(types.uint64, 2, "C", readonly=True)
_WORDS, _MARKS = types.Array(types.int64, 2, "C"), types.Array(types.uint8, 2, "C")
_FLAGS = types.Array(types.boolean, 1, "C")


@compiled_for(
    types.void, _BYTES, _WHERE, _WHERE, _BYTES, _INTS, _INTS, _INTS, _INTS, _TABLE, _WORDS, _WORDS,
    _MARKS, _FLAGS, types.int64, types.int64,
)  # fmt: skip
def parsed(
    body: Bytes, starts: Int64s, ends: Int64s, names: Bytes, name_ends: Int64s, kinds: Int64s,
    allowed: Int64s, sums: Int64s, table: Uint64s, words: Int64s, lengths: Int64s, said: Bytes,
    plain: npt.NDArray[np.bool_], first: int, stop: int,
) -> None:  # fmt: skip
    """Read the payloads `body[starts[i]:ends[i]]`, first <= i < stop, into columns.

    `plain[i]` says whether it worked.

    `names[name_ends[f - 1]:name_ends[f]]` is the name of field f, `kinds[f]` what it stands for,
    and `allowed[f]` is 0 where it must have a value, 1 where it may be missing, 2 where it may also
    be null. `words[f, i]` is a number, the bits of one, microseconds, or where a text begins, with
    `lengths[f, i]` bytes; `said[f, i]` is 0 where there is none, 1 a value, 2 null. `table` is
    `powers()`. `sums` are the `letters` of the fields that may be missing: a payload that lacks one
    and has a key like a name is left to the other decoder.
    """
    text, listed, listed_ends, five = items(body), items(names), items(name_ends), items(table)
    fields = len(kinds)
    guesses = np.full(_GUESSES, -1, np.int64)
    for row in range(first, stop):
        end = ends[row]
        plain[row] = False
        for field in range(fields):
            said[field, row] = 0
        at = _blank(text, starts[row], end)
        if at >= end or text[at] != 123:
            continue
        at = _blank(text, at + 1, end)
        member, closed, is_like = 0, False, False
        if at < end and text[at] == 125:
            closed = True
            at += 1
        while not closed:
            if at >= end or text[at] != 34:
                break
            start = at + 1
            place = min(member, _GUESSES - 1)
            field = guesses[place]
            stop = _named(text, start, end, listed, listed_ends, field) if field >= 0 else -1
            if stop < 0:
                field = -1
                for other in range(fields):
                    found = _named(text, start, end, listed, listed_ends, other)
                    if found >= 0:
                        field, stop = other, found
                guesses[place] = field
            if field < 0:
                stop = _text(text, start, end)
                if stop < 0:
                    break
                is_like = is_like or _is_like(text, start, stop, sums)
            at = _blank(text, stop + 1, end)
            if at >= end or text[at] != 58:
                break
            at = _blank(text, at + 1, end)
            if at >= end:
                break
            if field < 0:
                at = _skipped(text, at, end)
            elif kinds[field] == FORMER:
                break
            elif text[at] == 110 and allowed[field] == 2:
                at = _literal(text, at, end)[0]
                said[field, row] = 2
            else:
                said[field, row] = 1
                at, word, length = _value(text, at, end, kinds[field], five)
                words[field, row], lengths[field, row] = word, length
            if at < 0:
                break
            at = _blank(text, at, end)
            if at >= end:
                break
            if text[at] == 125:
                closed = True
                at += 1
            elif text[at] == 44:
                at = _blank(text, at + 1, end)
            else:
                break
            member += 1
        if not closed or _blank(text, at, end) != end:
            continue
        complete = True
        for field in range(fields):
            has = said[field, row] != 0
            complete &= has or (allowed[field] != 0 and not (is_like and kinds[field] != FORMER))
        plain[row] = complete
