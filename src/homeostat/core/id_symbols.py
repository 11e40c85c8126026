"""The usual characters of ids, in their order: short ids are numbers that order alike."""

from __future__ import annotations

import string

__all__ = ["DIGIT_BITS", "SHORT", "SYMBOLS"]

SHORT = 10
"""Ids of so many usual characters are their own ties."""

_USUAL = sorted("#-./:_" + string.digits + string.ascii_letters)

SYMBOLS = tuple(_USUAL.index(chr(n)) + 1 if chr(n) in _USUAL else 0 for n in range(256))
"""The place of each byte among the usual characters, from 1 on; 0 for all others."""

DIGIT_BITS: tuple[int, ...] = tuple((10**digits - 1).bit_length() for digits in range(10))
"""How many bits hold a number of so many digits."""
