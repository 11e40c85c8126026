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

KNOWN, KNOWN_TEXTS = 256, 10_000
"""Of a feature of numbers, or texts, with at most so many distinct values each is known: others are
new ones. Numbers that are more than a few measure something, and a new one is no news."""

SINGLE = 100
"""Values are known one by one if at most one row in this many holds a value of its own: by Good and
Turing, that share is what a value never seen is to be expected with."""

Counts = tuple[int, ...]
Categories = Mapping[str, Sequence[str | None]]
Bins = tuple[
    str,
    tuple[float, ...],
    tuple[str, ...] | None,
    tuple[float, float] | None,
    tuple[float, ...] | tuple[str, ...] | None,
]


class SketchMismatch(HomeostatError):
    """Sketches with other features or other bins cannot be put together."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(
            f"sketch: {found}; allowed: {allowed}; sketch with `sketch_like` the model's reference."
        )


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of one feature; what training never had is counted in bins of its own.

    A numeric feature has ascending inner `edges`: bin i holds edges[i-1] <= value < edges[i], so
    there is one bin more than edges. They hold the values that lie within `span`, the smallest and
    the largest of training, and are `known`, where its values were few. Then come three counts: of
    values below the span, above it, and within it but unknown. A text feature has `categories`
    instead; then a bin of all others, or, where there are `known` ones, of the other known ones
    and of the unknown. The last count is of missing values.

    References of earlier releases have no `span`: there, the first and last bins are open.
    """

    name: str
    edges: tuple[float, ...]
    categories: tuple[str, ...] | None
    counts: Counts
    span: tuple[float, float] | None = None
    known: tuple[float, ...] | tuple[str, ...] | None = None

    @property
    def rows(self) -> int:
        """The number of values counted, missing ones included."""
        return sum(self.counts)

    @property
    def missing(self) -> int:
        """The number of missing values."""
        return self.counts[-1]

    @property
    def ordered(self) -> Counts:
        """The counts of a numeric feature by size: all but missing and unknown values."""
        if self.span is None:
            return self.counts[:-1]
        *inner, below, above, _, _ = self.counts
        return (below, *inner, above)

    @property
    def bins(self) -> Bins:
        """What is counted: all but the counts."""
        return self.name, self.edges, self.categories, self.span, self.known

    def as_json(self) -> dict[str, Any]:
        """Return this histogram as JSON values."""
        return {
            "name": self.name,
            "edges": list(self.edges),
            "categories": None if self.categories is None else list(self.categories),
            "counts": list(self.counts),
            "span": None if self.span is None else list(self.span),
            "known": None if self.known is None else list(self.known),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Histogram:
        """Return the histogram that `as_json` gave, in this release or an earlier one."""
        span, known, categories = body.get("span"), body.get("known"), body["categories"]
        return cls(
            body["name"],
            tuple(float(edge) for edge in body["edges"]),
            None if categories is None else tuple(categories),
            tuple(int(count) for count in body["counts"]),
            None if span is None else (float(span[0]), float(span[1])),
            None if known is None else tuple(known),
        )


@dataclass(frozen=True, slots=True)
class Sketch:
    """One histogram per feature, in the order of the model's input."""

    histograms: tuple[Histogram, ...]

    @property
    def bins(self) -> tuple[Bins, ...]:
        """What is counted: name, edges, categories and known values of every feature."""
        return tuple(h.bins for h in self.histograms)

    @property
    def rows(self) -> int:
        """The number of rows counted."""
        return self.histograms[0].rows if self.histograms else 0

    def as_json(self) -> dict[str, Any]:
        """Return this sketch as JSON values, for a package."""
        return {"features": [h.as_json() for h in self.histograms]}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Sketch:
        """Return the sketch that `as_json` gave."""
        return cls(tuple(map(Histogram.from_json, body["features"])))


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
    ((2.0,), (1, 1, 0, 0, 0, 1))
    """
    empty = tuple(
        _text_bins(name, categories[name])
        if name in categories
        else _number_bins(name, matrix[:, column])
        for column, name in enumerate(names)
    )
    return sketch_like(Sketch(empty), matrix, categories)


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
            counts = _count_numbers(matrix[:, column], h)
        elif h.name in categories:
            counts = _count_texts(categories[h.name], h.categories, h.known)
        else:
            raise SketchMismatch(f"no values of {h.name!r}", "values of every text feature")
        counted.append(replace(h, counts=counts))
    return Sketch(tuple(counted))


def merge_sketches(first: Sketch, *others: Sketch) -> Sketch:
    """Return the sketch of all rows together; the bins must be the same.

    >>> a = sketch_of(np.array([[1.0], [2.0]]), ["x"], {})
    >>> merge_sketches(a, a).histograms[0].counts
    (2, 2, 0, 0, 0, 0)
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


def _number_bins(name: str, values: npt.NDArray[np.float64]) -> Histogram:
    """Return the empty histogram whose bins are chosen by the values of training."""
    present = np.sort(values[np.isfinite(values)]) + 0.0
    if not present.size:
        return Histogram(name, (), None, (0, 0))
    distinct, counts = np.unique(present, return_counts=True)
    edges = _edges(present, distinct)
    known = tuple(distinct.tolist()) if _are_few(counts, KNOWN) else None
    span = (float(distinct[0]), float(distinct[-1]))
    return Histogram(name, edges, None, (0,) * (len(edges) + 5), span, known)


def _text_bins(name: str, values: Sequence[str | None]) -> Histogram:
    counts = Counter(value for value in values if value is not None)
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    kept = tuple(sorted(ranked[:CATEGORIES]))
    if len(ranked) <= CATEGORIES or not _are_few(np.array(list(counts.values())), KNOWN_TEXTS):
        return Histogram(name, (), kept, (0,) * (len(kept) + 2))
    return Histogram(name, (), kept, (0,) * (len(kept) + 3), None, tuple(sorted(ranked)))


def _are_few(counts: npt.NDArray[np.int64], most: int) -> bool:
    """Return whether a value never seen would be news, by how often each distinct one was seen."""
    singles = int(np.count_nonzero(counts == 1))
    return counts.size <= most and singles <= max(1, int(counts.sum()) // SINGLE)


def _edges(
    present: npt.NDArray[np.float64], distinct: npt.NDArray[np.float64]
) -> tuple[float, ...]:
    """Return at most BINS - 1 edges at quantiles, so that bins hold about equally many values.

    A value that fills more than one bin (many zeros, say) gets a bin of its own: it must not hide
    a shift among the values beside it. With at most BINS distinct values each has its bin.
    """
    if distinct.size <= BINS:
        return tuple(distinct[1:].tolist())
    picked = present[(np.arange(1, BINS) * present.size) // BINS]
    edges = dict.fromkeys(picked.tolist())
    heavy = picked[1:][picked[1:] == picked[:-1]]
    for after in np.searchsorted(distinct, np.unique(heavy), side="right"):
        if after < distinct.size:
            edges[float(distinct[after])] = None
    return tuple(sorted(edge for edge in edges if edge > distinct[0]))


def _count_numbers(values: npt.NDArray[np.float64], bins: Histogram) -> Counts:
    column = np.ascontiguousarray(values)
    missing = int(np.count_nonzero(np.isnan(column)))
    if bins.span is None:
        return (*_by_edges(column, bins.edges, missing), missing)
    lowest, highest = bins.span
    below = int(np.count_nonzero(column < lowest))
    above = int(np.count_nonzero(column > highest))
    inner = _by_edges(column, bins.edges, missing)
    inner[0] -= below
    inner[-1] -= above
    unknown = 0
    if bins.known is not None:
        inside = column[(column >= lowest) & (column <= highest)]
        known = np.array(bins.known, np.float64)
        new = inside[known[np.searchsorted(known, inside)] != inside]
        unknown = new.size
        if unknown:
            inner = [a - b for a, b in zip(inner, _by_edges(new, bins.edges, 0), strict=True)]
    return (*inner, below, above, unknown, missing)


def _by_edges(column: npt.NDArray[np.float64], edges: tuple[float, ...], missing: int) -> list[int]:
    """Count by comparing with each edge: with few edges, faster than a search per value."""
    present = column.size - missing
    reach = [present, *(int(np.count_nonzero(column >= edge)) for edge in edges), 0]
    return [reach[i] - reach[i + 1] for i in range(len(edges) + 1)]


def _count_texts(
    values: Sequence[str | None],
    categories: tuple[str, ...],
    known: tuple[float, ...] | tuple[str, ...] | None,
) -> Counts:
    counts = Counter(values)
    missing = counts.pop(None, 0)
    kept = [counts.pop(category, 0) for category in categories]
    if known is None:
        return (*kept, sum(counts.values()), missing)
    rare = sum(counts.pop(str(category), 0) for category in known)
    return (*kept, rare, sum(counts.values()), missing)
