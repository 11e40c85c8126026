"""The most frequent values, and their share."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import ClassVar, Literal

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.codes import mixed
from homeostat.aggregate.summaries import Rows, Slices, counted, woven

__all__ = ["TopShare", "TopValues"]


@dataclass(frozen=True)
class _Top:
    """What the k most frequent words are, exactly up to `capacity` different ones.

    The state is: how many counted words it has; (word, count) of the `capacity` + 1 words with the
    least hashes; (tie, word) of the `capacity` events with the least ties. Ties are hashes of
    event ids, so the second is a uniform sample of the events, and it answers where there are more
    than `capacity` different words. A word among the least of a whole is among the least of every
    part that holds it, so no count is ever lost.
    """

    k: int
    capacity: int

    @property
    def most(self) -> int:
        """Two words per counted word and per sampled event, and one."""
        return 1 + 2 * (self.capacity + 1) + 2 * self.capacity

    def state(self, rows: Rows) -> Ints:
        """Return the counted words and the sample."""
        words = rows.codes
        if len(words) == 1:
            return np.array([1, words[0], 1, rows.ties[0], words[0]], np.int64)
        return self._packed(*counted(words), rows.ties, words)

    def merge(self, left: Ints, right: Ints) -> Ints:
        """Add the counts, and sample the samples."""
        (words, count), (ties, sampled) = _unpacked(left)
        (new, more), (new_ties, new_sampled) = _unpacked(right)
        if len(new) == 1:  # one word: most often one that is there
            place = np.flatnonzero(words == new[0])
            if len(place):
                both, count = words, count.copy()
                count[place] += more
            else:
                both, count = np.append(words, new), np.append(count, more)
        else:
            both, place = np.unique(np.append(words, new), return_inverse=True)
            total = np.zeros(len(both), np.int64)
            np.add.at(total, place, np.append(count, more))
            count = total
        return self._packed(both, count, np.append(ties, new_ties), np.append(sampled, new_sampled))

    def _packed(self, words: Ints, count: Ints, ties: Ints, sampled: Ints) -> Ints:
        kept = np.argsort(mixed(words), kind="stable")[: self.capacity + 1]
        taken = np.lexsort((sampled, ties))[: self.capacity]
        pairs = woven(words[kept], count[kept]), woven(ties[taken], sampled[taken])
        return np.concatenate([[len(kept)], *pairs])

    def _ranked(self, state: Ints) -> tuple[Ints, Ints, int]:
        """Return the k most frequent words, their counts, and the count of all."""
        (words, count), (_, sampled) = _unpacked(state)
        if len(words) > self.capacity:
            words, count = counted(sampled)
        order = np.lexsort((words.view(np.float64), -count))[: self.k]
        return words[order], count[order], int(count.sum())

    def index(self, rows: Rows) -> Rows:
        """Return the rows."""
        return rows

    def _tabled(self, index: Rows, slices: Slices) -> tuple[Ints, Floats, Ints]:
        """Return, of each query, the k most frequent words, their values and the count of all;
        a word that is not there has the value NaN and the count 0."""
        values = np.full((len(slices), self.k), nan)
        counts = np.zeros((len(slices), self.k), np.int64)
        totals = np.zeros(len(slices), np.int64)
        for chunk in slices.chunks():
            owner, row = self._sampled(index, chunk.owner, chunk.row, len(chunk))
            words = index.codes[row]
            first, owner, words = _runs(owner, words)
            count = np.diff(np.append(first, len(row)))
            numbers = words.view(np.float64)
            order = np.lexsort((numbers, -count, owner))
            owner, numbers, count = owner[order], numbers[order], count[order]
            summed = np.bincount(owner, count, len(chunk))
            totals[chunk.low : chunk.high] = summed.astype(np.int64)
            place = np.arange(len(owner)) - np.searchsorted(owner, owner)
            best = place < self.k
            query = chunk.low + owner[best]
            values[query, place[best]] = numbers[best]
            counts[query, place[best]] = count[best]
        return counts, values, totals

    def _sampled(self, index: Rows, owner: Ints, row: Ints, queries: int) -> tuple[Ints, Ints]:
        """Keep the sample only, of the queries with too many different words."""
        _, run_owner, _ = _runs(owner, index.codes[row])
        many = np.bincount(run_owner, minlength=queries) > self.capacity
        if not many.any():
            return owner, row
        order = np.lexsort((index.codes[row], index.ties[row], owner))
        owner, row = owner[order], row[order]
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        kept = ~many[owner] | (place < self.capacity)
        return owner[kept], row[kept]


@dataclass(frozen=True)
class TopShare(_Top):
    """The share of events that hold one of the k most frequent codes.

    >>> rows = Rows(np.arange(4), np.arange(4), np.array([7, 8, 7, 9]).view(np.float64))
    >>> top = TopShare(1, 16)
    >>> top.value(top.state(rows), 0)
    [0.5]
    """

    reads: ClassVar[Literal["code"]] = "code"
    parts: ClassVar[tuple[str, ...]] = ("",)

    def value(self, state: Ints, at: int) -> list[float]:
        """Return the share; the instant plays no part."""
        _, count, total = self._ranked(state)
        return [float(int(count.sum()) / total if total else nan)]

    def columns(self, index: Rows, slices: Slices, at: Ints) -> Floats:
        """Return the share of each query."""
        counts, _, totals = self._tabled(index, slices)
        found = np.full(len(slices), nan)
        np.divide(counts.sum(axis=1), totals, out=found, where=totals > 0)
        return found.reshape(-1, 1)


@dataclass(frozen=True)
class TopValues(_Top):
    """The k most frequent values, the smaller first of those that are equally frequent.

    >>> rows = Rows(np.arange(4), np.arange(4), np.array([7.5, 8.0, 7.5, -1.0]))
    >>> top = TopValues(3, 16)
    >>> top.value(top.state(rows), 0)
    [7.5, -1.0, 8.0]
    """

    reads: ClassVar[Literal["value"]] = "value"

    @property
    def parts(self) -> tuple[str, ...]:
        """One feature per value, the most frequent first."""
        return tuple(str(number + 1) for number in range(self.k))

    def value(self, state: Ints, at: int) -> list[float]:
        """Return the values; the instant plays no part."""
        words, _, _ = self._ranked(state)
        found: list[float] = words.view(np.float64).tolist()
        return found + [nan] * (self.k - len(found))

    def columns(self, index: Rows, slices: Slices, at: Ints) -> Floats:
        """Return the values of each query."""
        _, values, _ = self._tabled(index, slices)
        return values


def _unpacked(state: Ints) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
    """Return the counted words with their counts, and the sampled ties with their words."""
    end = 1 + 2 * int(state[0])
    return (state[1:end:2], state[2:end:2]), (state[end::2], state[end + 1 :: 2])


def _runs(owner: Ints, words: Ints) -> tuple[Ints, Ints, Ints]:
    """Sort by owner and word; return where each run of equals begins, its owner and its word."""
    order = np.lexsort((words, owner))
    owner, words = owner[order], words[order]
    new = np.ones(len(words), np.bool_)
    new[1:] = (words[1:] != words[:-1]) | (owner[1:] != owner[:-1])
    first = np.flatnonzero(new)
    return first, owner[first], words[first]
