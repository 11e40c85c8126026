"""Digests of event ids and of what events say, over columns.

Compiled (`core/compiled.py`). The digest of an id is BLAKE2b (RFC 7693) of its UTF-8 bytes,
as `core.ids.id_digest` has it, for it orders ties for good. That of a content only tells a repeated
event from another one under the same id, where a collision by design would win nothing: it is a
chain of multiplications.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from homeostat.core.compiled import compiled, compiled_for, items

__all__ = ["content_digests", "text_digests"]

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]
Word = Any
"""A number of 64 bits without a sign."""

_START = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    np.uint64,
)  # fmt: skip
_EIGHT_BYTES = np.uint64(0x01010008)
"""A digest of eight bytes, without a key, in one tree: the parameter block of RFC 7693."""

_ORDER = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    np.uint8,
)  # fmt: skip

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_NULL = np.uint64(0xA0761D6478BD642F)
_STRING = 0

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_MARKS = types.Array(types.uint8, 2, "C", readonly=True)
_INTS = types.Array(types.int64, 1, "C", readonly=True)
_TABLE = types.Array(types.int64, 2, "C", readonly=True)
_SALTS = types.Array(types.uint64, 1, "C", readonly=True)
_INT_OUT = types.Array(types.int64, 1, "C")


@compiled
def _turned(word: Word, by: int) -> Word:
    return (word >> np.uint64(by)) | (word << np.uint64(64 - by))


@compiled
def _mixed(a: Word, b: Word, c: Word, d: Word, x: Word, y: Word) -> tuple[Word, Word, Word, Word]:
    a = a + b + x
    d = _turned(d ^ a, 32)
    c = c + d
    b = _turned(b ^ c, 24)
    a = a + b + y
    d = _turned(d ^ a, 16)
    c = c + d
    b = _turned(b ^ c, 63)
    return a, b, c, d


@compiled
def _compress(state: Uint64s, block: Uint64s, count: int, last: bool) -> None:
    """Take one block of 128 bytes into the state; `count` bytes are then read."""
    a0, a1, a2, a3, a4, a5, a6, a7 = (
        state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7],
    )  # fmt: skip
    b0, b1, b2, b3 = _START[0], _START[1], _START[2], _START[3]
    b4, b5, b6, b7 = _START[4] ^ np.uint64(count), _START[5], _START[6], _START[7]
    if last:
        b6 = ~b6
    for turn in range(12):
        s = _ORDER[turn]
        a0, a4, b0, b4 = _mixed(a0, a4, b0, b4, block[s[0]], block[s[1]])
        a1, a5, b1, b5 = _mixed(a1, a5, b1, b5, block[s[2]], block[s[3]])
        a2, a6, b2, b6 = _mixed(a2, a6, b2, b6, block[s[4]], block[s[5]])
        a3, a7, b3, b7 = _mixed(a3, a7, b3, b7, block[s[6]], block[s[7]])
        a0, a5, b2, b7 = _mixed(a0, a5, b2, b7, block[s[8]], block[s[9]])
        a1, a6, b3, b4 = _mixed(a1, a6, b3, b4, block[s[10]], block[s[11]])
        a2, a7, b0, b5 = _mixed(a2, a7, b0, b5, block[s[12]], block[s[13]])
        a3, a4, b1, b6 = _mixed(a3, a4, b1, b6, block[s[14]], block[s[15]])
    state[0] ^= a0 ^ b0
    state[1] ^= a1 ^ b1
    state[2] ^= a2 ^ b2
    state[3] ^= a3 ^ b3
    state[4] ^= a4 ^ b4
    state[5] ^= a5 ^ b5
    state[6] ^= a6 ^ b6
    state[7] ^= a7 ^ b7


@compiled_for(types.void, _BYTES, _BYTES, _INTS, _INTS, _INT_OUT, types.int64, types.int64)
def text_digests(
    body: Bytes, extra: Bytes, starts: Int64s, lengths: Int64s, out: Int64s, first: int, stop: int
) -> None:
    """Write the digests of texts [first, stop), as `core.ids.id_digest` has them, to `out`.

    A text that starts beyond `body` is a piece of `extra`, which follows it.
    """
    near, far = items(body), items(extra)
    held, words = np.empty(8, np.uint64), np.empty(16, np.uint64)
    state, block, inside = items(held), items(words), items(words.view(np.uint8))
    for row in range(first, stop):
        at, left, text = starts[row], lengths[row], near
        if at >= len(body):
            at, text = at - len(body), far
        held[:] = _START
        state[0] ^= _EIGHT_BYTES
        count = 0
        while left > 128:
            for place in range(128):
                inside[place] = text[at + place]
            at, left, count = at + 128, left - 128, count + 128
            _compress(state, block, count, False)
        for place in range(left):
            inside[place] = text[at + place]
        for place in range(left, 128):
            inside[place] = 0
        _compress(state, block, count + left, True)
        found = np.uint64(0)
        for place in range(8):
            found = (found << np.uint64(8)) | ((state[0] >> np.uint64(8 * place)) & np.uint64(255))
        out[row] = np.int64(found)


@compiled
def _chained(digest: Word, word: Word) -> Word:
    digest = (digest ^ word) * _FACTOR
    digest ^= digest >> np.uint64(32)
    digest *= _STEP
    return digest ^ (digest >> np.uint64(29))


@compiled
def _text_chained(digest: Word, text: Bytes, at: int, length: int) -> Word:
    whole = length // 8
    for piece in range(whole):
        word = np.uint64(0)
        for place in range(8):
            word |= np.uint64(text[at + 8 * piece + place]) << np.uint64(8 * place)
        digest = _chained(digest, word)
    word = np.uint64(0)
    for place in range(length - 8 * whole):
        word |= np.uint64(text[at + 8 * whole + place]) << np.uint64(8 * place)
    return _chained(_chained(digest, word), np.uint64(length))


@compiled
def _same_text(one: Bytes, start: int, other: Bytes, begin: int, length: int) -> bool:
    same = True
    for place in range(length):
        same &= one[start + place] == other[begin + place]
    return same


@compiled_for(
    types.void, _BYTES, _BYTES, _TABLE, _TABLE, _MARKS, _INTS, _INTS, _SALTS, _TABLE, _BYTES,
    _INT_OUT, types.int64, types.int64,
)  # fmt: skip
def content_digests(
    body: Bytes, extra: Bytes, words: Int64s, lengths: Int64s, has: Bytes, kinds: Int64s,
    order: Int64s, salts: Uint64s, fillers: Int64s, filler_text: Bytes, out: Int64s,
    first: int, stop: int,
) -> None:  # fmt: skip
    """Write a digest of what each row of [first, stop) says to `out`.

    Fields are taken in `order`, each with a salt of its own. One that has the value of its filler
    is left out, so that an event has the same digest whether it says a default or not, and whether
    or not it was read before the field was there. `fillers[f]` is (0 none, 1 a value, 2 null;
    the word; the length).
    """
    near, far, defaults = items(body), items(extra), items(filler_text)
    for row in range(first, stop):
        digest = _STEP
        for field in order:
            word, length = words[field, row], lengths[field, row]
            kind, start, size = fillers[field, 0], fillers[field, 1], fillers[field, 2]
            if not has[field, row]:
                if kind != 2:
                    digest = _chained(_chained(digest, salts[field]), _NULL)
                continue
            if kinds[field] != _STRING:
                if kind != 1 or word != start:
                    digest = _chained(_chained(digest, salts[field]), np.uint64(word))
                continue
            text = near
            if word >= len(body):
                text, word = far, word - len(body)
            if kind == 1 and size == length and _same_text(text, word, defaults, start, length):
                continue
            digest = _text_chained(_chained(digest, salts[field]), text, word, length)
        out[row] = np.int64(digest)
