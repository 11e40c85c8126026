"""Categories as numbers: learned from the training rows, kept as plain data, applied at serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import HomeostatError
from homeostat.train.murmur import bucket

__all__ = [
    "BucketEncoding",
    "CategoryEncoding",
    "Encoding",
    "FeaturesRefused",
    "JoinedEncoding",
    "OneHotEncoding",
    "Texts",
    "VectorEncoding",
]

Floats = NDArray[np.float64]
Texts = Sequence[str | None]


class FeaturesRefused(HomeostatError, ValueError):
    """Features that the model was not made for."""


class Encoding(Protocol):
    """A text feature as columns; a text's numbers never depend on the texts beside it."""

    @property
    def marks(self) -> tuple[bool, ...]:
        """One entry per column: whether it holds 0 and 1 only, to be left as it is."""
        ...

    def matrix(self, texts: Texts) -> Floats:
        """Return the numbers of n texts, float64 (n, columns); None is missing."""
        ...


@dataclass(frozen=True, slots=True)
class CategoryEncoding:
    """The number of each category, of a missing one, and of one that training never saw.

    >>> CategoryEncoding({"EWR": 0.2, "JFK": 0.1}, missing=0.3, unseen=0.15).code("LGA")
    0.15
    """

    codes: Mapping[str, float]
    missing: float
    unseen: float

    @property
    def marks(self) -> tuple[bool, ...]:
        """One column of numbers."""
        return (False,)

    def code(self, category: str | None) -> float:
        """Return the number of one category; None is missing."""
        return self.missing if category is None else self.codes.get(category, self.unseen)

    def column(self, categories: Texts) -> Floats:
        """Return the numbers of n categories, float64[n]."""
        return np.fromiter(map(self.code, categories), np.float64, len(categories))

    def matrix(self, texts: Texts) -> Floats:
        """Return the numbers of n categories, float64 (n, 1)."""
        return self.column(texts)[:, None]


@dataclass(frozen=True)
class OneHotEncoding:
    """A mark for each of `categories`, then one for all others, then one for missing.

    >>> OneHotEncoding(("AA", "DL")).matrix(["DL", None, "ZZ"]).tolist()
    [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]
    """

    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", tuple(self.categories))

    @property
    def marks(self) -> tuple[bool, ...]:
        """All columns are marks."""
        return (True,) * (len(self.categories) + 2)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {category: place for place, category in enumerate(self.categories)}

    def matrix(self, texts: Texts) -> Floats:
        """Return the marks of n categories, float64 (n, categories + 2)."""
        other = len(self.categories)
        places = [other + 1 if t is None else self._places.get(t, other) for t in texts]
        return _marked(places, other + 2)


@dataclass(frozen=True, slots=True)
class BucketEncoding:
    """One mark in the bucket of a category's hash, as scikit-learn's FeatureHasher puts it.

    >>> BucketEncoding(3).matrix(["AA", None]).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """

    buckets: int

    @property
    def marks(self) -> tuple[bool, ...]:
        """All columns are marks."""
        return (True,) * self.buckets

    def matrix(self, texts: Texts) -> Floats:
        """Return the marks of n categories, float64 (n, buckets)."""
        known: dict[str, int] = {t: bucket(t, self.buckets)[0] for t in {*texts} if t is not None}
        places = [self.buckets if t is None else known[t] for t in texts]
        return _marked(places, self.buckets + 1)[:, :-1]


@dataclass(frozen=True)
class VectorEncoding:
    """A place in space for each category, for missing, and for one that training never saw.

    >>> VectorEncoding({"AA": (0.5, 1.0)}, missing=(0.0, 0.0), unseen=(9.0, 9.0)).matrix(["AA"])
    array([[0.5, 1. ]])
    """

    vectors: Mapping[str, tuple[float, ...]]
    missing: tuple[float, ...]
    unseen: tuple[float, ...]

    def __post_init__(self) -> None:
        vectors = {category: tuple(vector) for category, vector in self.vectors.items()}
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "missing", tuple(self.missing))
        object.__setattr__(self, "unseen", tuple(self.unseen))

    @property
    def marks(self) -> tuple[bool, ...]:
        """Columns of numbers, one per dimension."""
        return (False,) * len(self.unseen)

    @cached_property
    def _table(self) -> Floats:
        return np.array([*self.vectors.values(), self.missing, self.unseen], np.float64)

    @cached_property
    def _places(self) -> dict[str | None, int]:
        places: dict[str | None, int] = {c: place for place, c in enumerate(self.vectors)}
        return places | {None: len(places)}

    def matrix(self, texts: Texts) -> Floats:
        """Return the vectors of n categories, float64 (n, dimensions)."""
        unseen = len(self._table) - 1
        places = np.fromiter((self._places.get(t, unseen) for t in texts), np.intp, len(texts))
        found: Floats = self._table[places]
        return found


@dataclass(frozen=True, slots=True)
class JoinedEncoding:
    """Several encodings of one text, side by side."""

    parts: tuple[Encoding, ...]

    @property
    def marks(self) -> tuple[bool, ...]:
        """The marks of the parts, one after the other."""
        return tuple(mark for part in self.parts for mark in part.marks)

    def matrix(self, texts: Texts) -> Floats:
        """Return the columns of all parts, float64 (n, columns)."""
        return np.concatenate([part.matrix(texts) for part in self.parts], axis=1)


def _marked(places: Sequence[int], width: int) -> Floats:
    marks = np.zeros((len(places), width))
    marks[np.arange(len(places)), places] = 1.0
    return marks
