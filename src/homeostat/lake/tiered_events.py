"""Events of a table that lie in two places, read part by part as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from homeostat.lake.events import OFFSET, LakeEvents

__all__ = ["TieredEvents"]


class TieredEvents(LakeEvents):
    """The parts of the cold place, and after them those of the hot one.

    Args:
        cold: the events of the cold place, all before the others in the log.
        hot: the events of the hot place; its columns are those of both.
        last: cold events after this offset are left out (of a version of before); None for none.
    """

    def __init__(self, cold: LakeEvents, hot: LakeEvents, last: int | None = None) -> None:
        self._cold, self._hot, self._last = cold, hot, last
        self.tail, self.version, self.schema = hot.tail, hot.version, hot.schema
        parts = [(cold, part, rows) for part, rows in _until(cold, last)]
        parts += [(hot, part, part.stop - part.start) for part in hot.parts]
        self.parts: list[slice] = []
        self._sides: dict[int, tuple[LakeEvents, slice, int]] = {}
        begin = 0
        for side, part, rows in parts:
            if rows or not self.parts:
                self._sides[begin] = side, part, rows
                self.parts = [p for p in self.parts if p.stop > p.start]
                self.parts.append(slice(begin, begin + rows))
            begin += rows
        self.rows = begin - (0 if hot.tail is None else hot.tail.height)
        self.files = (*cold.files, *hot.files)

    def followed_by(self, tail: pl.DataFrame) -> LakeEvents:
        """Return the same events, and after them those of a frame, which are in memory."""
        return TieredEvents(self._cold, self._hot.followed_by(tail), self._last)

    def gaps(self, column: str) -> bool:
        """Whether a value may be missing."""
        return self._hot.gaps(column) or column not in self._cold.schema or self._cold.gaps(column)

    def is_log(self, part: slice) -> bool:
        """Whether the rows of one of the parts are in the order of the log."""
        side, own, _ = self._sides[part.start]
        return side.is_log(own)

    def bounds(self, part: slice, column: str) -> tuple[Any, Any] | None:
        """Return values that no value of one of the parts is below, and above; None if unknown."""
        side, own, _ = self._sides[part.start]
        return side.bounds(own, column) if column in side.schema else None

    def read(self, part: slice, columns: Sequence[str]) -> pl.DataFrame:
        """Return some columns of one of the parts, or of sorted ones that follow each other."""
        side, own, rows = self._sides[part.start]
        if part.stop - part.start > rows:  # several parts, all of them hot
            own, rows = slice(own.start, own.start + part.stop - part.start), part.stop - part.start
        there = [name for name in columns if side is self._hot or name in side.schema]
        found = side.read(own, there).head(rows)
        if len(there) == len(columns) and found.schema == {n: self.schema[n] for n in columns}:
            return found
        return found.select(
            (pl.col(name) if name in there else pl.lit(None)).cast(self.schema[name]).alias(name)
            for name in columns
        )

    def size(self, columns: Sequence[str]) -> int:
        """Return how many bytes of the files some columns take."""
        there = [name for name in columns if name in self._cold.schema]
        return self._cold.size(there) + self._hot.size(columns)

    def heaviest(self, columns: Sequence[str]) -> int:
        """Return about how many bytes some columns of the largest part take in memory."""
        there = [name for name in columns if name in self._cold.schema]
        return max(self._cold.heaviest(there), self._hot.heaviest(columns))


def _until(events: LakeEvents, last: int | None) -> list[tuple[slice, int]]:
    """Return the parts with how many of their rows have an offset up to `last`."""
    found = [(part, part.stop - part.start) for part in events.parts]
    if last is None:
        return found
    for place in range(len(found) - 1, -1, -1):
        part, rows = found[place]
        kept = int((events.read(part, [OFFSET])[OFFSET] <= last).sum())
        found[place] = part, kept
        if kept == rows and rows:
            break  # those before it are all before it in the log
    return found
