"""A blocked Bloom filter over ids, in memory: what it has not seen need not be looked up.

It may hold too much, never too little. It is cut by the first bits of an id into segments that are
made anew one at a time, so that it grows, and forgets, without a pause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["SEGMENTS", "IdFilter", "segment_bounds"]

Int64s = npt.NDArray[np.int64]

SEGMENTS = 16
"""As many as the 4 bits of a tie that `seen_loops.marked` skips."""

_IDS_PER_BLOCK = 28
"""Ids for which a block of 512 bits is made: 18 bits each, and 0.03 % of what is new is a hit."""

_STARTS = np.array([-(2**63) + number * (2**64 // SEGMENTS) for number in range(SEGMENTS)])


def segment_bounds(segment: int) -> tuple[int, int]:
    """Return the least and the greatest tie of a segment.

    >>> segment_bounds(8)
    (0, 1152921504606846975)
    """
    least = int(_STARTS[segment])
    return least, least + (2**64 // SEGMENTS - 1)


class IdFilter:
    """Which ids may have been marked.

    Args:
        least: ids that a segment has room for at least.

    >>> seen = IdFilter()
    >>> seen.mark(np.array([1, 5], np.int64)).tolist()
    [False, False]
    >>> seen.mark(np.array([2, 5], np.int64)).tolist()
    [False, True]
    """

    def __init__(self, least: int = 4_096) -> None:
        self._least = least
        self._words = [_words(least) for _ in range(SEGMENTS)]
        self._counts = [0] * SEGMENTS
        self._room = [least] * SEGMENTS

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it takes."""
        return sum(words.nbytes for words in self._words)

    def mark(self, ties: Int64s) -> npt.NDArray[np.bool_]:
        """Mark ids, and return which may have been marked before: True is a guess, False is sure.

        `ties` ascend and differ, int64 of shape (n,); so is the result, of booleans.
        """
        from homeostat.ingest.seen_loops import marked

        hits = np.empty(len(ties), np.bool_)
        cuts = [*np.searchsorted(ties, _STARTS).tolist(), len(ties)]
        for segment in range(SEGMENTS):
            begin, end = cuts[segment], cuts[segment + 1]
            if begin < end:
                marked(self._words[segment], ties[begin:end], hits[begin:end])
                self._counts[segment] += end - begin
        return hits

    def holds(self, tie: int) -> bool:
        """Return whether an id may have been marked; False is sure.

        >>> seen = IdFilter()
        >>> _ = seen.mark(np.array([5], np.int64))
        >>> seen.holds(5), seen.holds(6)
        (True, False)
        """
        from homeostat.ingest.seen_loops import held

        return bool(held(self._words[(tie + 2**63) * SEGMENTS >> 64], tie))

    def fullest(self) -> int | None:
        """Return the segment that has outgrown its room most, None if none has."""
        over = [count / room for count, room in zip(self._counts, self._room, strict=True)]
        most = max(over)
        return over.index(most) if most > 1 else None

    def rebuild(self, segment: int, parts: Iterable[Int64s], spare: float) -> None:
        """Make a segment anew, of these ids only, with room for `spare` times as many."""
        from homeostat.ingest.seen_loops import marked

        parts = list(parts)
        count = sum(map(len, parts))
        room = max(int(count * spare), self._least)
        words = _words(room)
        for ties in parts:
            marked(words, ties, np.empty(len(ties), np.bool_))
        self._words[segment], self._counts[segment], self._room[segment] = words, count, room

    def rebuild_all(self, parts: Callable[[int], Iterable[Int64s]]) -> None:
        """Make every segment anew; `parts(segment)` gives its ids.

        Their room differs, so that they do not outgrow it all at once.
        """
        for segment in range(SEGMENTS):
            self.rebuild(segment, parts(segment), 1.1 + 0.4 * segment / SEGMENTS)


def _words(ids: int) -> npt.NDArray[np.uint64]:
    return np.zeros(8 * (ids // _IDS_PER_BLOCK + 1), np.uint64)
