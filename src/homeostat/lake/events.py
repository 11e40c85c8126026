"""The events of a table, read from its Parquet files part by part.

Delta keeps files by day and in no order. What the order is, the files' footers say: every row group
tells its first and last offset. Row groups that overlap are read together, and what is read is put
in the order of the log. Only of a day that compaction has sorted by entity and time the row groups
are read as they are, one by one, in the place of the day's events in the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import polars as pl

from homeostat.core.clock import to_micros
from homeostat.core.durations import Micros
from homeostat.lake.compaction import ORDER
from homeostat.lake.evolved import Evolved
from homeostat.lake.locations import footers

__all__ = ["LakeEvents", "Span", "Stored"]

PART, PART_BYTES = 1 << 19, 256 << 20
"""Events, and their bytes before compression, that are read at once; row groups that overlap may
have more."""

TEXT = 32
"""Bytes of a text in memory: where it is, how long it is, and some letters."""

OFFSET, KNOWN = "_offset", "_known_time"


@dataclass(frozen=True, slots=True)
class Span:
    """Events that became known at `begin` or later and before `end`; None: unbounded."""

    begin: Micros | None = None
    end: Micros | None = None

    def may_meet(self, first: Micros, last: Micros) -> bool:
        """Whether an event of [first, last] may be inside."""
        return (self.end is None or first < self.end) and (self.begin is None or last >= self.begin)


@dataclass(frozen=True, slots=True)
class Stored:
    """A table as it lies on disk: its files, its columns, and how these are read (None: as is)."""

    files: Sequence[str]
    schema: pl.Schema
    evolved: Evolved | None = None
    version: int = -1


@dataclass(frozen=True, slots=True)
class _Group:
    """One row group: its `rows` after `begin` among those `of` its file, its first and last
    offset, whether they are sorted by entity, its `plain` bytes before compression, and what it
    says of each column."""

    file: str
    begin: int
    rows: int
    of: int
    first: int
    last: int
    is_sorted: bool
    plain: int
    columns: Mapping[str, Any] = field(repr=False)

    def size(self, name: str) -> int:
        found = self.columns.get(name)
        return 0 if found is None else int(found.total_compressed_size)

    def is_full(self, name: str) -> bool:
        """Whether every row is known to have a value."""
        found = self.columns.get(name)
        known = None if found is None else found.statistics
        return known is not None and known.has_null_count and known.null_count == 0

    def bounds(self, name: str) -> tuple[Any, Any] | None:
        return _bounds(self.columns.get(name))


class LakeEvents:
    """Events that a table holds, those outside a span left out where a whole row group is.

    `parts` are runs of rows; reading one opens its files and no others. Those of which
    `is_log` is not true are sorted by entity and time, and equal ones as in the log; where the
    events of one day end and those of the next begin is the order of the log in any case. `files`
    and `rows` are what all of them together open, `version` is the table's. `tail` are the
    next events of the log, which the table does not hold yet.
    """

    def __init__(self, stored: Stored, span: Span, tail: pl.DataFrame | None = None) -> None:
        self.tail = tail
        self._made_of = stored, span
        self._stored, self._evolved = stored, stored.evolved
        self.version = stored.version
        self.schema = stored.schema if stored.evolved is None else stored.evolved.schema()
        groups = sorted(_groups(stored.files, span), key=lambda group: group.first)
        self._parts = list(_parts(groups))
        self.rows = _rows(groups)
        self.files = tuple(dict.fromkeys(group.file for group in groups))
        ends = [0]
        for part in self._parts:
            ends.append(ends[-1] + _rows(part))
        if tail is not None:
            ends.append(ends[-1] + tail.height)
        self.parts = [slice(*ends) for ends in pairwise(ends)] or [slice(0, 0)]
        self._place = {part.start: number for number, part in enumerate(self.parts)}

    def followed_by(self, tail: pl.DataFrame) -> LakeEvents:
        """Return the same events, and after them those of a frame, which are in memory."""
        return LakeEvents(*self._made_of, tail)

    def gaps(self, column: str) -> bool:
        """Whether a value may be missing."""
        if self.tail is not None and self.tail[column].null_count():
            return True
        if not self._expression(column).meta.eq(pl.col(column)):
            return True
        return not all(group.is_full(column) for part in self._parts for group in part)

    def is_log(self, part: slice) -> bool:
        """Whether the rows of one of the parts are in the order of the log."""
        number = self._place[part.start]
        return number >= len(self._parts) or not _is_sorted(self._parts[number])

    def bounds(self, part: slice, column: str) -> tuple[Any, Any] | None:
        """Return values that no value of one of the parts is below, and above; None if unknown."""
        number = self._place[part.start]
        if number >= len(self._parts) or not self._expression(column).meta.eq(pl.col(column)):
            return None
        found = [group.bounds(column) for group in self._parts[number]]
        known = [bounds for bounds in found if bounds is not None]
        if len(known) < len(found):
            return None
        return min(low for low, _ in known), max(high for _, high in known)

    def read(self, part: slice, columns: Sequence[str]) -> pl.DataFrame:
        """Return some columns of one of the parts, or of sorted ones that follow each other."""
        number = self._place[part.start]
        if number == len(self._parts) and self.tail is not None:
            return self.tail.select(columns)
        if not self._parts:
            return pl.DataFrame(schema={name: self.schema[name] for name in columns})
        if _is_sorted(self._parts[number]):
            return self._read_sorted(number, part.stop, columns)
        wanted = [*map(self._expression, columns), pl.col(OFFSET).alias("_order")]
        scans = [self._scan(*run) for run in _runs(self._parts[number])]
        found = pl.concat([scan.select(wanted) for scan in scans]).collect()
        if not found["_order"].is_sorted():
            found = found.sort("_order")
        return found.drop("_order")

    def _read_sorted(self, number: int, stop: int, columns: Sequence[str]) -> pl.DataFrame:
        pieces: list[tuple[str, int, int]] = []
        for part, [group] in zip(self.parts[number:], self._parts[number:], strict=False):
            begin, end = group.begin, group.begin + group.rows
            if pieces and pieces[-1][0] == group.file and pieces[-1][2] == begin:
                begin = pieces.pop()[1]
            pieces.append((group.file, begin, end))
            if part.stop >= stop:
                break
        wanted = list(map(self._expression, columns))
        scans = [self._scan([file], slice(begin, end)) for file, begin, end in pieces]
        return pl.concat([scan.select(wanted) for scan in scans]).collect()

    def size(self, columns: Sequence[str]) -> int:
        """Return how many bytes of the files some columns take; the offsets are read with them."""
        names = self._names(columns)
        return sum(group.size(name) for part in self._parts for group in part for name in names)

    def heaviest(self, columns: Sequence[str]) -> int:
        """Return about how many bytes some columns of the largest part take in memory."""
        width = sum(_width(self.schema[name]) for name in {*columns, OFFSET} & set(self.schema))
        largest = max(part.stop - part.start for part in self.parts)
        return width * max(largest, min(PART, self.parts[-1].stop))

    def _names(self, columns: Sequence[str]) -> set[str]:
        found = {root for name in columns for root in self._expression(name).meta.root_names()}
        return found | {OFFSET}

    def _expression(self, name: str) -> pl.Expr:
        return pl.col(name) if self._evolved is None else self._evolved.expression(name)

    def _scan(self, files: list[str], rows: slice | None) -> pl.LazyFrame:
        scan = pl.scan_parquet(
            files, schema=self._stored.schema, missing_columns="insert", hive_partitioning=False
        )
        return scan if rows is None else scan.slice(rows.start, rows.stop - rows.start)


def _width(dtype: pl.DataType) -> int:
    """Return about how many bytes a value takes in a frame."""
    return TEXT if dtype == pl.String else 1 if dtype == pl.Boolean else 8


def _groups(files: Sequence[str], span: Span) -> Iterator[_Group]:
    for file, footer in footers(files):
        begin = 0
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            columns = {
                column.path_in_schema: column
                for column in (group.column(place) for place in range(group.num_columns))
            }
            first, last = _bounds(columns.get(OFFSET)) or (-1, 2**63 - 1)
            is_sorted = _says_sorted(footer) and first >= 0
            known = _bounds(columns.get(KNOWN))
            if known is None or span.may_meet(to_micros(known[0]), to_micros(known[1])):
                rows, of = group.num_rows, footer.num_rows
                plain = group.total_byte_size
                yield _Group(file, begin, rows, of, first, last, is_sorted, plain, columns)
            begin += group.num_rows


def _bounds(column: Any) -> tuple[Any, Any] | None:
    known = None if column is None else column.statistics
    return None if known is None or not known.has_min_max else (known.min, known.max)


def _says_sorted(footer: Any) -> bool:
    """Whether a file says that its rows are sorted by something, and equal ones as in the log."""
    said = (footer.metadata or {}).get(ORDER)
    names = [] if said is None else json.loads(said)
    return len(names) > 1 and names[-1] == OFFSET


def _is_sorted(part: Sequence[_Group]) -> bool:
    return len(part) == 1 and part[0].is_sorted


def _parts(groups: Sequence[_Group]) -> Iterator[list[_Group]]:
    """Yield row groups that are read together: up to `PART` rows of `PART_BYTES`, or an overlap.

    Sorted ones that overlap only each other are read one by one.
    """
    part: list[_Group] = []
    for overlap in _overlaps(groups):
        if all(group.is_sorted for group in overlap):
            if part:
                yield part
                part = []
            yield from ([g] for g in sorted(overlap, key=lambda group: (group.file, group.begin)))
            continue
        rows, size = _rows(part) + _rows(overlap), _bytes(part) + _bytes(overlap)
        if part and (rows > PART or size > PART_BYTES):
            yield part
            part = []
        part = part + overlap
    if part:
        yield part


def _overlaps(groups: Sequence[_Group]) -> Iterator[list[_Group]]:
    """Yield groups that hold offsets between each other's; `groups` are by their first."""
    found: list[_Group] = []
    last = -1
    for group in groups:
        if found and group.first > last:
            yield found
            found = []
        found.append(group)
        last = max(last, group.last)
    if found:
        yield found


def _runs(part: Sequence[_Group]) -> Iterator[tuple[list[str], slice | None]]:
    """Yield what is read at once: all rows (None) of several files, or some rows of one."""
    by_file: dict[str, list[_Group]] = {}
    for group in part:
        by_file.setdefault(group.file, []).append(group)
    whole = [file for file, groups in by_file.items() if _rows(groups) == groups[0].of]
    if whole:
        yield whole, None  # thousands of small files are one scan
    for file, groups in by_file.items():
        for group in groups if file not in whole else ():
            yield [file], slice(group.begin, group.begin + group.rows)


def _bytes(groups: Sequence[_Group]) -> int:
    """Return how many bytes row groups have before compression."""
    return sum(group.plain for group in groups)


def _rows(groups: Sequence[_Group]) -> int:
    return sum(group.rows for group in groups)
