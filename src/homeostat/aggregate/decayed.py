"""Sums in which the past fades."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import isqrt, nan
from typing import ClassVar, Literal

import numpy as np

from homeostat.aggregate.arrays import Bools, Floats, Ints
from homeostat.aggregate.exact import SCALE, WEIGHT_LIMIT, rounded, split, units
from homeostat.aggregate.slices import prefix, search
from homeostat.aggregate.summaries import Rows, Slices

__all__ = ["STEPS", "DecayedSum"]

STEPS = 32
"""Steps of time per half-life, and half-lives after which an event weighs nothing."""

_AGES = STEPS * STEPS
_MOST = 2**63 - 1
_WORDS = 5
_FEW = 64
"""Up to this many steps are added faster one by one than as columns."""

_ROOM = 2.0**-11
"""The sum of all steps of one query is taken at this scale, where it cannot leave its range."""


@dataclass(frozen=True, slots=True)
class _Steps:
    """The step of each row; the runs of rows of one step: their numbers, from 1, and first rows;
    and the running sums of the limbs and of the magnitudes' halves."""

    step: Ints
    run: Ints
    first: Ints
    limbs: Ints
    halves: Ints


@dataclass(frozen=True, slots=True)
class _Summed:
    """The exact sums of steps, with the queries that own them, in order; `heavy` have none."""

    owner: Ints
    step: Ints
    limbs: Ints
    heavy: Bools


@dataclass(frozen=True)
class DecayedSum:
    """A sum whose weights halve every `half_life`, from exact sums of the steps of time.

    Time is cut into steps of `half_life` / 32, on one grid for all entities. The state is, per
    step, its number, the three limbs of its exact sum, and the magnitude that went into the top
    one; steps more than 32 half-lives before the newest are dropped, for no read can see them.
    The value is the sum of the rounded sums of the steps, each times 2^(-age / 32), in which the
    products are added exactly and rounded once. It is missing as long as a step is seen whose sum
    is not exact.
    """

    half_life: int
    reads: ClassVar[Literal["value"]] = "value"
    parts: ClassVar[tuple[str, ...]] = ("",)
    most: ClassVar[int] = _WORDS * (_AGES + 1)

    def state(self, rows: Rows) -> Ints:
        """Return the words of every step that has an event, in the order of time.

        >>> rows = Rows(np.array([0, 32_000_000]), np.arange(2), np.array([8.0, 1.0]))
        >>> fading = DecayedSum(32_000_000)
        >>> fading.value(fading.state(rows), 64_000_000)
        [2.5]
        """
        table = np.empty((len(rows.values), _WORDS), np.int64)
        table[:, 0] = self._step(rows.times)
        table[:, 1:4] = split(rows.values, "a decayed sum")
        table[:, 4] = np.abs(table[:, 1])
        return _added(table)

    def merge(self, left: Ints, right: Ints) -> Ints:
        """Add the sums of equal steps."""
        if len(right) == _WORDS:  # one step: most often the newest
            place = _WORDS * int(np.searchsorted(left[::_WORDS], right[0]))
            if place < len(left) and left[place] == right[0]:
                found = left.copy()
                found[place + 1 : place + 4] += right[1:4]
                found[place + 4] = min(int(left[place + 4]) + int(right[4]), _MOST)
                return found
        return _added(np.concatenate([left, right]).reshape(-1, _WORDS))

    def value(self, state: Ints, at: int) -> list[float]:
        """Return the decayed sum at an instant, NaN if no event is recent enough
        or a step has no exact sum."""
        table = state.reshape(-1, _WORDS)
        if len(table) <= _FEW:
            return [self._faded_one(table, at)]
        owner, heavy = np.zeros(len(table), np.int64), table[:, 4] >= WEIGHT_LIMIT
        steps = _Summed(owner, table[:, 0], table[:, 1:4], heavy)
        return [float(self._faded(steps, np.array([at]))[0])]

    def index(self, rows: Rows) -> _Steps:
        """Return the runs of rows of one step, and the running sums of all rows."""
        step = self._step(rows.times)
        limbs = split(rows.values, "a decayed sum")
        size = np.abs(limbs[:, 0])
        head = np.ones(len(step), np.bool_)
        head[1:] = step[1:] != step[:-1]
        halves = np.stack([size >> 31, size & 0x7FFF_FFFF], axis=1)
        first = np.append(np.flatnonzero(head), len(step))
        return _Steps(step, np.cumsum(head), first, prefix(limbs), prefix(halves))

    def columns(self, index: _Steps, slices: Slices, at: Ints) -> Floats:
        """Return the decayed sum of each query."""
        found = np.full((len(slices), 1), nan)
        oldest = (self._step(at) - _AGES)[slices.owner]
        end = np.maximum(slices.end, slices.begin)
        begin = search(index.step, slices.begin, end, oldest)
        runs = np.append(0, index.run)
        # The runs of a slice: from that of its first row, counted from 0, to that of its last.
        first, last = runs[np.minimum(begin + 1, end)] - 1, runs[end]
        spans = Slices(np.where(end > begin, first, last), last, slices.first)
        for chunk in spans.chunks():
            start = np.maximum(index.first[chunk.row], begin[chunk.piece])
            stop = np.minimum(index.first[chunk.row + 1], end[chunk.piece])
            steps = _summed(index, chunk.owner, start, stop)
            found[chunk.low : chunk.high, 0] = self._faded(steps, at[chunk.low : chunk.high])
        return found

    def _step(self, times: Ints) -> Ints:
        return times // (self.half_life // STEPS)

    def _faded_one(self, table: Ints, at: int) -> float:
        """Return the value from a few steps, in whole numbers: faster than with arrays."""
        now, total, seen = at // (self.half_life // STEPS), 0, False
        for step, high, middle, low, weight in table.tolist():
            age = max(now - step, 0)
            if age > _AGES:
                continue
            if weight >= WEIGHT_LIMIT:
                return nan
            product = units((high, middle, low)) / SCALE * _weights_list()[age] * _ROOM
            total, seen = total + round(product * SCALE), True
        return total / SCALE / _ROOM if seen else nan

    def _faded(self, steps: _Summed, at: Ints) -> Floats:
        """Return the value of each query."""
        # An event that is newer than the instant is no older than nothing.
        age = np.maximum(self._step(at)[steps.owner] - steps.step, 0)
        seen = age <= _AGES
        owner = steps.owner[seen]
        products = split(rounded(steps.limbs[seen]) * _weights()[age[seen]] * _ROOM)
        found = np.full(len(at), nan)
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        if len(first):
            found[owner[first]] = rounded(np.add.reduceat(products, first)) / _ROOM
            found[owner[steps.heavy[seen]]] = nan
        return found


