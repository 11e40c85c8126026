"""The aggregations by name: which exact states each one needs, and how it is read from them.

An operation is *reversible* (its state is a few int64 lanes that add, so a window is a difference
of two prefix sums) or *selective* (its state is one row of the window: the least, the greatest,
the earliest or the latest). Every operation is finalized twice, for columns and for one read;
the laws in `testing/aggregation_laws.py` hold the two together. What fits neither is a summary
(`summaries.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from typing import Literal

import numpy as np

from homeostat.aggregate.arrays import Bools, Floats, Ints
from homeostat.aggregate.exact import (
    MOST_SQUARED,
    MOST_SUMMED,
    SCALE,
    rounded,
    square_units,
    units,
    variances,
)

__all__ = [
    "OPERATIONS",
    "SELECTIONS",
    "SUMMARIZED",
    "Lane",
    "LaneKind",
    "Operation",
    "Selection",
    "Totals",
    "compared",
    "compared_one",
]

LaneKind = Literal["count", "known", "sum", "square"]
"""What a lane adds up: events that count, events whose condition is known, x, x * x."""

Selection = Literal["least", "greatest", "earliest", "latest"]

SELECTIONS: tuple[Selection, ...] = ("least", "greatest", "earliest", "latest")
"""Selections by the number that compiled loops know them by."""

Lane = tuple[int, ...]
"""The positions of one state among all lanes of a view: one, three for a float64 sum,
seven or three for squares."""


class Totals:
    """The sums of n windows, int64 of shape (n, lanes); each is rounded once for all readers."""

    def __init__(self, sums: Ints) -> None:
        self.sums = sums
        self._rounded: dict[Lane, Floats] = {}

    def __len__(self) -> int:
        return len(self.sums)

    def count(self, lane: Lane) -> Ints:
        """Return a sum of whole numbers."""
        return self.sums[:, lane[0]]

    def rounded(self, lane: Lane) -> Floats:
        """Return the float64 nearest to each sum."""
        if lane not in self._rounded:
            self._rounded[lane] = rounded(self.sums[:, lane[0] : lane[-1] + 1])
        return self._rounded[lane]


@dataclass(frozen=True, slots=True)
class Operation:
    """How one aggregation is computed.

    `lanes` are the kinds of its reversible states; `columns` turns the sums of n windows into
    n values, and `one` a single list of sums into one. A selective operation has `select`
    instead, and `of_time` says that it reads the selected event's age, not its value, and
    `of_row` that it reads which event it is, to be looked up elsewhere. An operation with none of
    them is read from a summary.
    """

    lanes: tuple[LaneKind, ...] = ()
    columns: Callable[[Totals, Sequence[Lane]], Floats] | None = None
    one: Callable[[Sequence[int], Sequence[Lane]], float] | None = None
    select: Selection | None = None
    of_time: bool = False
    of_row: bool = False

    def values(self, totals: Totals, lanes: Sequence[Lane]) -> Floats:
        """Return the values of windows from their sums."""
        return np.full(len(totals), nan) if self.columns is None else self.columns(totals, lanes)


def _pick(sums: Sequence[int], lane: Lane) -> int:
    return units([sums[position] for position in lane])


def _scale(lane: Lane) -> int:
    return SCALE if len(lane) > 1 else 1


def _count_columns(totals: Totals, lanes: Sequence[Lane]) -> Floats:
    return totals.count(lanes[0]).astype(np.float64)


def _count_one(sums: Sequence[int], lanes: Sequence[Lane]) -> float:
    return float(sums[lanes[0][0]])


def _some(totals: Totals, lane: Lane) -> Bools:
    """Return where there are values, and not so many that limbs may have wrapped."""
    counts = totals.count(lane)
    return (counts > 0) & (counts < MOST_SUMMED)


def _sum_columns(totals: Totals, lanes: Sequence[Lane]) -> Floats:
    count, total = lanes
    return np.where(_some(totals, count), totals.rounded(total), nan)


def _sum_one(sums: Sequence[int], lanes: Sequence[Lane]) -> float:
    count, total = lanes
    return _pick(sums, total) / _scale(total) if 0 < sums[count[0]] < MOST_SUMMED else nan


def _ratio_columns(above: Floats, below: Floats) -> Floats:
    found = np.full(len(above), nan)
    np.divide(above, below, out=found, where=below > 0)
    return found


def _mean_columns(totals: Totals, lanes: Sequence[Lane]) -> Floats:
    count, total = lanes
    found = _ratio_columns(totals.rounded(total), totals.count(count).astype(np.float64))
    return np.where(_some(totals, count), found, nan)


def _mean_one(sums: Sequence[int], lanes: Sequence[Lane]) -> float:
    count, _ = lanes
    return _sum_one(sums, lanes) / sums[count[0]] if sums[count[0]] else nan


def _share_columns(totals: Totals, lanes: Sequence[Lane]) -> Floats:
    hits, known = (totals.count(lane).astype(np.float64) for lane in lanes)
    return _ratio_columns(hits, known)


def _share_one(sums: Sequence[int], lanes: Sequence[Lane]) -> float:
    hits, known = (sums[lane[0]] for lane in lanes)
    return hits / known if known else nan


def _variance_one(sums: Sequence[int], lanes: Sequence[Lane]) -> float:
    """Return (n * sum of x^2 - (sum of x)^2) / n^2, in whole numbers until one division."""
    count, total, square = lanes
    n = sums[count[0]]
    if not 0 < n < MOST_SQUARED:
        return nan
    above = n * square_units([sums[place] for place in square]) - _pick(sums, total) ** 2
    # Sums that wrapped make no sense, nor do their squares: whoever asks leaves them out.
    return max(above, 0) / (n * n * _scale(total) ** 2)


def _deviation_one(sums: Sequence[int], lanes: Sequence[Lane]) -> float:
    return sqrt(_variance_one(sums, lanes))


def _variance_columns(totals: Totals, lanes: Sequence[Lane]) -> Floats:
    count, total, square = lanes
    summed = (totals.sums[:, lane[0] : lane[-1] + 1] for lane in (total, square))
    return variances(totals.count(count), *summed)


def _deviation_columns(totals: Totals, lanes: Sequence[Lane]) -> Floats:
    return np.sqrt(_variance_columns(totals, lanes))


OPERATIONS: dict[str, Operation] = {
    "count": Operation(("count",), _count_columns, _count_one),
    "sum": Operation(("count", "sum"), _sum_columns, _sum_one),
    "mean": Operation(("count", "sum"), _mean_columns, _mean_one),
    "share": Operation(("count", "known"), _share_columns, _share_one),
    "variance": Operation(("count", "sum", "square"), _variance_columns, _variance_one),
    "std": Operation(("count", "sum", "square"), _deviation_columns, _deviation_one),
    "min": Operation(select="least"),
    "max": Operation(select="greatest"),
    "first": Operation(select="earliest"),
    "last": Operation(select="latest"),
    "time_since_last": Operation(select="latest", of_time=True),
}
"""Every aggregation by its declared name that is not read from a summary."""

SUMMARIZED = Operation()
"""The operation of what is read from a summary."""


def compared(now: Floats, before: Floats, by: str) -> Floats:
    """Return the trend of values: this window's against those of the window before.

    >>> compared(np.array([3.0, 1.0]), np.array([2.0, 0.0]), "ratio").tolist()
    [1.5, nan]
    """
    if by == "difference":
        return now - before
    found = np.full(len(now), nan)
    np.divide(now, before, out=found, where=before != 0)
    return found + 0.0


def compared_one(now: float, before: float, by: str) -> float:
    """Return the trend of one value.

    >>> compared_one(3.0, 2.0, "difference")
    1.0
    """
    if by == "difference":
        return now - before
    return now / before + 0.0 if before != 0 else nan
