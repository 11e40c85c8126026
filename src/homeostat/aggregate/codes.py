"""Values of any kind as whole numbers below 2^62 that are equal where the values are.

A code is a hash, so the order of codes is as good as random: the least codes of a set are a
uniform sample of it. A code seen as the bits of a float64 is a finite number, so codes travel
wherever values do, with NaN for a missing one.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.aggregate.arrays import Floats, Ints

__all__ = ["CODES", "codes_of", "mixed", "text_code"]

CODES = 2**62
"""Codes are below this."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def mixed(words: Ints) -> Ints:
    """Return the hashes of int64 words, from 0 to 2^62 - 1 (SplitMix64).

    >>> mixed(np.array([0, 1])).tolist()
    [4073552104164651883, 2612804094800205616]
    """
    bits: npt.NDArray[np.uint64] = words.view(np.uint64) + _STEP
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return ((bits ^ (bits >> np.uint64(31))) >> np.uint64(2)).view(np.int64)


def text_code(text: str) -> int:
    """Return the hash of a text, from 0 to 2^62 - 1 (BLAKE2b of its UTF-8 bytes).

    >>> text_code("a") == text_code("a") != text_code("b")
    True
    """
    raw = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(raw, "big") >> 2


def codes_of(column: pl.Series) -> Floats:
    """Return the code of each value as the bits of a float64; a missing value has any code.

    >>> found = codes_of(pl.Series(["a", "b", "a", None]))
    >>> bool(found[0] == found[2] != found[1])
    True
    """
    if column.dtype == pl.String:
        known: dict[str, int] = {}
        found = []
        for text in column.fill_null("").to_list():
            code = known.get(text)
            if code is None:
                code = known[text] = text_code(text)
            found.append(code)
        return np.array(found, np.int64).view(np.float64)
    if column.dtype.is_float():
        numbers = column.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0
        return mixed(numbers.view(np.int64)).view(np.float64)
    if column.dtype == pl.Datetime:
        column = column.dt.epoch("us")
    return mixed(column.cast(pl.Int64).fill_null(0).to_numpy()).view(np.float64)
