"""What each query of a block can see, cut into the slices that make up its windows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from homeostat.aggregate.arrays import Ints
from homeostat.aggregate.block import Block
from homeostat.aggregate.slices import Scale, Searchable, expand

__all__ = ["Pieces", "Queries"]

_NONE = np.empty(0, np.int64)

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

    `group` is the query's group, `limit` the clock at which it looks, `own` the row of its own
    event, or -1.
    """

    group: Ints
    low: Ints
    sure: Ints
    high: Ints
    limit: Ints
    own: Ints | None

    @classmethod
    def of(cls, block: Block, group: Ints, limit: Ints, own: Ints | None) -> Queries:
        """Find the visible rows of each query's group."""
        sure = block.latest.at_least(group, limit)
        high = sure if block.soonest is block.latest else block.soonest.at_least(group, limit)
        if own is not None:
            own = _own_rows(block, group, own)
        return cls(group, block.first[group], sure, high, limit, own)

    def only_own_since(self, block: Block, since: Ints) -> Queries:
        """Return the queries with their own events left out only from an event time on."""
        if self.own is None or not len(block.times):
            return self
        is_recent = block.times[self.own] >= since
        return replace(self, own=np.where((self.own >= 0) & is_recent, self.own, -1))

    def pieces(self, block: Block, start: Ints | None) -> Pieces:
        """Cut the windows that start at `start` (None: whole history) into visible slices."""
        begin = self.low if start is None else block.by_time.at_least(self.group, start)
        end = np.maximum(self.sure, begin)
        mixed = np.flatnonzero(self.high > end) if self.high is not self.sure else _NONE
        mine = _NONE if self.own is None else _within(self.own, begin, end)
        query = np.arange(len(begin))
        if not len(mine) and not len(mixed):
            return Pieces(begin, end, query, True)
        cut = end.copy()
        parts = [(query, begin, cut)]
        if self.own is not None and len(mine):
            cut[mine] = self.own[mine]
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
            seen = block.clock[row] < self.limit[query]
            if self.own is not None:
                seen &= row != self.own[query]
            query, row = query[seen], row[seen]
            head = np.ones(len(row), np.bool_)
            head[1:] = (query[1:] != query[:-1]) | (row[1:] != row[:-1] + 1)
            tail = np.roll(head, -1)
            found.append((query[head], row[head], row[tail] + 1))
        return found


def _within(rows: Ints, begin: Ints, end: Ints) -> Ints:
    return np.flatnonzero((rows >= begin) & (rows < end))


def _own_rows(block: Block, group: Ints, own: Ints) -> Ints:
    """Return the row of the event that carries the query's own id in its group, or -1."""
    if not len(block.ties):
        return np.full(len(group), -1, np.int64)
    scale = Scale.of(block.ties, len(block.first) - 1)
    keys = scale.keys(block.group, block.ties)
    order = np.argsort(keys, kind="stable")
    found = Searchable(scale, keys[order]).at_least(group, own)
    row = order[np.minimum(found, len(order) - 1)]
    return np.where((block.group[row] == group) & (block.ties[row] == own), row, -1)
