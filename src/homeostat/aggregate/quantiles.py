"""Quantiles from logarithmic bins."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ldexp, nan
from typing import ClassVar, Literal

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.summaries import Rows, Slices, counted, woven
from homeostat.aggregate.wavelet import Wavelet

__all__ = ["Quantiles"]

_MANTISSA = 52
_SMALLEST = 1023 - 74
"""The exponent bits of 2^-74, as small as what the exact sums see; less than that is 0."""

_OCTAVES = 1024 + 74
"""From 2^-74 to the largest float64."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The middles of all bins, in their order, and the ranks of the rows' bins among them."""

    middles: Floats
    places: Wavelet


@dataclass(frozen=True)
class Quantiles:
    """Quantiles with a relative error of at most `error`; the state is the count of each bin.

    A bin is cut from the bits of a float64, so no logarithm is taken: its sign, its exponent and
    as many bits of its mantissa as the error needs. A quantile is the middle of its bin.
    """

    q: tuple[float, ...]
    error: float
    reads: ClassVar[Literal["value"]] = "value"

    @property
    def parts(self) -> tuple[str, ...]:
        """One feature per quantile."""
        return tuple(str(share) for share in self.q)

    @property
    def most(self) -> int:
        """A bin and its count, for as many bins as there can be."""
        return 2 * (2 * (_OCTAVES << self._bits) + 1)

    @cached_property
    def _shares(self) -> list[Fraction]:
        return [Fraction(str(share)) for share in self.q]

    @cached_property
    def _bits(self) -> int:
        """The bits of the mantissa that a bin keeps: its half-width is 1 / (2^(bits + 1) + 1)."""
        return next(bits for bits in range(16) if 1 / (2 ** (bits + 1) + 1) <= self.error)

    @cached_property
    def _shift(self) -> int:
        return _MANTISSA - self._bits

    def state(self, rows: Rows) -> Ints:
        """Return (bin, count) of every bin that is not empty, in their order.

        >>> rows = Rows(np.arange(3), np.arange(3), np.array([1.0, 5.0, 100.0]))
        >>> half = Quantiles((0.5,), 0.01)
        >>> half.value(half.state(rows), 0)
        [5.031055900621118]
        """
        return woven(*counted(self._bins(rows.values)))

    def merge(self, left: Ints, right: Ints) -> Ints:
        """Add the counts."""
        if len(right) == 2:  # one bin: most often one that is there
            at = 2 * int(np.searchsorted(left[::2], right[0]))
            if at < len(left) and left[at] == right[0]:
                found = left.copy()
                found[at + 1] += right[1]
                return found
            return np.concatenate([left[:at], right, left[at:]])
        both = np.concatenate([left, right])
        found, place = np.unique(both[::2], return_inverse=True)
        count = np.zeros(len(found), np.int64)
        np.add.at(count, place, both[1::2])
        return woven(found, count)

    def value(self, state: Ints, at: int) -> list[float]:
        """Return the quantiles; the instant plays no part."""
        if not len(state):
            return [nan] * len(self.q)
        total = state[1::2].cumsum()
        count = int(total[-1])
        ranks = [-(-f.numerator * count // f.denominator) for f in self._shares]
        return [self._middle(int(state[2 * place])) for place in total.searchsorted(ranks)]

    def index(self, rows: Rows) -> _Ranked:
        """Return the bins that occur, and for each row which of them it is in."""
        bins, place = np.unique(self._bins(rows.values), return_inverse=True)
        return _Ranked(self._middles(bins), Wavelet(place))

    def columns(self, index: _Ranked, slices: Slices, at: Ints) -> Floats:
        """Return the quantiles of each query."""
        found = np.full((len(slices), len(self.q)), nan)
        count = slices.rows
        some = count > 0
        for part, ranks in enumerate(self._ranks(np.maximum(count, 1)) if some.any() else ()):
            places = index.places.ranked(slices, ranks - 1)
            found[some, part] = index.middles[places[some]]
        return found

    def _ranks(self, count: Ints) -> Ints:
        """Return the rank of each quantile, shape (quantiles, counts): its share of the count,
        rounded up, without the errors of floating point."""
        return np.stack([-(-f.numerator * count // f.denominator) for f in self._shares])

    def _bins(self, values: Floats) -> Ints:
        size: Ints = (np.abs(values).view(np.int64) >> self._shift) - (_SMALLEST << self._bits) + 1
        size = np.minimum(np.maximum(size, 0), _OCTAVES << self._bits)
        return np.where(values < 0, -size, size)

    def _middle(self, found: int) -> float:
        """Return the number whose relative distance to both ends of its bin is the same."""
        if found == 0:
            return 0.0
        octave, place = divmod(abs(found) - 1, 1 << self._bits)
        low, high = (1.0 + (place + n) / (1 << self._bits) for n in (0, 1))
        middle = ldexp(2.0 * low * high / (low + high), octave + _SMALLEST - 1023)
        return middle if found > 0 else -middle

    def _middles(self, bins: Ints) -> Floats:
        """Return `_middle` of each bin."""
        octave, place = np.divmod(np.abs(bins) - 1, 1 << self._bits)
        low, high = (1.0 + (place + n) / (1 << self._bits) for n in (0, 1))
        middle = np.ldexp(2.0 * low * high / (low + high), octave + (_SMALLEST - 1023))
        return np.where(bins == 0, 0.0, np.copysign(middle, bins))
