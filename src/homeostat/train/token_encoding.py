"""Texts as weights of their tokens, as scikit-learn's vectorizers make them, without them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import fsum, sqrt

import numpy as np

from homeostat.train.encoding import Floats, Texts
from homeostat.train.murmur import bucket

__all__ = ["GROUPS", "HashedTokenEncoding", "TokenEncoding", "tokens"]

GROUPS = (2, 4)
"""The shortest and the longest group of characters."""

_WORDS = re.compile(r"\b\w\w+\b")
_SPACES = re.compile(r"\s\s+")


def tokens(text: str, of: str) -> list[str]:
    """Return a text's words in lower case, or the groups of characters inside its words.

    >>> tokens("Engine 2 on fire", "words")
    ['engine', 'on', 'fire']
    >>> tokens("fire", "characters")[:5]
    [' f', 'fi', 'ir', 're', 'e ']
    """
    lower = text.lower()
    if of == "words":
        return _WORDS.findall(lower)
    return [group for word in _SPACES.sub(" ", lower).split() for group in _groups(f" {word} ")]


def _groups(word: str) -> Iterator[str]:
    shortest, longest = GROUPS
    for size in range(shortest, longest + 1):
        yield from (word[at : at + size] for at in range(max(1, len(word) - size + 1)))
        if size >= len(word):  # a short word counts once
            return


@dataclass(frozen=True)
class TokenEncoding:
    """The tokens of a vocabulary, counted, times their `weights`; a row has length 1.

    `width` columns, of which those beyond the vocabulary are 0.
    """

    vocabulary: tuple[str, ...] = field(repr=False)
    weights: tuple[float, ...] = field(repr=False)
    width: int
    of: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))
        object.__setattr__(self, "weights", tuple(self.weights))

    @property
    def marks(self) -> tuple[bool, ...]:
        """Columns of numbers."""
        return (False,) * self.width

    @cached_property
    def _places(self) -> dict[str, int]:
        return {token: place for place, token in enumerate(self.vocabulary)}

    def matrix(self, texts: Texts) -> Floats:
        """Return the weights of n texts, float64 (n, width)."""
        return _rows(texts, self.width, self._row)

    def _row(self, text: str) -> Mapping[int, float]:
        counts = Counter(tokens(text, self.of))
        places = self._places
        return {
            places[token]: count * self.weights[places[token]]
            for token, count in counts.items()
            if token in places
        }


@dataclass(frozen=True)
class HashedTokenEncoding:
    """The tokens of a text, counted in the bucket of their hash; a row has length 1."""

    width: int
    of: str

    @property
    def marks(self) -> tuple[bool, ...]:
        """Columns of numbers."""
        return (False,) * self.width

    def matrix(self, texts: Texts) -> Floats:
        """Return the counts of n texts, float64 (n, width)."""
        return _rows(texts, self.width, self._row)

    def _row(self, text: str) -> Mapping[int, float]:
        row: dict[int, float] = {}
        for token in tokens(text, self.of):
            place, sign = bucket(token, self.width)
            row[place] = row.get(place, 0.0) + sign
        return row


def _rows(texts: Texts, width: int, weigh: Callable[[str], Mapping[int, float]]) -> Floats:
    """Return one row per text, each divided by its length; equal texts are weighed once."""
    matrix = np.zeros((len(texts), width))
    distinct: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        if text:
            distinct.setdefault(text, []).append(row)
    for text, rows in distinct.items():
        weights = weigh(text)
        length = sqrt(fsum(weight * weight for weight in weights.values()))
        if length > 0:
            line = np.zeros(width)
            for place, weight in weights.items():
                line[place] = weight / length
            matrix[rows] = line
    return matrix
