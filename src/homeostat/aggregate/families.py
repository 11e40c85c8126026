"""The protocol of an aggregation over sorted events, and the families that implement it.

Whether a slice is one live read or one of a million rows of a training set makes no difference:
`reduce` takes the same index and arrays of slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.operations import Lane, Operation, Selection, Totals
from homeostat.aggregate.slices import extremes, nearest, prefix, sums

__all__ = ["Aggregation", "Extreme", "Nearest", "Sums"]

V = TypeVar("V", contravariant=True)  # the events' inputs, in the order of time
X = TypeVar("X")  # the index: what is accumulated once, for all slices
S = TypeVar("S")  # states of slices, one per slice


class Aggregation(Protocol[V, X, S]):
    """Summarises slices of events with states that merge in any grouping.

    Laws, checked by `homeostat.testing.aggregation_laws`:
        a slice's state depends on the events inside it and on no other;
        merging the states of its pieces gives the state of the slice;
        an argument is never changed.
    """

    def prepare(self, events: V) -> X:
        """Return the index of events in the order of time."""
        ...

    def reduce(self, index: X, begin: Ints, end: Ints) -> S:
        """Return the state of each slice `[begin, end)`; a slice may be empty."""
        ...

    def merge(self, states: S, first: Ints) -> S:
        """Merge neighbours: query i owns the states from `first[i]` up to `first[i + 1]`."""
        ...

    def finalize(self, states: S, at: Ints) -> Floats:
        """Return the values at the instants `at`; NaN where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Sums:
    """A reversible aggregation: int64 lanes (n, width) that add in wrapping arithmetic.

    `lanes` says which of them the operation reads.
    """

    operation: Operation
    lanes: tuple[Lane, ...]

    def prepare(self, events: Ints) -> Ints:
        """Return the running sums, shape (n + 1, width)."""
        return prefix(events)

    def reduce(self, index: Ints, begin: Ints, end: Ints) -> Ints:
        """Return differences of running sums, shape (slices, width)."""
        return sums(index, begin, end)

    def merge(self, states: Ints, first: Ints) -> Ints:
        """Add the pieces of each query."""
        return np.add.reduceat(states, first)

    def finalize(self, states: Ints, at: Ints) -> Floats:
        """Return the operation's values; the instants play no part."""
        return self.operation.values(Totals(states), self.lanes)


@dataclass(frozen=True, slots=True)
class Extreme:
    """The least or the greatest value; NaN is no value."""

    select: Selection

    def prepare(self, events: Floats) -> Floats:
        """Return the values as they are."""
        return events

    def reduce(self, index: Floats, begin: Ints, end: Ints) -> Floats:
        """Return the extreme of each slice."""
        return extremes(self.select, index, begin, end)

    def merge(self, states: Floats, first: Ints) -> Floats:
        """Return the extreme of the pieces' extremes."""
        return (np.fmin if self.select == "least" else np.fmax).reduceat(states, first)

    def finalize(self, states: Floats, at: Ints) -> Floats:
        """Return the extremes; the instants play no part."""
        return states


@dataclass(frozen=True, slots=True)
class Nearest:
    """The earliest or the latest event with a value, or the age of it in seconds.

    A state is the event's row, -1 for none. `times` and `values` are those of all rows.
    """

    select: Selection
    times: Ints
    values: Floats
    of_time: bool = False

    def prepare(self, events: Floats) -> Ints:
        """Return, for every row, the nearest row with a value at or before (after) it."""
        return nearest(self.select, events)

    def reduce(self, index: Ints, begin: Ints, end: Ints) -> Ints:
        """Return the selected row of each slice."""
        if not len(index):
            return np.full(len(begin), -1, np.int64)
        if self.select == "latest":
            found = index[np.maximum(end - 1, 0)]
            return np.where((end > begin) & (found >= begin), found, -1)
        found = index[np.minimum(begin, len(index) - 1)]
        return np.where((end > begin) & (found < end), found, -1)

    def merge(self, states: Ints, first: Ints) -> Ints:
        """Return the first or last of the pieces' rows: rows are in the order of time."""
        if self.select == "latest":
            return np.maximum.reduceat(states, first)
        none = np.iinfo(np.int64).max
        merged = np.minimum.reduceat(np.where(states < 0, none, states), first)
        return np.where(merged == none, -1, merged)

    def finalize(self, states: Ints, at: Ints) -> Floats:
        """Return the selected events' values, or their ages at `at`."""
        if not len(self.times):
            return np.full(len(at), np.nan)
        found = (at - self.times[states]) / 1e6 if self.of_time else self.values[states]
        return np.where(states >= 0, found, np.nan)
