"""One column at a time: how many, how different, how large, how far out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Floats
from homeostat.features.profile_outliers import Outliers, outliers_of

__all__ = ["ColumnProfile", "Numbers", "Scalar", "Top", "describe", "numbers_of"]

Scalar: TypeAlias = str | int | float | bool

TOP = 5
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
BINS = 20


@dataclass(frozen=True, slots=True)
class Top:
    """A frequent value and the number of rows that have it."""

    value: Scalar
    rows: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column of finite numbers; a timestamp is in seconds since 1970.

    `quantiles` are those of 0, 1, 5, 25, 50, 75, 95, 99 and 100 %. `counts` are of equal bins
    between the 1 % and the 99 % quantile, `edges` their ends (fewer where those two nearly meet);
    whole numbers that lie close together have a bin each. What is outside is in the first and last
    bin.
    """

    mean: float
    standard_deviation: float
    skewness: float
    zeros: int
    negatives: int
    infinite: int
    quantiles: tuple[float, ...]
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """What one column holds.

    `kind` is string, integer, float, boolean or timestamp. `distinct` counts different
    values without missing, `top` has the most frequent. `words` is the mean number of words of a
    text.
    """

    name: str
    kind: str
    rows: int
    missing: int
    distinct: int
    top: tuple[Top, ...]
    numbers: Numbers | None
    outliers: Outliers | None
    words: float | None

    @property
    def missing_share(self) -> float:
        """The share of rows without a value."""
        return self.missing / self.rows if self.rows else 0.0

    @property
    def is_constant(self) -> bool:
        """Whether no two rows differ, missing included."""
        return self.distinct + (self.missing > 0) <= 1


def describe(column: pl.Series, kind: str) -> ColumnProfile:
    """Describe one column.

    Args:
        column: the values; NaN must be null already.
        kind: its declared or inferred kind.
    """
    counts = column.drop_nulls().value_counts(sort=True, name="rows")
    numbers = outliers = None
    if kind in ("integer", "float", "timestamp"):
        values = numbers_of(column)
        finite = values[np.isfinite(values)]
        if len(finite):
            numbers = _numbers(finite, infinite=int(np.isinf(values).sum()))
            outliers = None if kind == "timestamp" else outliers_of(finite)
    return ColumnProfile(
        name=column.name,
        kind=kind,
        rows=len(column),
        missing=column.null_count(),
        distinct=counts.height,
        top=_top(counts, column.name),
        numbers=numbers,
        outliers=outliers,
        words=_words(column) if kind == "string" else None,
    )


def numbers_of(column: pl.Series) -> Floats:
    """Return a column as float64 (n,), NaN where missing; timestamps in seconds since 1970."""
    if column.dtype == pl.Datetime:
        column = column.dt.epoch("us").cast(pl.Float64) / 1e6
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy().copy()


def _top(counts: pl.DataFrame, name: str) -> tuple[Top, ...]:
    if not counts.height:
        return ()
    least = counts["rows"].head(TOP)[-1]
    # Polars leaves the order of ties open.
    frequent = counts.filter(pl.col("rows") >= least).sort(
        "rows", name, descending=[True, False], nulls_last=True
    )
    return tuple(Top(_scalar(value), rows) for value, rows in frequent.head(TOP).iter_rows())


def _scalar(value: Any) -> Scalar:
    if isinstance(value, float) and not np.isfinite(value):
        return repr(value)  # JSON has no infinity
    return value if isinstance(value, str | int | float | bool) else str(value.isoformat())


def _numbers(finite: Floats, infinite: int) -> Numbers:
    quantiles = np.quantile(finite, QUANTILES, method="inverted_cdf")
    low, high = float(quantiles[1]), float(quantiles[-2])
    shares = np.linspace(0.0, 1.0, BINS + 1)
    edges = np.unique(low * (1.0 - shares) + high * shares)
    if 0 < high - low < 2 * BINS and (np.trunc(finite) == finite).all():
        edges = np.arange(low, high + 2.0)
    edges = edges if len(edges) > 1 else np.repeat(edges, 2)
    counts = np.bincount(np.searchsorted(edges[1:-1], finite, side="right"))
    with np.errstate(all="ignore"):  # numbers too large to square
        mean, deviation = float(finite.mean()), float(finite.std())
        skewness = float(np.mean(((finite - mean) / deviation) ** 3)) if deviation > 0 else 0.0
    return Numbers(
        mean=float(np.nan_to_num(mean)),
        standard_deviation=float(np.nan_to_num(deviation)),
        skewness=skewness if np.isfinite(skewness) else 0.0,
        zeros=int((finite == 0).sum()),
        negatives=int((finite < 0).sum()),
        infinite=infinite,
        quantiles=tuple(quantiles.tolist()),
        edges=tuple(edges.tolist()),
        counts=tuple(np.pad(counts, (0, len(edges) - 1 - len(counts))).tolist()),
    )


def _words(column: pl.Series) -> float | None:
    given = column.drop_nulls()
    if not len(given):
        return None
    picked = given.gather(np.linspace(0, len(given) - 1, min(len(given), 10_000), dtype=np.int64))
    found = picked.str.count_matches(r"\S+").mean()
    return found if isinstance(found, float) else None
