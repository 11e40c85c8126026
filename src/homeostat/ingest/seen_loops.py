"""The loops of the index of seen ids: its filter, its binary searches, its verdicts.

Compiled (`core/compiled.py`). Entries are ordered by (tie, offset). Loops call no function of
another file, because what is compiled is kept until this file changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from homeostat.core.compiled import INT_OUT, INTS, compiled, compiled_for, given, written

__all__ = ["found", "gathered", "held", "judged", "marked", "ordered", "placed", "until"]

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Int8s = npt.NDArray[np.int8]

_ONE, _SIX, _WORD = np.uint64(1), np.uint64(6), np.uint64(63)
_HALF, _SHARED, _WIDE = np.uint64(32), np.uint64(4), np.uint64(8)
_TOP = np.uint64(2**63)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_NONE = np.uint64(0)

_AHEAD = 16
"""Blocks that are asked for at once, as memory is slow to answer."""

_CROWDED = 64
"""Entries of one bucket beyond which ordering by buckets would be slow."""

_BEFORE, _OWN = 1, 2
_FRESH, _DUPLICATE, _CONFLICT = 0, 1, 2


@compiled
def _block(tie: np.uint64, blocks: np.uint64) -> Any:
    """Return the first word of a tie's block. Blocks follow the order of the ties."""
    return ((((tie << _SHARED) >> _HALF) * blocks) >> _HALF) * _WIDE


