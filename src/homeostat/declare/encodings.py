"""Encodings: transforms that turn text into numbers; a text with none gets `TargetEncoding`."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import ClassVar

from homeostat.declare.mistakes import several
from homeostat.declare.transforms import Transform

__all__ = [
    "Embedding",
    "FrequencyEncoding",
    "Hashing",
    "OneHot",
    "SentenceEmbedding",
    "TargetEncoding",
    "Tokens",
]


@dataclass(frozen=True)
class OneHot(Transform):
    """Makes one mark for each of the most frequent values, one for all others, one for missing."""

    at_most: int = field(default=20, kw_only=True)

    takes: ClassVar[frozenset[str]] = frozenset({"text", "number"})
    is_final: ClassVar[bool] = True

    def _check(self) -> None:
        self._width("at_most", self.at_most)


@dataclass(frozen=True)
class TargetEncoding(Transform):
    """Replaces a value by the smoothed rate of positives among the training rows that carry it.

    A training row is encoded from the other rows. Values never seen get the overall rate, and so
    does missing if it was never seen. `smooth` is the weight of the overall rate, in rows (None:
    chosen by the variance within and between values).
    """

    smooth: float | None = field(default=None, kw_only=True)

    takes: ClassVar[frozenset[str]] = frozenset({"text", "number"})

    def _check(self) -> None:
        self._require(
            self.smooth is None or (isfinite(self.smooth) and self.smooth >= 0),
            f"smooth={self.smooth}",
            "0 or more rows, or None",
            "write smooth=20.0",
        )


@dataclass(frozen=True)
class FrequencyEncoding(Transform):
    """Replaces a value by its share of the training rows; a value never seen has share 0."""

    takes: ClassVar[frozenset[str]] = frozenset({"text", "number"})


@dataclass(frozen=True)
class Hashing(Transform):
    """Marks one of a fixed number of buckets, by the text's hash; learns nothing.

    Missing is 0 in all of them.
    """

    buckets: int = field(default=32, kw_only=True)

    takes: ClassVar[frozenset[str]] = frozenset({"text"})

    def _check(self) -> None:
        self._width("buckets", self.buckets, least=2)


@dataclass(frozen=True)
class Embedding(Transform):
    """Places categories near each other that occur with the same values of other text features.

    The vector of a category is its row of the truncated singular value decomposition of positive
    pointwise mutual information with `context` (by default every other text feature of the model).
    A category never seen is at the origin.
    """

    width: int = field(default=4, kw_only=True)
    context: tuple[str, ...] = field(default=(), kw_only=True)

    takes: ClassVar[frozenset[str]] = frozenset({"text"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", several(self.context))
        Transform.__post_init__(self)

    def _check(self) -> None:
        self._width("width", self.width)


@dataclass(frozen=True)
class Tokens(Transform):
    """Counts the words of a text, or of its words the groups of 2 to 4 characters.

    `by="tf_idf"` keeps the most frequent `width` tokens of the training rows and weighs them by
    rarity; `by="hashing"` learns nothing. Rows have length 1; a missing text is 0 in all columns.
    """

    width: int = field(default=64, kw_only=True)
    by: str = field(default="tf_idf", kw_only=True)
    of: str = field(default="words", kw_only=True)

    takes: ClassVar[frozenset[str]] = frozenset({"text"})

    def _check(self) -> None:
        self._one_of(self.by, ("tf_idf", "hashing"))
        self._require(
            self.of in ("words", "characters"),
            f"of={self.of!r}",
            "'words' or 'characters'",
            "write of='words'",
        )
        self._width("width", self.width)


@dataclass(frozen=True)
class SentenceEmbedding(Transform):
    """Embeds a text with a sentence model that is installed on every machine that serves.

    `model` is its name or folder; nothing is downloaded. `encoder` names a class whose object,
    made from `model`, has `encode([text])`. `width` keeps so many directions of the training rows'
    greatest variation. A missing text is embedded as an empty one.
    """

    model: str = field(kw_only=True)
    width: int = field(default=16, kw_only=True)
    encoder: str = field(default="sentence_transformers:SentenceTransformer", kw_only=True)

    takes: ClassVar[frozenset[str]] = frozenset({"text"})

    def _check(self) -> None:
        self._width("width", self.width)
        module, _, name = self.encoder.partition(":")
        self._require(
            bool(module and name), f"encoder={self.encoder!r}", "module:Class", "name a class"
        )
