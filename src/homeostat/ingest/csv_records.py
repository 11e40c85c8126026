"""Loops that find the records of a CSV text, and those that are none (RFC 4180).

Compiled (`core/compiled.py`). A line ends with a line feed, or a return before it; in a text whose
lines end with a return alone, with that. A cell in quotes may hold separators, line breaks and
doubled quotes; any other quote is a fault. A record with a fault ends with the line on which the
cell at fault begins, so that a quote that was never closed takes no other record with it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from homeostat.core.compiled import compiled, compiled_for, items, pair
from homeostat.ingest.buffers import BYTES

__all__ = ["GOOD", "RAGGED", "STRAY", "UNCLOSED", "records"]

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

GOOD, RAGGED, STRAY, UNCLOSED = range(4)
"""What a record is: whole, with cells too many or too few, with a quote inside of a cell, or with
one that is not closed."""

_QUOTE, _LINE, _RETURN, _BLANK = 34, 10, 13, 32


@compiled
def _line_end(body: Bytes, at: int, size: int, line: int) -> int:
    """Return where the line from `at` ends, after its line break, -1 if it has none."""
    while at < size:
        if body[at] == line:
            return at + 1
        at += 1
    return -1


@compiled
def _record(
    body: Bytes, at: int, size: int, separator: int, ended: bool, line: int
) -> tuple[int, int, int, int]:
    """Return (where a record ends, how many cells, what it is, where the cell at fault begins).

    It ends at -1 where that cannot be told yet, as the text goes on.
    """
    cells, cell = 1, at
    while True:
        if at < size and body[at] == _QUOTE and at == cell:
            at += 1
            while True:
                while at < size and body[at] != _QUOTE:
                    at += 1
                if at >= size:
                    return (size if ended else -1), cells, UNCLOSED, cell
                if at + 1 < size and body[at + 1] == _QUOTE:
                    at += 2
                    continue
                break
            at += 1
            if line == _LINE and at < size and body[at] == _RETURN:
                at += 1
                if at < size and body[at] != _LINE:
                    return at, cells, STRAY, cell
            if at < size and body[at] != line and body[at] != separator:
                return at, cells, STRAY, cell
        while at < size and body[at] != separator and body[at] != line and body[at] != _QUOTE:
            at += 1
        if at >= size:
            return (size if ended else -1), cells, GOOD, cell
        if body[at] == _QUOTE:
            return at, cells, STRAY, cell
        at += 1
        if body[at - 1] == line:
            return at, cells, GOOD, cell
        cells, cell = cells + 1, at


@compiled_for(
    pair(types.Array(types.int64, 2, "C"), types.int64),
    BYTES, types.int64, types.int64, types.boolean, types.int64,
)  # fmt: skip
def records(text: Bytes, separator: int, cells: int, ended: bool, line: int) -> tuple[Int64s, int]:
    """Return the records at the front of a text, and how many bytes they take.

    Args:
        text: uint8, from the beginning of a record on.
        separator: the byte between cells.
        cells: how many a record has.
        ended: whether nothing follows; otherwise what may go on is left.
        line: the byte that ends a line, 10 or 13.

    Returns:
        int64 of shape (n, 4): where each record begins and ends, what it is, and its cells. Lines
        with nothing but blanks are no records.
    """
    body, size, lines = items(text), len(text), 1
    for place in range(size):
        lines += body[place] == line
    found = np.empty((lines, 4), np.int64)
    count, at = 0, 0
    while at < size:
        if line == _RETURN and body[at] == _LINE:
            at += 1  # of a line break of both
            continue
        first = at
        while first < size and (
            body[first] == _BLANK or (body[first] == _RETURN and line == _LINE)
        ):
            first += 1
        if first >= size:
            at = size if ended else at
            break
        if body[first] == line:
            at = first + 1
            continue
        end, number, kind, cell = _record(body, at, size, separator, ended, line)
        if end < 0:
            break
        if kind == GOOD and number != cells:
            kind = RAGGED
        if kind != GOOD:
            if kind != RAGGED:
                end = _line_end(body, cell, size, line)
                if end < 0 and not ended:
                    break
                end = size if end < 0 else end
            first_end = begin = _line_end(body, at, size, line)
            while 0 < begin < end:
                # a record of its own on a later line: the first line alone is at fault
                following = _line_end(body, begin, size, line)
                following = size if following < 0 else following
                stop, inner, verdict, _ = _record(body, begin, following, separator, True, line)
                if verdict == GOOD and inner == cells and stop == following:
                    end = first_end
                    break
                begin = following
        found[count, 0], found[count, 1] = at, end
        found[count, 2], found[count, 3] = kind, number
        count, at = count + 1, end
    return found[:count].copy(), at
