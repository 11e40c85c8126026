"""The kernel: states of slices of sorted events, from one slice to millions at once.

Events are sorted by (entity, event time, tie, values); a window is a slice `[begin, end)` of them.
A reversible state of a slice is a difference of prefix sums in wrapping int64; the others are
segmented reductions. Nothing here knows of time but `search`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.operations import Selection

__all__ = [
    "Scale",
    "Searchable",
    "expand",
    "extremes",
    "in_order",
    "nearest",
    "prefix",
    "search",
    "sums",
]

_ROOM = 1 << 62
"""Keys stay below this, so that they never wrap."""


def prefix(lanes: Ints) -> Ints:
    """Return the running sums of `lanes` (n, width), shape (n + 1, width), in wrapping int64.

    Each lane lies in one piece, here as in the lanes themselves: lanes are read one by one.
    """
    found = np.zeros((lanes.shape[1], lanes.shape[0] + 1), np.int64).T
    np.cumsum(lanes, axis=0, out=found[1:])
    return found


def in_order(values: Ints) -> tuple[Ints, Ints]:
    """Return values sorted, and the place that each had; equal ones stay in their order.

    >>> [part.tolist() for part in in_order(np.array([7, -5, 7]))]
    [[-5, 7, 7], [1, 0, 2]]
    """
    if not len(values):
        return values, values
    bits, low = len(values).bit_length(), int(values.min())
    if int(values.max()) - low >= 1 << (63 - bits):
        order = np.argsort(values, kind="stable")
        return values[order], order
    # Value and place in one number: sorting numbers is several times faster than sorting places.
    packed = values - low
    packed <<= bits
    packed |= np.arange(len(values))
    packed.sort()
    found = packed >> bits
    found += low
    packed &= (1 << bits) - 1
    return found, packed


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps pairs of a group and a value to one integer each, in the order of the pairs.

    `levels` are the values that occur, where their range is too wide to be counted in units.
    """

    low: int
    span: int
    levels: Ints | None

    @classmethod
    def of(cls, values: Ints, groups: int) -> Scale:
        """Return the scale of `values` (n) in that many groups."""
        low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
        if (high - low + 2) * groups < _ROOM and low > -_ROOM and high < _ROOM:
            return cls(low, high - low + 2, None)
        levels = np.unique(values)
        return cls(0, len(levels) + 1, levels)

    def keys(self, group: Ints, values: Ints) -> Ints:
        """Return the integers of pairs; a value counts as the least one that is not below it.

        >>> Scale.of(np.array([5, 9]), 2).keys(np.array([0, 0, 1, 1]), np.array([5, 9, 2, 99]))
        array([ 0,  4,  6, 11])
        """
        if self.levels is not None:
            return group * self.span + np.searchsorted(self.levels, values)
        within = np.clip(values, self.low, self.low + self.span - 1)
        within -= self.low
        within += group * self.span
        return within


@dataclass(frozen=True, slots=True)
class Searchable:
    """Rows sorted by (group, value), to be searched by such pairs."""

    scale: Scale
    keys: Ints

    def at_least(self, group: Ints, value: Ints) -> Ints:
        """Return, per query, the first row of its group with at least that value.

        The end of the group says there is none.

        >>> rows = Searchable(Scale(0, 10, None), np.array([1, 3, 5, 10]))
        >>> rows.at_least(np.array([0, 0, 1]), np.array([3, 9, 1])).tolist()
        [1, 3, 4]
        """
        from homeostat.aggregate.kernel import first_at_least

        found: Ints = first_at_least(self.keys, self.scale.keys(group, value))
        return found


def search(values: Ints, low: Ints, high: Ints, needle: Ints) -> Ints:
    """Return, per query, the first row in `[low, high)` with a value of at least `needle`.

    `values` never decrease between `low` and `high` of one query; `high` says there is none.

    >>> low, high = np.array([0, 0]), np.array([3, 3])
    >>> search(np.array([1, 3, 5, 0]), low, high, np.array([3, 9])).tolist()
    [1, 3]
    """
    low, high = low.copy(), high.copy()
    steps = int((high - low).max(initial=0)).bit_length()
    last = max(len(values) - 1, 0)
    for _ in range(steps):
        middle = (low + high) >> 1
        below = (low < high) & (values[np.minimum(middle, last)] < needle)
        low = np.where(below, middle + 1, low)
        high = np.where(below, high, np.maximum(middle, low))
    return low


def sums(running: Ints, begin: Ints, end: Ints) -> Ints:
    """Return the lanes of each slice, shape (slices, width)."""
    found = np.empty((running.shape[1], len(begin)), np.int64).T
    for lane in range(running.shape[1]):
        sums = running[:, lane]
        np.subtract(sums[end], sums[begin], out=found[:, lane])
    return found


def extremes(select: Selection, values: Floats, begin: Ints, end: Ints) -> Floats:
    """Return the least or the greatest value of each slice, NaN where there is none.

    Works level by level on the extremes of all runs of 1, 2, 4 ... values, so that any slice is
    covered by two runs.

    >>> extremes("least", np.array([3.0, 1.0, 2.0]), np.array([0, 2]), np.array([3, 2])).tolist()
    [1.0, nan]
    """
    better = np.fmin if select == "least" else np.fmax
    found = np.full(len(begin), np.nan)
    length = end - begin
    level = np.frexp(np.maximum(length, 0).astype(np.float64))[1] - 1
    runs = values
    for step in range(int(level.max(initial=-1)) + 1):
        here = np.flatnonzero(level == step)
        if len(here):
            found[here] = better(runs[begin[here]], runs[end[here] - (1 << step)])
        width = 1 << step
        if width < len(runs):
            runs = better(runs[:-width], runs[width:])
    return found


def nearest(select: Selection, values: Floats) -> Ints:
    """Return, per row, the last row up to it ("latest") or the first from it with a value.

    Where there is none it is -1 ("latest") or the number of rows.

    >>> nearest("latest", np.array([np.nan, 1.0, np.nan])).tolist()
    [-1, 1, 1]
    """
    places = np.arange(len(values))
    absent = np.isnan(values)
    if select == "latest":
        return np.maximum.accumulate(np.where(absent, -1, places))
    return np.minimum.accumulate(np.where(absent, len(values), places)[::-1])[::-1]


def expand(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return, for every row of every slice, the number of its slice and the row itself.

    >>> [part.tolist() for part in expand(np.array([4, 7]), np.array([6, 8]))]
    [[0, 0, 1], [4, 5, 7]]
    """
    length = np.maximum(end - begin, 0)
    owner = np.repeat(np.arange(len(begin)), length)
    start = np.cumsum(length) - length
    return owner, np.arange(len(owner)) - start[owner] + begin[owner]
