"""Ranks among slices of whole numbers, in time that does not depend on how long the slices are.

A wavelet matrix (Navarro and others 2015): the numbers are sorted bit by bit, from the
highest, and every level remembers in packed bits which way each number went. A question about a
slice walks down the levels; all questions walk together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homeostat.aggregate.arrays import Ints
from homeostat.aggregate.summaries import Slices

__all__ = ["Wavelet"]


@dataclass(frozen=True, slots=True)
class _Level:
    """Which numbers have the bit set: 64 to a word, and how many there are before each word."""

    words: npt.NDArray[np.uint64]
    before: Ints
    zeros: int

    @classmethod
    def of(cls, bits: npt.NDArray[np.bool_]) -> _Level:
        packed = np.packbits(bits, bitorder="little")
        words = np.zeros(len(bits) // 64 + 1, np.uint64)
        words.view(np.uint8)[: len(packed)] = packed
        before = np.zeros(len(words), np.int64)
        np.cumsum(np.bitwise_count(words[:-1]), out=before[1:])
        return cls(words, before, len(bits) - int(bits.sum()))

    def ones(self, row: Ints) -> Ints:
        """Return how many numbers before each row have the bit set."""
        word = row >> 6
        below = (np.uint64(1) << (row & 63).astype(np.uint64)) - np.uint64(1)
        found: Ints = self.before[word] + np.bitwise_count(self.words[word] & below)
        return found


class Wavelet:
    """Numbers from 0 up, with the means to rank any slices of them."""

    def __init__(self, numbers: Ints) -> None:
        self.depth = int(numbers.max(initial=0)).bit_length()
        self._levels: list[_Level] = []
        for bit in reversed(range(self.depth)):
            is_set = (numbers >> bit & 1).astype(np.bool_)
            self._levels.append(_Level.of(is_set))
            numbers = np.concatenate([numbers[~is_set], numbers[is_set]])

    def ranked(self, slices: Slices, rank: Ints) -> Ints:
        """Return the number of each rank (from 0) among the rows of each query, which has more.

        >>> numbers = Wavelet(np.array([3, 1, 2, 0]))
        >>> pieces = Slices(np.array([0, 3]), np.array([2, 4]), np.array([0]))
        >>> [numbers.ranked(pieces, np.array([rank])).tolist() for rank in range(3)]
        [[0], [1], [3]]
        """
        owner, begin, end = slices.owner, slices.begin, np.maximum(slices.begin, slices.end)
        found = np.zeros(len(slices), np.int64)
        for level in self._levels:
            ones = level.ones(begin), level.ones(end)
            zeros = np.add.reduceat(end - begin - (ones[1] - ones[0]), slices.first)
            up = rank >= zeros
            rank = np.where(up, rank - zeros, rank)
            found = found << 1 | up
            begin = np.where(up[owner], level.zeros + ones[0], begin - ones[0])
            end = np.where(up[owner], level.zeros + ones[1], end - ones[1])
        return found

    def below(self, begin: Ints, end: Ints, bound: Ints) -> Ints:
        """Return how many numbers of each slice are less than a bound.

        >>> numbers = Wavelet(np.array([3, 1, 2, 0]))
        >>> numbers.below(np.array([0, 1]), np.array([4, 3]), np.array([2, 9])).tolist()
        [2, 2]
        """
        all_of_them = bound >> self.depth > 0
        found = np.where(all_of_them, end - begin, 0)
        for level, bit in zip(self._levels, reversed(range(self.depth)), strict=True):
            ones = level.ones(begin), level.ones(end)
            up = (bound >> bit & 1).astype(np.bool_)
            zeros = end - begin - (ones[1] - ones[0])
            found = np.where(up & ~all_of_them, found + zeros, found)
            begin = np.where(up, level.zeros + ones[0], begin - ones[0])
            end = np.where(up, level.zeros + ones[1], end - ones[1])
        return found
