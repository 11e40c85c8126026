"""What one transform learned about one column of numbers, as plain data, and how it is applied.

Every operation is element by element and exact in IEEE 754, or one value at a time, so a row's
numbers do not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import copysign, log1p
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Apply", "Binned", "Chain", "Clipped", "Coded", "Imputed", "Logged", "Marked", "Scaled",
    "Step", "is_final", "prepare",
]  # fmt: skip

Floats: TypeAlias = NDArray[np.float64]

Apply: TypeAlias = Callable[[Floats], tuple[Floats, Floats | None]]
"""From values (n, k) to new values (n, k) and marks (n, m), the marks of column 0 first."""


@dataclass(frozen=True, slots=True)
class Imputed:
    """Missing becomes `fill`; with `mark`, a mark says where."""

    fill: float
    mark: bool

    @property
    def marks(self) -> int:
        """The number of marks."""
        return int(self.mark)


@dataclass(frozen=True, slots=True)
class Clipped:
    """Values beyond `low` and `high` are moved there; with `mark`, a mark says which."""

    low: float
    high: float
    mark: bool

    @property
    def marks(self) -> int:
        """The number of marks."""
        return int(self.mark)


@dataclass(frozen=True, slots=True)
class Scaled:
    """(x - center) / spread."""

    center: float
    spread: float

    @property
    def marks(self) -> int:
        """No marks."""
        return 0


@dataclass(frozen=True, slots=True)
class Logged:
    """sign(x) * log(1 + |x|)."""

    @property
    def marks(self) -> int:
        """No marks."""
        return 0


@dataclass(frozen=True, slots=True)
class Binned:
    """The number of `edges` at or below x; with `mark`, one mark per bin in its place."""

    edges: tuple[float, ...]
    mark: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(self.edges))

    @property
    def marks(self) -> int:
        """One mark per bin, or none."""
        return len(self.edges) + 1 if self.mark else 0


@dataclass(frozen=True, slots=True)
class Coded:
    """The code of each of `values`, which rise; of missing; and of a value never seen."""

    values: tuple[float, ...]
    codes: tuple[float, ...]
    missing: float
    unseen: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "codes", tuple(self.codes))

    @property
    def marks(self) -> int:
        """No marks."""
        return 0


@dataclass(frozen=True, slots=True)
class Marked:
    """A mark for each of `values`, which rise; then one for all others, then one for missing."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))

    @property
    def marks(self) -> int:
        """One mark per value, and two."""
        return len(self.values) + 2


Step: TypeAlias = Imputed | Clipped | Scaled | Logged | Binned | Coded | Marked
Chain: TypeAlias = tuple[Step, ...]
"""The steps of one column, in order."""


def is_final(step: Step) -> bool:
    """Return whether only marks are left after the step."""
    return isinstance(step, Marked) or (isinstance(step, Binned) and step.mark)


def prepare(steps: Sequence[Step]) -> Apply:
    """Return what applies k steps of one kind to k columns at once.

    >>> values, marks = prepare([Imputed(5.0, True)])(np.array([[1.0], [np.nan]]))
    >>> values.tolist(), marks.tolist()
    ([[1.0], [5.0]], [[0.0], [1.0]])
    """
    return _PREPARE[type(steps[0])](steps)


def _imputed(steps: Sequence[Step]) -> Apply:
    given = cast("Sequence[Imputed]", steps)
    fill = np.array([step.fill for step in given])

    def apply(values: Floats) -> tuple[Floats, Floats | None]:
        is_missing = np.isnan(values)
        marks = is_missing.astype(np.float64) if given[0].mark else None
        return np.where(is_missing, fill, values), marks

    return apply


def _clipped(steps: Sequence[Step]) -> Apply:
    given = cast("Sequence[Clipped]", steps)
    low, high = np.array([s.low for s in given]), np.array([s.high for s in given])

    def apply(values: Floats) -> tuple[Floats, Floats | None]:
        marks = ((values < low) | (values > high)).astype(np.float64) if given[0].mark else None
        return np.clip(values, low, high), marks

    return apply


def _scaled(steps: Sequence[Step]) -> Apply:
    given = cast("Sequence[Scaled]", steps)
    center, spread = np.array([s.center for s in given]), np.array([s.spread for s in given])
    return lambda values: ((values - center) / spread, None)


def _logged(steps: Sequence[Step]) -> Apply:
    def apply(values: Floats) -> tuple[Floats, Floats | None]:
        # math.log1p: NumPy's own may round by vector length and by processor.
        flat = [copysign(log1p(abs(value)), value) for value in values.ravel().tolist()]
        return np.array(flat, np.float64).reshape(values.shape), None

    return apply


def _binned(steps: Sequence[Step]) -> Apply:
    given = cast("Sequence[Binned]", steps)
    edges = [np.array(step.edges) for step in given]

    def number(values: Floats) -> tuple[Floats, Floats | None]:
        bins = np.empty_like(values)
        for column, inner in enumerate(edges):
            bins[:, column] = np.searchsorted(inner, values[:, column], side="right")
        return np.where(np.isnan(values), np.nan, bins), None

    def mark(values: Floats) -> tuple[Floats, Floats | None]:
        bins, _ = number(values)
        parts = [bins[:, [j]] == np.arange(len(inner) + 1) for j, inner in enumerate(edges)]
        return values, np.concatenate(parts, axis=1).astype(np.float64)

    return mark if given[0].mark else number


def _coded(steps: Sequence[Step]) -> Apply:
    given = cast("Sequence[Coded]", steps)
    tables = [
        (np.array(s.values), np.array([*s.codes, s.missing, s.unseen]), len(s.values))
        for s in given
    ]

    def apply(values: Floats) -> tuple[Floats, Floats | None]:
        coded = np.empty_like(values)
        for column, (known, codes, count) in enumerate(tables):
            given = values[:, column]
            places = _places(known, given, count + 1)
            coded[:, column] = codes[np.where(np.isnan(given), count, places)]
        return coded, None

    return apply


def _marked(steps: Sequence[Step]) -> Apply:
    tables = [np.array(step.values) for step in cast("Sequence[Marked]", steps)]

    def apply(values: Floats) -> tuple[Floats, Floats | None]:
        parts = []
        for column, known in enumerate(tables):
            given, other = values[:, column], len(known)
            places = np.where(np.isnan(given), other + 1, _places(known, given, other))
            parts.append(places[:, None] == np.arange(other + 2))
        return values, np.concatenate(parts, axis=1).astype(np.float64)

    return apply


def _places(known: Floats, values: Floats, absent: int) -> NDArray[np.intp]:
    """Return where each value is among the rising `known`, and `absent` where it is not."""
    if not len(known):
        return np.full(len(values), absent, np.intp)
    places = np.searchsorted(known, values).clip(max=len(known) - 1)
    return np.where(known[places] == values, places, absent)


_PREPARE: dict[type, Callable[[Sequence[Step]], Apply]] = {
    Imputed: _imputed, Clipped: _clipped, Scaled: _scaled, Logged: _logged, Binned: _binned,
    Coded: _coded, Marked: _marked,
}  # fmt: skip
