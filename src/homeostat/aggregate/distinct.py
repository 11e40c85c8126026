"""How many different values there are."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt
from typing import ClassVar, Literal

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.codes import CODES
from homeostat.aggregate.summaries import Rows, Slices, counted
from homeostat.aggregate.wavelet import Wavelet

__all__ = ["DistinctCount"]


@dataclass(frozen=True, slots=True)
class _Codes:
    """The codes of all rows; and for each the row before it with the same code, counted from 1."""

    codes: Ints
    seen: Wavelet


@dataclass(frozen=True)
class DistinctCount:
    """The number of different codes, exact up to `k`; the state is the k + 1 least codes.

    Codes are uniform, so where there are more, the (k + 1)-th least of them says how dense they
    lie: k / code (Bar-Yossef et al. 2002), with a relative standard error of 1 / sqrt(k - 1).
    """

    k: int
    reads: ClassVar[Literal["code"]] = "code"
    parts: ClassVar[tuple[str, ...]] = ("",)

    @property
    def most(self) -> int:
        """One word per code."""
        return self.k + 1

    def state(self, rows: Rows) -> Ints:
        """Return the least codes.

        >>> rows = Rows(np.arange(3), np.arange(3), np.array([7, 9, 7]).view(np.float64))
        >>> DistinctCount(16).value(DistinctCount(16).state(rows), 0)
        [2.0]
        """
        return counted(rows.codes)[0][: self.k + 1]

    def merge(self, left: Ints, right: Ints) -> Ints:
        """Return the least codes of both."""
        if len(right) == 1:  # one event more: most often a code that changes nothing
            place = int(np.searchsorted(left, right[0]))
            if place > self.k or (place < len(left) and left[place] == right[0]):
                return left
            return np.concatenate([left[:place], right, left[place : self.k]])
        return np.union1d(left, right)[: self.k + 1]

    def value(self, state: Ints, at: int) -> list[float]:
        """Return the count, or its estimate; the instant plays no part."""
        if len(state) <= self.k:
            return [float(len(state))]
        return [float(round(self.k * float(CODES) / (float(state[-1]) + 1.0)))]

    def index(self, rows: Rows) -> _Codes:
        """Return the codes, with where each was last seen."""
        codes = rows.codes
        order = np.argsort(codes, kind="stable")
        again = np.flatnonzero(codes[order[1:]] == codes[order[:-1]]) + 1
        seen = np.zeros(len(codes), np.int64)
        seen[order[again]] = order[again - 1] + 1
        return _Codes(codes, Wavelet(seen))

    def columns(self, index: _Codes, slices: Slices, at: Ints) -> Floats:
        """Return the counts."""
        sizes = np.diff(np.append(slices.first, len(slices.begin)))
        begin = slices.begin[slices.first]
        end = np.maximum(slices.end[slices.first], begin)
        # A row is the first of its code in a slice if the one before it is not inside.
        found = index.seen.below(begin, end, begin + 1).astype(np.float64)
        torn = np.flatnonzero(sizes > 1)
        found[torn] = self._counted(index.codes, slices.only(torn))
        many = np.flatnonzero(found > self.k)
        found[many] = self._estimated(index.codes, slices.only(many), found[many])
        return found.reshape(-1, 1)

    def _counted(self, codes: Ints, slices: Slices) -> Floats:
        """Return the counts of queries by looking at every row."""
        found = np.zeros(len(slices))
        for chunk in slices.chunks():
            owner, _ = _different(chunk.owner, codes[chunk.row])
            found[chunk.low : chunk.high] = np.bincount(owner, minlength=len(chunk))
        return found

    def _estimated(self, codes: Ints, slices: Slices, count: Floats) -> Floats:
        """Return the estimates of queries that have more than k codes.

        Only codes so small are looked at that a few more than k of them are to be expected; where
        they are too few, all are.
        """
        found = np.full(len(slices), nan)
        enough = self.k + 8 * sqrt(self.k) + 16
        shift = np.maximum(np.log2(count / enough), 0).astype(np.int64)
        while len(left := np.flatnonzero(np.isnan(found))):
            now = left[shift[left] == shift[left[0]]]
            kept = np.flatnonzero(codes < CODES >> int(shift[now[0]]))
            some = slices.only(now)
            begin, end = np.searchsorted(kept, some.begin), np.searchsorted(kept, some.end)
            for chunk in Slices(begin, end, some.first).chunks():
                owner, code = _different(chunk.owner, codes[kept[chunk.row]])
                place = np.searchsorted(owner, np.arange(len(chunk))) + self.k
                last = np.searchsorted(owner, np.arange(len(chunk)), side="right")
                good = np.flatnonzero(place < last)
                largest = code[place[good]].astype(np.float64)
                found[now[chunk.low + good]] = np.rint(self.k * float(CODES) / (largest + 1.0))
            shift[now] = 0
        return found


def _different(owner: Ints, codes: Ints) -> tuple[Ints, Ints]:
    """Return the different codes of each owner, both in order."""
    order = np.lexsort((codes, owner))
    owner, codes = owner[order], codes[order]
    new = np.ones(len(codes), np.bool_)
    new[1:] = (codes[1:] != codes[:-1]) | (owner[1:] != owner[:-1])
    return owner[new], codes[new]
