"""How a model's features become the columns that its estimator sees.

A transform names features of the model. Those of one feature work in the order in which they are
declared. Columns of 0 and 1 that a transform adds (marks) are left as they are by the transforms
after it. Whatever they learn, they learn from the training rows. Here are the transforms of
numbers; those that take text too are in `encodings.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import ClassVar, TypeAlias

from homeostat.declare.mistakes import require, several
from homeostat.declare.views import FeatureRef, OnDemand

__all__ = [
    "Bins",
    "Clip",
    "Impute",
    "Log",
    "Scale",
    "Transform",
]

Feature: TypeAlias = FeatureRef | OnDemand | str

WIDEST = 512
"""At most so many columns of one feature: the input is a dense matrix, in serving too."""


@dataclass(frozen=True)
class Transform:
    """Base of the transforms; `features` are their names, given as references or texts."""

    features: tuple[str, ...] | Feature | Sequence[Feature]

    takes: ClassVar[frozenset[str]] = frozenset({"number"})
    is_final: ClassVar[bool] = False
    """Whether nothing but marks is left of a number."""

    def __post_init__(self) -> None:
        given = several(self.features)
        names = tuple(f if isinstance(f, str) else f.name for f in given)
        object.__setattr__(self, "features", names)
        self._require(bool(names), "no feature", "one or more features", "name a feature")
        self._check()

    def _check(self) -> None:
        """Report parameters that cannot be."""

    def _require(self, holds: bool, found: str, allowed: str, next_step: str) -> None:
        require(holds, self.where, found, allowed, next_step)

    def _one_of(self, value: str, known: Sequence[str]) -> None:
        near = f"write by={known[0]!r}"
        self._require(value in known, f"by={value!r}", " or ".join(map(repr, known)), near)

    def _width(self, name: str, value: int, least: int = 1) -> None:
        self._require(
            isinstance(value, int) and least <= value <= WIDEST,
            f"{name}={value!r}",
            f"a whole number from {least} to {WIDEST}",
            f"change {name}",
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(str(name) for name in several(self.features))

    @property
    def where(self) -> str:
        """What errors call the transform."""
        return f"{type(self).__name__} of {', '.join(self.names)}"


@dataclass(frozen=True)
class Impute(Transform):
    """Fills missing numbers with the mean, the median or the most frequent value, or a constant.

    With `indicator`, a mark tells where a value was missing. A feature without a single training
    value is filled with 0.

    >>> Impute(["distance", "hour"], by="mean").names
    ('distance', 'hour')
    """

    by: str = field(default="median", kw_only=True)
    constant: float | None = field(default=None, kw_only=True)
    indicator: bool = field(default=False, kw_only=True)

    def _check(self) -> None:
        self._one_of(self.by, ("median", "mean", "most_frequent", "constant"))
        self._require(
            (self.by == "constant") == (self.constant is not None)
            and isfinite(self.constant or 0.0),
            f"by={self.by!r} with constant={self.constant!r}",
            "a finite constant with by='constant', and none otherwise",
            "write by='constant', constant=0.0",
        )


@dataclass(frozen=True)
class Scale(Transform):
    """Centres numbers and divides them by their spread.

    `standard` uses mean and standard deviation, `robust` median and interquartile range, `min_max`
    minimum and range. Missing stays missing.
    """

    by: str = field(default="standard", kw_only=True)

    def _check(self) -> None:
        self._one_of(self.by, ("standard", "robust", "min_max"))


@dataclass(frozen=True)
class Clip(Transform):
    """Moves numbers beyond two quantiles of the training rows to those quantiles.

    With `flag`, a mark tells which were outside. Missing stays missing, and is not flagged.
    """

    low: float = field(default=0.01, kw_only=True)
    high: float = field(default=0.99, kw_only=True)
    flag: bool = field(default=False, kw_only=True)

    def _check(self) -> None:
        self._require(
            0 <= self.low < self.high <= 1,
            f"quantiles {self.low} and {self.high}",
            "0 <= low < high <= 1",
            "write low=0.01, high=0.99",
        )


@dataclass(frozen=True)
class Log(Transform):
    """Replaces x by sign(x) * log(1 + |x|), which is defined for every number."""


@dataclass(frozen=True)
class Bins(Transform):
    """Replaces a number by the number of its bin, from 0; an edge belongs to the bin above it.

    `count` bins of equally many training rows, or of your own inner `edges`. With `marks`, one
    column of 0 and 1 per bin in place of the number; missing is then 0 in all of them.
    """

    count: int | None = field(default=None, kw_only=True)
    edges: tuple[float, ...] = field(default=(), kw_only=True)
    marks: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(map(float, several(self.edges))))
        Transform.__post_init__(self)

    def _check(self) -> None:
        self._require(
            (self.count is None) == bool(self.edges),
            f"count={self.count!r} with {len(self.edges)} edges",
            "one of count and edges",
            "write count=10, or edges=(0.0, 15.0, 60.0)",
        )
        if self.count is not None:
            self._width("count", self.count, least=2)
        rises = all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False))
        self._require(
            rises and all(map(isfinite, self.edges)) and len(self.edges) < WIDEST,
            f"edges {self.edges}",
            f"finite numbers that rise, fewer than {WIDEST}",
            "sort them",
        )
