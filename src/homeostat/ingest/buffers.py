"""Loops over many strings in one buffer: where lines are, copies without gaps, columns of text.

Compiled (`core/compiled.py`). A string is `body[start:end]`, or where `start` lies beyond the
body's length, a piece of `extra`, which is thought of as following it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from homeostat.core.compiled import INTS, compiled, compiled_for, copied, items, pair

__all__ = ["BYTES", "BYTE_OUT", "gathered", "line_bounds", "views"]

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

BYTES = types.Array(types.uint8, 1, "C", readonly=True)
BYTE_OUT = types.Array(types.uint8, 1, "C")
_INT_OUT = types.Array(types.int64, 1, "C")
_VIEWS = types.Array(types.int32, 2, "C")

_INLINE = 12
"""A view holds a text of so many bytes itself."""


@compiled_for(pair(_INT_OUT, _INT_OUT), BYTES)
def line_bounds(body: Bytes) -> tuple[Int64s, Int64s]:
    """Return where the lines begin and end that hold more than white space, shape (n,) each."""
    text, size, lines = items(body), len(body), 1
    for at in range(size):
        lines += text[at] == 10
    starts, ends = np.empty(lines, np.int64), np.empty(lines, np.int64)
    found, at = 0, 0
    while at < size:
        start, first = at, at
        while first < size and (text[first] == 32 or 9 <= text[first] <= 13) and text[first] != 10:
            first += 1
        at = first
        while at < size and text[at] != 10:
            at += 1
        if at > first:
            starts[found], ends[found] = start, at
            found += 1
        at += 1
    return starts[:found].copy(), ends[:found].copy()


@compiled_for(BYTE_OUT, BYTES, types.Array(types.int64, 1, "A", readonly=True),
              types.Array(types.int64, 1, "A", readonly=True))  # fmt: skip
def gathered(body: Bytes, starts: Int64s, ends: Int64s) -> Bytes:
    """Return the strings one after the other."""
    size = 0
    for i in range(len(starts)):
        size += ends[i] - starts[i]
    out, at = np.empty(size, np.uint8), 0
    text, copy = items(body), items(out)
    for i in range(len(starts)):
        copied(copy, at, text, starts[i], ends[i] - starts[i])
        at += ends[i] - starts[i]
    return out


@compiled
def _word(body: Bytes, at: int, count: int) -> np.int32:
    """Return up to four bytes as a little-endian number of 32 bits."""
    found = np.uint32(0)
    for place in range(count):
        found |= np.uint32(body[at + place]) << np.uint32(8 * place)
    return np.int32(found)


@compiled_for(types.void, BYTES, BYTES, INTS, INTS, INTS, _VIEWS)
def views(
    body: Bytes, extra: Bytes, starts: Int64s, lengths: Int64s, rows: Int64s,
    out: npt.NDArray[np.int32],
) -> None:  # fmt: skip
    """Write Arrow's string views of some rows, shape (rows, 4): buffer 0 is body, 1 is extra.

    The layout is that of https://arrow.apache.org/docs/format/Columnar.html, "View layout".
    """
    near, far = items(body), items(extra)
    for place in range(len(rows)):
        start, length = starts[rows[place]], lengths[rows[place]]
        buffer, text = 0, near
        if start >= len(body):
            buffer, text, start = 1, far, start - len(body)
        out[place, 0] = length
        if length <= _INLINE:
            for piece in range(3):
                first = 4 * piece
                count = min(max(length - first, 0), 4)
                out[place, 1 + piece] = _word(text, start + first, count)
        else:
            out[place, 1] = _word(text, start, 4)
            out[place, 2], out[place, 3] = buffer, start