@compiled_for(types.uint64, written("uint64", 1), INTS, written("boolean", 1))
def marked(words: Words, ties: Ints, hits: Bools) -> Any:
    """Write whether each tie may have been marked before, and mark it.

    A tie has one bit in each of the eight words of its block, which its bits below the 4 of its
    segment choose: ascending ties walk through the memory once. The result means nothing; without
    one, reading ahead would be left out as useless.
    """
    blocks, touched = np.uint64(len(words) // 8), _NONE
    for i in range(len(ties)):
        if i % _AHEAD == 0:
            for ahead in range(i, min(i + _AHEAD, len(ties))):
                touched ^= words[_block(np.uint64(ties[ahead]) ^ _TOP, blocks)]
        tie = np.uint64(ties[i]) ^ _TOP
        place = _block(tie, blocks)
        mixed = (tie ^ (tie >> _HALF)) * _MIX
        mixed ^= mixed >> _HALF
        missing = _NONE
        for word in range(8):
            bit = _ONE << (mixed & _WORD)
            mixed >>= _SIX
            there = words[place + np.uint64(word)]
            missing |= bit & ~there
            words[place + np.uint64(word)] = there | bit
        hits[i] = missing == _NONE
    return touched


@compiled_for(types.boolean, given("uint64", 1), types.int64)
def held(words: Words, tie: int) -> bool:
    """Return whether a tie may have been marked."""
    bits = np.uint64(tie) ^ _TOP
    place = _block(bits, np.uint64(len(words) // 8))
    mixed = (bits ^ (bits >> _HALF)) * _MIX
    mixed ^= mixed >> _HALF
    missing = _NONE
    for word in range(8):
        bit = _ONE << (mixed & _WORD)
        mixed >>= _SIX
        missing |= bit & ~words[place + np.uint64(word)]
    return bool(missing == _NONE)


@compiled_for(types.boolean, INTS, INTS, INT_OUT)
def ordered(ties: Ints, offsets: Ints, order: Ints) -> bool:
    """Write the order of (tie, offset), stable, by buckets that fit ties as even as digests are.

    Returns False, with nothing of use written, if too many ties are close to one another. Where
    `ties` are sorted pieces, every pass walks through memory piece by piece.
    """
    count = len(ties)
    least, most = ties[0], ties[0]
    for i in range(1, count):
        least, most = min(least, ties[i]), max(most, ties[i])
    low, span = np.uint64(least), np.uint64(most) - np.uint64(least)
    shift = _NONE
    while (span >> shift) > np.uint64(count // 2):
        shift += _ONE
    starts = np.zeros(np.int64(span >> shift) + 2, np.int64)
    for i in range(count):
        starts[np.int64((np.uint64(ties[i]) - low) >> shift) + 1] += 1
    for bucket in range(1, len(starts)):
        if starts[bucket] > _CROWDED:
            return False
        starts[bucket] += starts[bucket - 1]
    for i in range(count):
        into = np.int64((np.uint64(ties[i]) - low) >> shift)
        order[starts[into]] = i
        starts[into] += 1
    for bucket in range(len(starts) - 1):
        begin, end = starts[bucket - 1] if bucket else np.int64(0), starts[bucket]
        for at in range(begin + 1, end):
            row = order[at]
            tie, offset = ties[row], offsets[row]
            hole = at
            while hole > begin:
                other = order[hole - 1]
                if ties[other] < tie or (ties[other] == tie and offsets[other] <= offset):
                    break
                order[hole] = other
                hole -= 1
            order[hole] = row
    return True


@compiled_for(types.void, given("int64", 2), INTS, written("int64", 2), types.int64)
def gathered(entries: Ints, order: Ints, out: Ints, at: int) -> None:
    """Copy the columns that `order` names behind the first `at` columns of `out`."""
    for row in range(4):
        for i in range(len(order)):
            out[row, at + i] = entries[row, order[i]]


@compiled
def _lower(ties: Ints, offsets: Ints, tie: int, offset: int) -> int:
    """Return the first place whose (tie, offset) is not before the one given."""
    low, high = 0, len(ties)
    while low < high:
        middle = (low + high) >> 1
        if ties[middle] < tie or (ties[middle] == tie and offsets[middle] < offset):
            low = middle + 1
        else:
            high = middle
    return low


@compiled_for(types.int64, INTS, INTS, types.int64, types.int64)
def until(ties: Ints, offsets: Ints, tie: int, offset: int) -> int:
    """Return how many entries are at most (tie, offset)."""
    place = _lower(ties, offsets, tie, offset)
    while place < len(ties) and ties[place] == tie and offsets[place] == offset:
        place += 1
    return place


@compiled_for(types.void, INTS, INTS, INTS, INTS, INT_OUT)
def placed(first_ties: Ints, first_offsets: Ints, ties: Ints, offsets: Ints, chunk: Ints) -> None:
    """Write the last chunk that begins at most at each (tie, offset); the first for what is before.

    Args:
        first_ties, first_offsets: where each chunk begins, int64 of shape (chunks,).
        ties, offsets: what is looked for, int64 of shape (n,).
        chunk: the result, int64 of shape (n,).
    """
    for i in range(len(ties)):
        place = _lower(first_ties, first_offsets, ties[i], offsets[i])
        if place < len(first_ties):
            if first_ties[place] != ties[i] or first_offsets[place] != offsets[i]:
                place -= 1
        else:
            place -= 1
        chunk[i] = max(place, 0)


@compiled_for(types.void, given("int64", 2), INTS, INTS, INTS, written("int64", 2))
def found(chunk: Ints, ties: Ints, offsets: Ints, rows: Ints, best: Ints) -> None:
    """Note what a chunk holds of the rows.

    Args:
        chunk: ties, offsets, contents and known times, int64 of shape (4, entries).
        ties, offsets: of the rows that are looked for, int64 of shape (n,).
        rows: which of them to look for in this chunk, int64.
        best: by row whether there is an entry before it (1) or its own (2), and offset, content
            and known time of the newest before it, int64 of shape (n, 4).
    """
    there, at = chunk[0], chunk[1]
    for i in range(len(rows)):
        row = rows[i]
        tie, offset = ties[row], offsets[row]
        place = _lower(there, at, tie, offset)
        if place < len(there) and there[place] == tie and at[place] == offset:
            best[row, 0] |= _OWN
        place -= 1
        if place < 0 or there[place] != tie:
            continue
        if best[row, 0] & _BEFORE and best[row, 1] >= at[place]:
            continue
        best[row, 0] |= _BEFORE
        best[row, 1], best[row, 2], best[row, 3] = at[place], chunk[2, place], chunk[3, place]


@compiled_for(
    types.void, given("int64", 2), INTS, given("int64", 2), types.int64, written("int8", 1),
    INT_OUT, written("boolean", 1),
)  # fmt: skip
def judged(
    rows: Ints, slots: Ints, best: Ints, horizon: int, verdicts: Int8s, remembered: Ints, new: Bools
) -> None:
    """Judge rows that are ordered by (tie, offset).

    Args:
        rows: ties, offsets, contents and known times, int64 of shape (4, n).
        slots: the place of each row in `best`, -1 where nothing can be remembered.
        best: what `found` noted.
        horizon: microseconds, negative for no end.
        verdicts, remembered: the result.
        new: which rows are to be remembered.
    """
    is_held, held = False, 0
    for i in range(rows.shape[1]):
        if i == 0 or rows[0, i] != rows[0, i - 1]:
            is_held = False
        slot = slots[i]
        is_own, is_before = False, is_held
        content, known = rows[2, held], rows[3, held]
        if slot >= 0:
            is_own = (best[slot, 0] & _OWN) != 0
            if best[slot, 0] & _BEFORE and (not is_held or best[slot, 1] > rows[1, held]):
                is_before, content, known = True, best[slot, 2], best[slot, 3]
        is_fresh = is_own or not is_before or (horizon >= 0 and rows[3, i] - known > horizon)
        new[i] = is_fresh and not is_own
        if is_fresh:
            verdicts[i], remembered[i] = _FRESH, 0
            is_held, held = True, i
        else:
            verdicts[i] = _DUPLICATE if content == rows[2, i] else _CONFLICT
            remembered[i] = content
