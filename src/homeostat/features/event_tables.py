"""Where the events of a source are read from: a frame, or Parquet files that need not fit."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import polars as pl

__all__ = ["EventTable", "FrameEvents", "ParquetEvents", "as_table", "read_ahead"]

PART = 1 << 20
"""Events that are read at once."""

RUN = 1 << 19
"""Events of sorted parts that are read at once."""


class EventTable(Protocol):
    """Events of one source, in the order of their log or, in some parts, sorted by entity.

    The parts follow the log: of two equal events of an entity (same event time, same tie) the one
    that comes first here came first there.
    """

    @property
    def schema(self) -> pl.Schema:
        """The columns and their types."""
        ...

    @property
    def parts(self) -> Sequence[slice]:
        """The runs of rows that are read at once, in order; at least one."""
        ...

    def is_log(self, part: slice) -> bool:
        """Whether the events of one of the parts are in the order of the log."""
        ...

    def bounds(self, part: slice, column: str) -> tuple[Any, Any] | None:
        """Return values that no value of one of the parts is below, and above; None if unknown."""
        ...

    def gaps(self, column: str) -> bool:
        """Whether a value may be missing."""
        ...

    def read(self, part: slice, columns: Sequence[str]) -> pl.DataFrame:
        """Return some columns of one of the parts, or of sorted ones that follow each other."""
        ...


def runs(table: EventTable, numbers: Sequence[int]) -> Iterator[range]:
    """Yield parts, given by their numbers in order, that are read at once.

    That is one, or sorted ones that follow each other, up to `RUN` rows.
    """
    parts, begin, end = table.parts, 0, 0
    for number in numbers:
        follows = number == end > begin and not table.is_log(parts[number])
        if not (
            follows
            and not table.is_log(parts[begin])
            and parts[number].stop - parts[begin].start <= RUN
        ):
            if end > begin:
                yield range(begin, end)
            begin = number
        end = number + 1
    if end > begin:
        yield range(begin, end)


def read_ahead(
    table: EventTable, numbers: Sequence[int], columns: Sequence[str]
) -> Iterator[tuple[range, pl.DataFrame]]:
    """Yield some of the parts, in runs of them; the next is read while one is worked on."""
    with ThreadPoolExecutor(1) as reading:
        waiting: deque[tuple[range, Future[pl.DataFrame]]] = deque()
        for run in runs(table, numbers):
            part = slice(table.parts[run[0]].start, table.parts[run[-1]].stop)
            waiting.append((run, reading.submit(table.read, part, columns)))
            if len(waiting) > 1:
                first, read = waiting.popleft()
                yield first, read.result()
        for last, read in waiting:
            yield last, read.result()


def as_table(events: pl.DataFrame | EventTable) -> EventTable:
    """Return events as a table, in whatever form they were given."""
    return FrameEvents(events) if isinstance(events, pl.DataFrame) else events


def _parts(n: int) -> list[slice]:
    return [slice(at, min(at + PART, n)) for at in range(0, max(n, 1), PART)]


class FrameEvents:
    """The events of a frame."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame
        self.schema, self.parts = frame.schema, _parts(frame.height)

    def is_log(self, part: slice) -> bool:
        """All is in the order of the log."""
        return True

    def bounds(self, part: slice, column: str) -> None:
        """Nothing is known before reading."""

    def gaps(self, column: str) -> bool:
        """Whether a value is missing."""
        return self._frame[column].null_count() > 0

    def read(self, part: slice, columns: Sequence[str]) -> pl.DataFrame:
        """Return some columns of one of the parts; nothing is copied."""
        return self._frame.select(columns)[part]


class ParquetEvents:
    """The events of Parquet files, given in the order of the log; parts are read when needed.

    No more than a part of one file is in memory at a time.
    """

    def __init__(self, files: Sequence[str | Path]) -> None:
        import pyarrow.parquet as parquet

        self._files = [str(file) for file in files]
        self._first: list[int] = []
        self._gaps: dict[str, bool] = {}
        self.parts: list[slice] = []
        rows = 0
        for file in self._files:
            footer = parquet.read_metadata(file)
            self._first.append(rows)
            for number in range(footer.num_row_groups):
                self._note_gaps(footer.row_group(number))
            parts = _parts(footer.num_rows) if footer.num_rows else []
            self.parts += [slice(rows + p.start, rows + p.stop) for p in parts]
            rows += footer.num_rows
        self.parts = self.parts or _parts(0)
        self.schema = pl.scan_parquet(self._files[0]).collect_schema()

    def _note_gaps(self, group: object) -> None:
        columns = (group.column(n) for n in range(group.num_columns))  # type: ignore[attr-defined]
        for column in columns:
            known = column.statistics
            missing = known is None or not known.has_null_count or known.null_count > 0
            name = column.path_in_schema
            self._gaps[name] = self._gaps.get(name, False) or missing

    def is_log(self, part: slice) -> bool:
        """All is in the order of the log."""
        return True

    def bounds(self, part: slice, column: str) -> None:
        """Nothing is known before reading."""

    def gaps(self, column: str) -> bool:
        """Whether a value is missing, or the files do not say."""
        return self._gaps.get(column, True)

    def read(self, part: slice, columns: Sequence[str]) -> pl.DataFrame:
        """Read some columns of one of the parts."""
        number = bisect_right(self._first, part.start) - 1
        near = part.start - self._first[number]
        file = pl.scan_parquet(self._files[number]).select(columns)
        return file.slice(near, part.stop - part.start).collect()
