"""Summaries of slices: the family that makes any summary an aggregation of the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.summaries import Columnar, Rows, Slices, Summary, looped

__all__ = ["Gathered", "Index"]


@dataclass(frozen=True, slots=True)
class Index:
    """The rows that have a value, and for each row how many such rows come before it."""

    before: Ints
    rows: Rows
    accumulated: Any


@dataclass(frozen=True, slots=True)
class Gathered:
    """A summary over slices of events; the state of a query is the rows it looks at.

    `times` and `ties` are those of all rows.
    """

    summary: Summary
    times: Ints
    ties: Ints

    def prepare(self, events: Floats) -> Index:
        """Return the rows that have a value, with what the summary accumulates once."""
        present = ~np.isnan(events)
        before = np.zeros(len(events) + 1, np.int64)
        np.cumsum(present, out=before[1:])
        rows = Rows(self.times[present], self.ties[present], events[present])
        summary = self.summary
        accumulated = summary.index(rows) if isinstance(summary, Columnar) else None
        return Index(before, rows, accumulated)

    def reduce(self, index: Index, begin: Ints, end: Ints) -> tuple[Index, Slices]:
        """Return which rows with a value each slice holds."""
        first = np.arange(len(begin))
        return index, Slices(index.before[begin], index.before[np.maximum(end, begin)], first)

    def merge(self, states: tuple[Index, Slices], first: Ints) -> tuple[Index, Slices]:
        """Give each query the slices of all its pieces."""
        index, slices = states
        return index, Slices(slices.begin, slices.end, slices.first[first])

    def finalize(self, states: tuple[Index, Slices], at: Ints) -> Floats:
        """Return the features, float64 of shape (queries, parts)."""
        index, slices = states
        if isinstance(self.summary, Columnar):
            return self.summary.columns(index.accumulated, slices, at)
        return looped(self.summary, index.rows, slices, at)
