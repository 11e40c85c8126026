"""Sums in which the past fades."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import isqrt, nan
from typing import ClassVar, Literal

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.exact import WEIGHT_LIMIT, SumRefused, rounded, split
from homeostat.aggregate.summaries import Rows, Slices

__all__ = ["STEPS", "DecayedSum"]

STEPS = 32
"""Steps of time per half-life, and half-lives after which an event weighs nothing."""

_AGES = STEPS * STEPS
_MOST = np.int64(2**63 - 1)
_WORDS = 5
_ROOM = 2.0**-11
"""The sum of all steps of one query is taken at this scale, where it cannot leave its range."""


@dataclass(frozen=True)
class DecayedSum:
    """A sum whose weights halve every `half_life`, from exact sums of the steps of time.

    Time is cut into steps of `half_life` / 32, on one grid for all entities. The state is, per
    step, its number, the three limbs of its exact sum, and the magnitude that went into the top
    one; steps more than 32 half-lives before the newest are dropped, for no read can see them.
    The value is the sum of the rounded sums of the steps, each times 2^(-age / 32), in which the
    products are added exactly and rounded once.
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
        return _added(np.concatenate([left, right]).reshape(-1, _WORDS))

    def value(self, state: Ints, at: int) -> list[float]:
        """Return the decayed sum at an instant, NaN if no event is recent enough."""
        table = state.reshape(-1, _WORDS)
        found = self._faded(np.zeros(len(table), np.int64), table, np.array([at]))
        return [float(found[0])]

    def index(self, rows: Rows) -> Rows:
        """Return the rows."""
        return rows

    def columns(self, index: Rows, slices: Slices, at: Ints) -> Floats:
        """Return the decayed sum of each query."""
        found = np.full((len(slices), 1), nan)
        for low, high, owner, row in slices.chunks():
            step = self._step(index.times[row])
            limbs = split(index.values[row], "a decayed sum")
            head = np.ones(len(row), np.bool_)
            head[1:] = (owner[1:] != owner[:-1]) | (step[1:] != step[:-1])
            table = np.concatenate([step[:, None], limbs, np.abs(limbs[:, :1])], axis=1)
            first = np.flatnonzero(head)
            found[low:high, 0] = self._faded(owner[first], _runs(table, first), at[low:high])
        return found

    def _step(self, times: Ints) -> Ints:
        return times // (self.half_life // STEPS)

    def _faded(self, owner: Ints, table: Ints, at: Ints) -> Floats:
        """Return the value of each query from the steps `table` of `owner`, in their order."""
        # An event that is newer than the instant is no older than nothing.
        age = np.maximum(self._step(at)[owner] - table[:, 0], 0)
        seen = age <= _AGES
        owner, table, age = owner[seen], table[seen], age[seen]
        if (table[:, 4] >= WEIGHT_LIMIT).any():
            raise SumRefused("a decayed sum")
        products = split(rounded(table[:, 1:4]) * _weights()[age] * _ROOM)
        found = np.full(len(at), nan)
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        if len(first):
            found[owner[first]] = rounded(np.add.reduceat(products, first)) / _ROOM
        return found


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
