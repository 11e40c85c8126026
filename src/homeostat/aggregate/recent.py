"""The values of the latest events."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import ClassVar, Literal

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.summaries import Rows, Slices, woven

__all__ = ["LastN"]


@dataclass(frozen=True)
class LastN:
    """The n latest events, by time and then tie; the state is (time, tie, value) of each."""

    n: int
    reads: ClassVar[Literal["value"]] = "value"

    @property
    def parts(self) -> tuple[str, ...]:
        """One feature per event, the newest first."""
        return tuple(str(number + 1) for number in range(self.n))

    @property
    def most(self) -> int:
        """Three words per event."""
        return 3 * self.n

    def state(self, rows: Rows) -> Ints:
        """Return the latest rows, the newest first.

        >>> rows = Rows(np.array([5, 9]), np.array([1, 1]), np.array([0.5, 2.0]))
        >>> LastN(1).value(LastN(1).state(rows), 10)
        [2.0]
        """
        if len(rows.times) > 4 * self.n:
            last = np.partition(rows.times, -self.n)[-self.n]
            rows = rows[rows.times >= last]
        return self._latest(rows.times, rows.ties, rows.codes)

    def merge(self, left: Ints, right: Ints) -> Ints:
        """Return the latest of both."""
        both = np.concatenate([left, right])
        return self._latest(both[::3], both[1::3], both[2::3])

    def value(self, state: Ints, at: int) -> list[float]:
        """Return the values; the instant plays no part."""
        found: list[float] = state[2::3].copy().view(np.float64).tolist()
        return found + [nan] * (self.n - len(found))

    def index(self, rows: Rows) -> Floats:
        """Return the values."""
        return rows.values

    def columns(self, index: Floats, slices: Slices, at: Ints) -> Floats:
        """Return the values of the last rows, which are in the order of time."""
        # No more than n rows of any piece can be among the latest of them all.
        begin = np.maximum(slices.begin, slices.end - self.n)
        found = np.full((len(slices), self.n), nan)
        for chunk in Slices(begin, slices.end, slices.first).chunks():
            end = np.searchsorted(chunk.owner, np.arange(len(chunk)), side="right")
            age = end[chunk.owner] - 1 - np.arange(len(chunk.owner))
            kept = age < self.n
            query = chunk.low + chunk.owner[kept]
            found[query, age[kept]] = index[chunk.row[kept]]
        return found

    def _latest(self, times: Ints, ties: Ints, bits: Ints) -> Ints:
        order = np.lexsort((bits, ties, times))[: -self.n - 1 : -1]
        return woven(times[order], ties[order], bits[order])
