"""Summaries: bounded states, of any events in any order, that are more than sums.

The state of a summary is a flat array of int64 words. A training set cuts it from the rows of each
window, a live read from the rows of the entity's record, and the whole history keeps it in the
record itself, so it is plain, it merges in any grouping, and it never outgrows its bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.slices import expand

__all__ = ["CHUNK", "Chunk", "Columnar", "Rows", "Slices", "Summary", "counted", "looped", "woven"]

X = TypeVar("X")

CHUNK = 1 << 21
"""Rows of windows looked at together."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Events that have a value: their times, ties and values, arrays of one length.

    `ties` are the digests of the event ids. A summary that reads codes finds them in `codes`.
    """

    times: Ints
    ties: Ints
    values: Floats

    @property
    def codes(self) -> Ints:
        """The bits of the values, as int64."""
        return self.values.view(np.int64)

    def __getitem__(self, taken: Any) -> Rows:
        return Rows(self.times[taken], self.ties[taken], self.values[taken])


class Summary(Protocol):
    """A bounded state of events, from which one or more features are read.

    Implement it as a frozen dataclass, whose fields are what the user chooses. Laws, checked by
    `homeostat.testing.summary_laws`:
        the state does not depend on the order of the events;
        merging the states of two parts, in any order, gives the state of the whole;
        a state has at most `most` words, and no event has the empty state's values;
        an argument is never changed.
    """

    @property
    def reads(self) -> Literal["value", "code"]:
        """Whether `Rows.values` hold numbers, or codes of values of any kind."""
        ...

    @property
    def parts(self) -> tuple[str, ...]:
        """What is appended to the names of its features; `("",)` if there is only one."""
        ...

    @property
    def most(self) -> int:
        """How many words a state has at most."""
        ...

    def state(self, rows: Rows) -> Ints:
        """Return the state of some events, of none too: int64 words in any shape of your own."""
        ...

    def merge(self, left: Ints, right: Ints) -> Ints:
        """Return the state of two disjoint sets of events."""
        ...

    def value(self, state: Ints, at: int) -> Sequence[float]:
        """Return the features at an instant (microseconds), NaN where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """Every row of the queries `[low, high)`, its query counted from `low`, and its slice."""

    low: int
    high: int
    owner: Ints
    row: Ints
    piece: Ints

    def __len__(self) -> int:
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class Slices:
    """Which rows each query looks at: query i has the slices from `first[i]` to `first[i + 1]`.

    Rows are numbered in the order of entity and time; the slices of one query do not overlap.
    """

    begin: Ints
    end: Ints
    first: Ints

    def __len__(self) -> int:
        return len(self.first)

    @property
    def owner(self) -> Ints:
        """The query of each slice."""
        return np.repeat(np.arange(len(self)), np.diff(np.append(self.first, len(self.begin))))

    @property
    def rows(self) -> Ints:
        """How many rows each query has."""
        length = np.maximum(self.end - self.begin, 0)
        return np.bincount(self.owner, length, len(self)).astype(np.int64)

    def only(self, queries: Ints) -> Slices:
        """Return the slices of some queries, in their order."""
        sizes = np.diff(np.append(self.first, len(self.begin)))[queries]
        first = np.cumsum(sizes) - sizes
        _, piece = expand(self.first[queries], self.first[queries] + sizes)
        return Slices(self.begin[piece], self.end[piece], first)

    def chunks(self) -> Iterator[Chunk]:
        """Yield every row of every query, in order; a chunk holds about `CHUNK` rows."""
        owner, total = self.owner, np.cumsum(self.rows)
        bounds = np.append(self.first, len(self.begin))
        low = 0
        while low < len(self):
            before = total[low - 1] if low else 0
            high = max(int(np.searchsorted(total, before + CHUNK, side="right")), low + 1)
            first = int(bounds[low])
            part = slice(first, bounds[high])
            piece, row = expand(self.begin[part], self.end[part])
            yield Chunk(low, high, owner[part][piece] - low, row, piece + first)
            low = high


@runtime_checkable
class Columnar(Protocol[X]):
    """A summary that can also be read for many windows at once; with the same bits."""

    def index(self, rows: Rows) -> X:
        """Return what is accumulated once, from all rows in the order of entity and time."""
        ...

    def columns(self, index: X, slices: Slices, at: Ints) -> Floats:
        """Return the features of each query, float64 of shape (queries, parts)."""
        ...


def counted(values: Ints) -> tuple[Ints, Ints]:
    """Return the different values, in their order, and how often each occurs.

    >>> [part.tolist() for part in counted(np.array([7, 5, 7]))]
    [[5, 7], [1, 2]]
    """
    ordered = np.sort(values)
    last = np.flatnonzero(ordered[1:] != ordered[:-1])
    ends = np.append(last, len(ordered) - 1) if len(ordered) else last
    count = ends.copy()
    count[1:] -= ends[:-1]
    count[:1] += 1
    return ordered[ends], count


def woven(*columns: Ints) -> Ints:
    """Return columns of one length as a flat array of their rows.

    >>> woven(np.array([1, 2]), np.array([8, 9])).tolist()
    [1, 8, 2, 9]
    """
    found = np.empty((len(columns[0]), len(columns)), np.int64)
    for place, column in enumerate(columns):
        found[:, place] = column
    return found.reshape(-1)


def looped(summary: Summary, rows: Rows, slices: Slices, at: Ints) -> Floats:
    """Read any summary query by query, as a live read does."""
    found = np.empty((len(slices), len(summary.parts)))
    for chunk in slices.chunks():
        bounds = np.searchsorted(chunk.owner, np.arange(len(chunk) + 1))
        for place, query in enumerate(range(chunk.low, chunk.high)):
            taken = rows[chunk.row[bounds[place] : bounds[place + 1]]]
            found[query] = summary.value(summary.state(taken), int(at[query]))
    return found
