"""What each query of a block can see, cut into the slices that make up its windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.block import Block
from homeostat.aggregate.exact import WEIGHT_LIMIT, SumRefused
from homeostat.aggregate.families import Aggregation, Extreme, Nearest, Sums
from homeostat.aggregate.gathered import Gathered
from homeostat.aggregate.layout import Gather, Layout, Read
from homeostat.aggregate.operations import OPERATIONS, SUMMARIZED, compared
from homeostat.aggregate.slices import expand, search

__all__ = ["Answers", "Pieces", "Queries"]

V = TypeVar("V")
X = TypeVar("X")
S = TypeVar("S")

_CHUNK = 1 << 21
"""Rows looked at together where what is known is not a prefix."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """The slices whose states make up each query's window; `first` is a query's first piece."""

    begin: Ints
    end: Ints
    first: Ints
    single: bool


@dataclass(frozen=True, slots=True)
class Queries:
    """What each query can see: rows `[low, sure)` all, rows `[sure, high)` some of them.

    `limit` is the number of log entries seen; `own` the row of the query's own event, or -1.
    """

    low: Ints
    sure: Ints
    high: Ints
    limit: Ints
    own: Ints

    @classmethod
    def of(cls, block: Block, codes: Ints, limit: Ints, own: Ints | None) -> Queries:
        """Find the visible rows of each query's group."""
        groups = len(block.first) - 1
        inside = (codes >= 0) & (codes < groups)
        at = np.where(inside, codes, 0)
        low = np.where(inside, block.first[at], 0)
        high = np.where(inside, block.first[np.minimum(at + 1, groups)], 0)
        sure = search(block.latest, low, high, limit)
        end = search(block.soonest, low, high, limit)
        if own is None:
            return cls(low, sure, end, limit, np.full(len(low), -1, np.int64))
        return cls(low, sure, end, limit, _own_rows(block, low, high, own))

    def pieces(self, block: Block, start: Ints | None) -> Pieces:
        """Cut the windows that start at `start` (None: whole history) into visible slices."""
        begin = self.low if start is None else search(block.times, self.low, self.high, start)
        end = np.maximum(self.sure, begin)
        owned = (self.own >= begin) & (self.own < end)
        mixed = np.flatnonzero(self.high > end)
        if not owned.any() and not len(mixed):
            return Pieces(begin, end, np.arange(len(begin)), True)
        query = np.arange(len(begin))
        parts = [(query, begin, np.where(owned, self.own, end))]
        mine = np.flatnonzero(owned)
        parts.append((mine, self.own[mine] + 1, end[mine]))
        parts.extend(self._runs(block, mixed, end))
        asked, begins, ends = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(asked, kind="stable")
        first = np.searchsorted(asked[order], query)
        return Pieces(begins[order], ends[order], first, False)

    def _runs(self, block: Block, mixed: Ints, end: Ints) -> list[tuple[Ints, Ints, Ints]]:
        """Return the runs of visible rows of `[end, high)`, for the queries where some are not."""
        found = []
        size = np.cumsum(self.high[mixed] - end[mixed])
        cuts = np.searchsorted(size, np.arange(_CHUNK, size[-1] if len(size) else 0, _CHUNK))
        for chunk in np.split(mixed, cuts):
            owner, row = expand(end[chunk], self.high[chunk])
            query = chunk[owner]
            seen = (block.place[row] < self.limit[query]) & (row != self.own[query])
            query, row = query[seen], row[seen]
            head = np.ones(len(row), np.bool_)
            head[1:] = (query[1:] != query[:-1]) | (row[1:] != row[:-1] + 1)
            tail = np.roll(head, -1)
            found.append((query[head], row[head], row[tail] + 1))
        return found


