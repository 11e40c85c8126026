"""The usual characters of ids, in their order: short ids are numbers that order alike."""

from __future__ import annotations

import string

__all__ = ["SHORT", "SYMBOLS"]

SHORT = 10
"""Ids of so many usual characters are their own ties."""

_USUAL = sorted("#-./:_" + string.digits + string.ascii_letters)

SYMBOLS = tuple(_USUAL.index(chr(n)) + 1 if chr(n) in _USUAL else 0 for n in range(256))
"""The place of each byte among the usual characters, from 1 on; 0 for all others."""
