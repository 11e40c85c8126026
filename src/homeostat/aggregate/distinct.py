"""How many different values there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.codes import CODES
from homeostat.aggregate.summaries import Rows, Slices

__all__ = ["DistinctCount"]


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
        return np.unique(rows.codes)[: self.k + 1]

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

    def index(self, rows: Rows) -> Ints:
        """Return the codes."""
        return rows.codes

    def columns(self, index: Ints, slices: Slices, at: Ints) -> Floats:
        """Return the counts."""
        found = np.zeros((len(slices), 1))
        for low, high, owner, row in slices.chunks():
            codes = index[row]
            order = np.lexsort((codes, owner))
            owner, codes = owner[order], codes[order]
            new = np.ones(len(codes), np.bool_)
            new[1:] = (codes[1:] != codes[:-1]) | (owner[1:] != owner[:-1])
            owner, codes = owner[new], codes[new]
            count = np.bincount(owner, minlength=high - low)
            many = np.flatnonzero(count > self.k)
            largest = codes[np.searchsorted(owner, many) + self.k].astype(np.float64)
            found[low:high, 0] = count
            found[low + many, 0] = np.rint(self.k * float(CODES) / (largest + 1.0))
        return found