def _own_rows(block: Block, low: Ints, high: Ints, own: Ints) -> Ints:
    """Return the row of the event that carries the query's own id in its group, or -1."""
    if not len(block.ties):
        return np.full(len(low), -1, np.int64)
    # The ties of one group are sorted by themselves, so each query searches its own group.
    group = np.repeat(np.arange(len(block.first) - 1), np.diff(block.first))
    order = np.lexsort((block.ties, group))
    found = search(block.ties[order], low, high, own)
    row = order[np.minimum(found, len(order) - 1)]
    return np.where((found < high) & (block.ties[row] == own), row, -1)


class Answers:
    """Reduces the pieces of windows, each state once, and finalizes the features."""

    def __init__(self, layout: Layout, block: Block, at: Ints) -> None:
        self._layout, self._block, self._at = layout, block, at
        self._indices: dict[tuple[object, int], Any] = {}
        self._totals: dict[int, Ints] = {}
        self._compared = {w for r in layout.reads if r.trend for w in (r.window, r.longer)}

    def fill(self, window: int, pieces: Pieces, found: Floats) -> None:
        """Write the features of one window into their columns of `found`."""
        reads = [
            (c, r)
            for c, r in enumerate(self._layout.reads)
            if r.window == window and not r.trend and r.operation is not SUMMARIZED
        ]
        totals: Ints | None = None
        for column, read in reads:
            select = read.operation.select
            if select is None:
                family = Sums(read.operation, read.lanes)
                if totals is None:
                    totals = self._summed(pieces)
                found[:, column] = family.finalize(totals, self._at)
            elif select in ("least", "greatest"):
                found[:, column] = self._selected(Extreme(select), read, pieces)
            else:
                values = self._block.values[read.signal]
                nearest = Nearest(select, self._block.times, values, read.operation.of_time)
                found[:, column] = self._selected(nearest, read, pieces)
        for gather in self._layout.gathers:
            if gather.window == window:
                found[:, gather.columns] = self._gathered(gather, pieces)[:, gather.parts]
        if window in self._compared:
            self._totals[window] = self._summed(pieces) if totals is None else totals
            self._compare(window, found)

    def _summed(self, pieces: Pieces) -> Ints:
        """Return the lanes; refuse sums whose magnitudes leave the range of exact ones."""
        adding = Sums(OPERATIONS["count"], ())
        for weight in self._block.weights:
            upper, lower = _states(adding, weight, pieces).T
            if (upper + (lower >> 31) >= WEIGHT_LIMIT >> 31).any():
                raise SumRefused(f"view {self._layout.view.name!r}")
        return _states(adding, self._block.running, pieces)

    def _compare(self, window: int, found: Floats) -> None:
        """Write the trends whose second window is this one."""
        for column, read in enumerate(self._layout.reads):
            if read.trend and max(read.window, read.longer) == window:
                family = Sums(read.operation, read.lanes)
                now = self._totals[read.window]
                before = self._totals[read.longer] - now
                value, past = (family.finalize(totals, self._at) for totals in (now, before))
                found[:, column] = compared(value, past, read.trend)

    def _gathered(self, gather: Gather, pieces: Pieces) -> Floats:
        block = self._block
        family = Gathered(gather.summary, block.times, block.ties)
        key = (gather.summary, gather.signal)
        if key not in self._indices:
            self._indices[key] = family.prepare(block.values[gather.signal])
        return family.finalize(_states(family, self._indices[key], pieces), self._at)

    def _selected(self, family: Aggregation[Floats, X, S], read: Read, pieces: Pieces) -> Floats:
        key = (read.operation.select, read.signal)
        if key not in self._indices:
            self._indices[key] = family.prepare(self._block.values[read.signal])
        index = self._indices[key]
        return family.finalize(_states(family, index, pieces), self._at)


def _states(family: Aggregation[V, X, S], index: X, pieces: Pieces) -> S:
    """Return the state of each query from those of its pieces."""
    found = family.reduce(index, pieces.begin, pieces.end)
    return found if pieces.single else family.merge(found, pieces.first)