def _summed(index: _Steps, owner: Ints, start: Ints, stop: Ints) -> _Summed:
    """Add the parts `[start, stop)` of runs; a step of one owner may be in several of them."""
    step = index.step[start]
    head = np.ones(len(step), np.bool_)
    head[1:] = (owner[1:] != owner[:-1]) | (step[1:] != step[:-1])
    first = np.flatnonzero(head)
    limbs, halves = index.limbs[stop] - index.limbs[start], index.halves[stop] - index.halves[start]
    if len(first):
        limbs, halves = np.add.reduceat(limbs, first), np.add.reduceat(halves, first)
    heavy = halves[:, 0] + (halves[:, 1] >> 31) >= WEIGHT_LIMIT >> 31
    return _Summed(owner[first], step[first], limbs, heavy)


def _added(table: Ints) -> Ints:
    """Add the rows of equal steps, and drop those that are too old for any read."""
    table = table[np.argsort(table[:, 0], kind="stable")]
    first = np.flatnonzero(np.diff(table[:, 0], prepend=table[:1, 0] - 1))
    if not len(first):
        return np.empty(0, np.int64)
    found = _runs(table, first)
    kept: Ints = found[found[:, 0] >= found[-1, 0] - _AGES]
    return kept.reshape(-1)


def _runs(table: Ints, first: Ints) -> Ints:
    """Add the limbs of each run that begins at `first`, and its magnitudes up to 2^63 - 1."""
    if not len(first):
        return table
    found = np.add.reduceat(table, first)
    found[:, 0] = table[first, 0]
    upper = np.add.reduceat(table[:, 4] >> 31, first)
    lower = np.add.reduceat(table[:, 4] & 0x7FFF_FFFF, first)
    found[:, 4] = np.where(upper + (lower >> 31) >= 2**32, _MOST, found[:, 4])
    return found


@cache
def _weights() -> Floats:
    """Return 2^(-age / 32) for every age, correctly rounded on every machine."""
    unit = 1 << 300
    root = 2 * unit
    for _ in range(STEPS.bit_length() - 1):
        root = isqrt(root * unit)
    within = [float(Fraction(unit**r, root**r)) for r in range(STEPS)]
    return np.array([within[age % STEPS] * 0.5 ** (age // STEPS) for age in range(_AGES + 1)])


@cache
def _weights_list() -> list[float]:
    found: list[float] = _weights().tolist()
    return found
