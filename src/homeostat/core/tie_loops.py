"""The loop over many event ids that says how they order (`core.ids.event_tie`).

Compiled (`core/compiled.py`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from homeostat.core.compiled import compiled_for, given, written
from homeostat.core.id_symbols import DIGIT_BITS, SHORT, SYMBOLS

__all__ = ["text_ties"]

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

_BYTES, _INTS, _INT_OUT = given("uint8", 1), given("int64", 1), written("int64", 1)
_PLACES = np.array(SYMBOLS, np.int64)
_RADIX, _SHORT = max(SYMBOLS) + 1, SHORT
_BITS = np.array(DIGIT_BITS, np.uint64)
_START, _FACTOR = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


@compiled_for(types.void, _BYTES, _BYTES, _INTS, _INTS, _INTS, _INT_OUT, types.int64, types.int64)
def text_ties(
    body: Bytes, extra: Bytes, starts: Int64s, lengths: Int64s, digests: Int64s, out: Int64s,
    first: int, stop: int,
) -> None:  # fmt: skip
    """Write the ties of texts [first, stop) to `out`; `digests` are those of `id_digest`.

    A text that starts beyond `body` is a piece of `extra`, which follows it.
    """
    for row in range(first, stop):
        at, length, text = starts[row], lengths[row], body
        if at >= len(body):
            at, text = at - len(body), extra
        is_short, code = length <= _SHORT, 0
        if is_short:
            for place in range(_SHORT):
                code *= _RADIX
                if place < length:
                    symbol = _PLACES[text[at + place]]
                    is_short &= symbol > 0
                    code += symbol
        if is_short:
            out[row] = code
            continue
        digits, end = 0, at + length
        while digits < 9 and digits < length and 48 <= text[end - 1 - digits] <= 57:
            digits += 1
        if digits == 0:
            out[row] = digests[row]
            continue
        number = np.int64(0)
        for place in range(end - digits, end):
            number = np.int64(10 * number + np.int64(text[place]) - 48)
        head = _START
        for place in range(at, end - digits):
            head = (head ^ np.uint64(text[place])) * _FACTOR
        head = (head ^ np.uint64(length)) * _FACTOR
        bits = _BITS[digits]
        head = (head >> (bits + np.uint64(1))) << bits
        out[row] = np.int64(np.uint64(1 << 63) | head | np.uint64(number))
