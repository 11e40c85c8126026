"""Histograms of features over fixed bins: small, mergeable, and kept with every model package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from homeostat.core.errors import HomeostatError

__all__ = ["Histogram", "Sketch", "SketchMismatch", "merge_sketches", "sketch_like", "sketch_of"]

BINS = 20
"""At most this many bins per numeric feature, the bin of missing values not counted."""

CATEGORIES = 50
"""At most this many categories per text feature; the rarer ones are counted together."""

Counts = tuple[int, ...]
Categories = Mapping[str, Sequence[str | None]]


class SketchMismatch(HomeostatError):
    """Sketches with other features or other bins cannot be put together."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(
            f"sketch: {found}; allowed: {allowed}; sketch with `sketch_like` the model's reference."
        )


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of one feature.

    A numeric feature has ascending inner `edges`: bin i holds edges[i-1] <= value < edges[i], the
    first and last bins are open, so there is one bin more than edges. A text feature has
    `categories` instead, and a last bin for all others. The last count is of missing values.
    """

    name: str
    edges: tuple[float, ...]
    categories: tuple[str, ...] | None
    counts: Counts

    @property
    def rows(self) -> int:
        """The number of values counted, missing ones included."""
        return sum(self.counts)

    @property
    def missing(self) -> int:
        """The number of missing values."""
        return self.counts[-1]


@dataclass(frozen=True, slots=True)
class Sketch:
    """One histogram per feature, in the order of the model's input."""

    histograms: tuple[Histogram, ...]

    @property
    def bins(self) -> tuple[tuple[str, tuple[float, ...], tuple[str, ...] | None], ...]:
        """What is counted: name, edges and categories of every feature."""
        return tuple((h.name, h.edges, h.categories) for h in self.histograms)

    @property
    def rows(self) -> int:
        """The number of rows counted."""
        return self.histograms[0].rows if self.histograms else 0

    def as_json(self) -> dict[str, Any]:
        """Return this sketch as JSON values, for a package."""
        return {
            "features": [
                {
                    "name": h.name,
                    "edges": list(h.edges),
                    "categories": None if h.categories is None else list(h.categories),
                    "counts": list(h.counts),
                }
                for h in self.histograms
            ]
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Sketch:
        """Return the sketch that `as_json` gave."""
        return cls(
            tuple(
                Histogram(
                    h["name"],
                    tuple(float(edge) for edge in h["edges"]),
                    None if h["categories"] is None else tuple(h["categories"]),
                    tuple(int(count) for count in h["counts"]),
                )
                for h in body["features"]
            )
        )


def sketch_of(
    matrix: npt.NDArray[np.float64], names: Sequence[str], categories: Categories
) -> Sketch:
    """Return the reference sketch of a training set; its values choose the bins.

    Args:
        matrix: float64 (rows, features); NaN is missing. Columns of text features are ignored.
        names: the features, one per column.
        categories: the text features' values by name, None for missing.

    >>> sketch = sketch_of(np.array([[1.0], [2.0], [np.nan]]), ["x"], {})
    >>> sketch.histograms[0].edges, sketch.histograms[0].counts
    ((2.0,), (1, 1, 1))
    """
    empty = []
    for column, name in enumerate(names):
        if name in categories:
            kept = _frequent(categories[name])
            empty.append(Histogram(name, (), kept, (0,) * (len(kept) + 2)))
        else:
            edges = _edges(matrix[:, column])
            empty.append(Histogram(name, edges, None, (0,) * (len(edges) + 2)))
    return sketch_like(Sketch(tuple(empty)), matrix, categories)


def sketch_like(
    reference: Sketch, matrix: npt.NDArray[np.float64], categories: Categories
) -> Sketch:
    """Return the sketch of other rows in the bins of `reference`.

    Args:
        reference: gives the features and bins; its counts are not read.
        matrix: float64 (rows, features) in the reference's order; NaN is missing.
        categories: the text features' values by name, None for missing.
    """
    if matrix.ndim != 2 or matrix.shape[1] != len(reference.histograms):
        raise SketchMismatch(
            f"a matrix of shape {matrix.shape}", f"(rows, {len(reference.histograms)})"
        )
    counted = []
    for column, h in enumerate(reference.histograms):
        if h.categories is None:
            counts = _count_numbers(matrix[:, column], h.edges)
        elif h.name in categories:
            counts = _count_texts(categories[h.name], h.categories)
        else:
            raise SketchMismatch(f"no values of {h.name!r}", "values of every text feature")
        counted.append(Histogram(h.name, h.edges, h.categories, counts))
    return Sketch(tuple(counted))


def merge_sketches(first: Sketch, *others: Sketch) -> Sketch:
    """Return the sketch of all rows together; the bins must be the same.

    >>> a = sketch_of(np.array([[1.0], [2.0]]), ["x"], {})
    >>> merge_sketches(a, a).histograms[0].counts
    (2, 2, 0)
    """
    if any(other.bins != first.bins for other in others):
        raise SketchMismatch("other features or bins", "sketches in the same bins")
    columns = zip(*(sketch.histograms for sketch in (first, *others)), strict=True)
    return Sketch(
        tuple(
            replace(same[0], counts=tuple(map(sum, zip(*(h.counts for h in same), strict=True))))
            for same in columns
        )
    )


def _edges(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Return at most BINS - 1 edges at quantiles, so that bins hold about equally many values.

    A value that fills more than one bin (many zeros, say) gets a bin of its own: it must not hide
    a shift among the values beside it. With at most BINS distinct values each has its bin.
    """
    present = np.sort(values[np.isfinite(values)])
    if not present.size:
        return ()
    distinct = present[np.concatenate(([True], present[1:] != present[:-1]))]
    if distinct.size <= BINS:
        return tuple(float(v) + 0.0 for v in distinct[1:])
    picked = present[(np.arange(1, BINS) * present.size) // BINS]
    edges = dict.fromkeys(float(v) + 0.0 for v in picked)
    heavy = picked[1:][picked[1:] == picked[:-1]]
    for after in np.searchsorted(distinct, np.unique(heavy), side="right"):
        if after < distinct.size:
            edges[float(distinct[after]) + 0.0] = None
    return tuple(sorted(edge for edge in edges if edge > distinct[0]))


def _frequent(values: Sequence[str | None]) -> tuple[str, ...]:
    """Return the most frequent categories, in alphabetic order; ties by name."""
    counts = Counter(value for value in values if value is not None)
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    return tuple(sorted(ranked[:CATEGORIES]))


def _count_numbers(values: npt.NDArray[np.float64], edges: tuple[float, ...]) -> Counts:
    """Count by comparing with each edge: with few edges, faster than a search per value."""
    column = np.ascontiguousarray(values)
    present = column.size - int(np.count_nonzero(np.isnan(column)))
    reach = [present, *(int(np.count_nonzero(column >= edge)) for edge in edges), 0]
    counts = [reach[i] - reach[i + 1] for i in range(len(edges) + 1)]
    return (*counts, column.size - present)


def _count_texts(values: Sequence[str | None], categories: tuple[str, ...]) -> Counts:
    counts = Counter(values)
    missing = counts.pop(None, 0)
    known = [counts.pop(category, 0) for category in categories]
    return (*known, sum(counts.values()), missing)
