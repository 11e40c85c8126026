"""Delta tables, partitioned by day, appended exactly once, read as of an instant or a version.

delta-rs accepts an application transaction it has seen before, so `append` compares versions
first. Start worker processes by spawn: delta-rs does not survive a fork.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING

import polars as pl

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError, UnknownName
from homeostat.core.storage import storage
from homeostat.declare.names import twin_of
from homeostat.declare.schema import EventSchema
from homeostat.ingest.schema_compatibility import Incompatibility
from homeostat.lake.compaction import (
    Columns,
    Compacted,
    Order,
    compact_table,
    join_remote,
    loose_rows,
)
from homeostat.lake.encoding import writer_properties
from homeostat.lake.events import LakeEvents, Span, Stored
from homeostat.lake.evolved import Evolved, column_conflicts, rewrite
from homeostat.lake.inventory import TableStatus, status_of, table_files
from homeostat.lake.joining import RAW, join_raw
from homeostat.lake.locations import LakeFolderInvalid, Location, sizes
from homeostat.lake.vacuum import LakeVersionGone, Vacuumed, vacuum_table

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["Lake", "LakeFolderInvalid", "LakeMismatch"]

_DAY = "_day"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_KEEP_HISTORY = {"delta.logRetentionDuration": "interval 36500 days"}
"""Versions are data-set versions: Delta would otherwise forget them after 30 days."""
ATTEMPTS = 10
"""A commit is tried again if another writer changed the table in a way that matters."""
EVERYTHING = Span()


class LakeMismatch(HomeostatError, ValueError):
    """What is appended or asked for does not fit the table."""

    def __init__(self, table: str, found: str, allowed: str, next_step: str) -> None:
        super().__init__(f"lake table {table!r}: {found}; allowed: {allowed}; {next_step}.")


class _Handles(local):
    """The open tables of one thread: a handle that one refreshes, another must not commit with."""

    def __init__(self) -> None:
        self.tables: dict[str, DeltaTable] = {}


class Lake:
    """The tables under one folder, or address of an object store; any number of readers.

    Writers at once are safe: of two that commit the same version of an application one does
    nothing. A system has one per table.

    `declared` gives the schemas of tables that answer, with no rows, before their first append;
    `events` the event schemas of tables, under which rows of all earlier versions are read:
    columns by their present names, of their present types, with the defaults filled in; `keys` the
    columns by which compaction brings the rows of closed days together.

    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> lake = Lake(Path(tempfile.mkdtemp()))
    >>> at = datetime(2013, 1, 1, 12, tzinfo=UTC)
    >>> frame = pl.DataFrame({"_known_time": [at], "_offset": [7]})
    >>> lake.append("taps", frame, "fold", version=7), lake.append("taps", frame, "fold", version=7)
    (True, False)
    >>> lake.read("taps").height, lake.application_version("taps", "fold")
    (1, 7)
    """

    def __init__(
        self,
        where: Path | str,
        declared: Mapping[str, pl.Schema] | None = None,
        events: Mapping[str, EventSchema] | None = None,
        keys: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.location = Location.of(where)
        self._declared = dict(declared or {})
        self._events = dict(events or {})
        self._keys = dict(keys or {})
        self._handles = _Handles()
        self.location.prepare()

    @property
    def folder(self) -> Path:
        """The folder of the tables, where they are in one."""
        return Path(self.location.url)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders with files of tables; none for what is in an object store."""
        return () if self.location.is_remote else (self.folder,)

    def append(
        self,
        table: str,
        frame: pl.DataFrame,
        application: str,
        version: int,
        day: str = "_known_time",
    ) -> bool:
        """Add rows in one commit, unless `application` has already committed `version` or later.

        `day` names the instant column (Datetime us UTC, never missing) whose date is the
        partition; it is fixed by the first append. An empty frame commits the version alone.
        """
        from deltalake.exceptions import DeltaError

        with storage("lake table", self._path(table), OSError, DeltaError):
            return self._tried(table, frame, application, version, day)

    def _tried(
        self, table: str, frame: pl.DataFrame, application: str, version: int, day: str
    ) -> bool:
        """Append, and again if another writer was faster."""
        from deltalake.exceptions import CommitFailedError, DeltaError

        for _ in range(ATTEMPTS - 1):
            try:
                return self._append(table, frame, application, version, day)
            except CommitFailedError:  # another writer was faster: look at what it left
                continue
            except DeltaError:
                if table in self._handles.tables or not self.location.has_table(table):
                    raise  # it is not that another writer began the table
        return self._append(table, frame, application, version, day)

    def _append(
        self, table: str, frame: pl.DataFrame, application: str, version: int, day: str
    ) -> bool:
        from deltalake import CommitProperties, Transaction, write_deltalake

        self.evolve(table)
        target = self._table(table)
        if target is not None:
            # Nothing may refresh the table from here to the commit, which then sees who was faster.
            applied = target.transaction_version(application)
            if applied is not None and applied >= version:
                return False
            self._check(table, target, frame, day)
        for name, dtype in frame.schema.items():
            if dtype in (pl.Null, pl.List(pl.Null)):
                raise LakeMismatch(
                    table,
                    f"column {name!r} has no type, for all its values are missing",
                    "typed columns",
                    "cast it to the type it will have",
                )
        if frame.schema.get(day) != pl.Datetime("us", "UTC") or frame[day].null_count():
            raise LakeMismatch(
                table,
                f"the day column {day!r} is {frame.schema.get(day)}",
                "a Datetime('us', 'UTC') column without missing values",
                "name another column with day=",
            )
        # A second try of delta-rs to begin a table would add to the one that was begun meanwhile.
        write_deltalake(
            target if target is not None else self._path(table),
            frame.with_columns(pl.col(day).dt.date().alias(_DAY)),
            mode="append" if target is not None else "error",
            schema_mode="merge" if target is not None else None,
            partition_by=[_DAY],
            description=None if target is not None else json.dumps({"day": day}),
            configuration=None if target is not None else _KEEP_HISTORY,
            writer_properties=writer_properties(frame),
            commit_properties=CommitProperties(
                app_transactions=[Transaction(application, version)],
                max_commit_retries=None if target is not None else 0,
            ),
        )
        return True

    def application_version(self, table: str, application: str) -> int:
        """Return the last version `application` has committed to the table, -1 for none."""
        target = self._table(table)
        applied = None if target is None else target.transaction_version(application)
        return -1 if applied is None else int(applied)

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        known_before: Micros | None = None,
        *,
        known_from: Micros | None = None,
        version: int | None = None,
    ) -> pl.DataFrame:
        """Return rows in the order of `_offset`, or else of the day column and the first column.

        `known_from` <= day column < `known_before`, in microseconds; `version` reads the table as
        it was then. Only the days in question are opened.
        """
        target = self._table(table, version)
        if target is None:
            return self._empty(table, columns)
        stored = _schema(target)
        evolved = self._evolved(table, stored)
        schema = stored if evolved is None else evolved.schema()
        wanted = list(schema if columns is None else columns)
        names = tuple(stored) if evolved is None else evolved.names()
        for name in wanted:
            if name not in names:
                raise UnknownName("column", name, names, f"lake table {table!r}")
        day = _day_column(target)
        order = ["_offset"] if "_offset" in stored else [day, next(iter(stored))]
        files = self._files(table, target, _days(known_from, known_before))
        self._require_there(table, version, files)
        if not files:
            held = {**stored, **schema}
            return pl.DataFrame(schema={name: held[name] for name in wanted})
        rows = pl.scan_parquet(
            files, schema=stored, missing_columns="insert", hive_partitioning=False
        )
        if known_before is not None:
            rows = rows.filter(pl.col(day) < _instant(known_before))
        if known_from is not None:
            rows = rows.filter(pl.col(day) >= _instant(known_from))
        needed = list(dict.fromkeys([*wanted, *order]))
        found = rows.select(needed if evolved is None else map(evolved.expression, needed))
        return found.collect().sort(order, maintain_order=True).select(wanted)

    def events(self, table: str, span: Span = EVERYTHING, version: int | None = None) -> LakeEvents:
        """Return a table of events to be read in parts, in the order of their log.

        Row groups without an event of `span` are left out; of the others every row is there.
        """
        target = self._table(table, version)
        if target is None:
            return LakeEvents(Stored((), self._empty(table, None).schema), span)
        stored = _schema(target)
        if "_offset" not in stored:
            raise LakeMismatch(
                table, "its rows have no place in a log", "tables of events", "use `read`"
            )
        files = self._files(table, target, _days(span.begin, span.end))
        self._require_there(table, version, files)
        found = Stored(files, stored, self._evolved(table, stored), int(target.version()))
        return LakeEvents(found, span)

    def version(self, table: str) -> int:
        """Return the table's current version, -1 before its first append."""
        target = self._table(table)
        return -1 if target is None else int(target.version())

    def tables(self) -> tuple[str, ...]:
        """Return the names of all tables, stored or declared, sorted."""
        return tuple(sorted(self.location.tables() | set(self._declared)))

    def schema(self, table: str) -> pl.Schema:
        """Return the columns `read` answers with by default."""
        target = self._table(table)
        if target is None:
            return self._empty(table, None).schema
        stored = _schema(target)
        evolved = self._evolved(table, stored)
        return stored if evolved is None else evolved.schema()

    def names(self, table: str) -> frozenset[str]:
        """Return every column that can be asked for."""
        target = self._table(table)
        if target is None:
            return frozenset(self._empty(table, None).columns)
        stored = _schema(target)
        evolved = self._evolved(table, stored)
        return frozenset(stored if evolved is None else evolved.names())

    def stored_schema(self, table: str) -> pl.Schema:
        """Return the columns that are stored, by the names they were written under."""
        target = self._table(table)
        return self._empty(table, None).schema if target is None else _schema(target)

    def day_column(self, table: str) -> str:
        """Return the instant column that says which day a row is of."""
        target = self._table(table)
        return "_known_time" if target is None else _day_column(target)

    def evolved(self, table: str) -> Evolved | None:
        """Return how a table is read under its event schema, None if as it is stored."""
        target = self._table(table)
        return None if target is None else self._evolved(table, _schema(target))

    def conflicts(self, table: str) -> tuple[Incompatibility, ...]:
        """Return the fields of the table's event schema that it cannot hold.

        A table that is not there yet cannot be beside one whose name differs by case alone.
        """
        twin = twin_of(table, self.location.tables())
        if twin is not None:
            why = f"the lake has the table {twin!r}, whose name differs by case alone"
            return (Incompatibility(0, "table", table, why, f"call it {twin!r}, or a new name"),)
        target = self._table(table)
        if target is None or table not in self._events:
            return ()
        return tuple(column_conflicts(self._events[table], _schema(target)))

    def evolve(self, table: str) -> tuple[str, ...]:
        """Write a table again if its event schema asks for it; return the changed columns.

        That is one commit: earlier versions of the table stay as they are. `append` does it too,
        so calling it only chooses the moment.
        """
        target = self._table(table)
        evolved = self.evolved(table)
        changed = () if evolved is None else evolved.needs_rewriting()
        if target is None or evolved is None or not changed:
            return ()
        day = _day_column(target)
        rewrite(target, self._files(table, target, None), evolved, (day, _DAY))
        return changed

    def files(self, table: str) -> list[str]:
        """Return the Parquet files that make up the current version."""
        return [file for side in self.sides(table) for file in side.files]

    def sides(self, table: str) -> tuple[Stored, ...]:
        """Return the parts whose rows together are the table now; none before the first append."""
        target = self._table(table)
        if target is None:
            return ()
        stored = _schema(target)
        files = self._files(table, target, None)
        return (Stored(files, stored, self._evolved(table, stored), int(target.version())),)

    def compact(self, table: str, *, most: int | None = None, small: int = 2) -> Compacted:
        """Sort the rows of closed days, and join the small files of the open one; in one commit.

        Rows, their order in `read`, and all versions stay what they are. A closed day is one that
        the table has a later day than. `most` rows are enough (None: no bound), the rest is for
        another call; the open day is left alone if it has less than `small` files to join. In an
        object store the files of each day are joined, if one has so many, and nothing is sorted;
        nor is it in raw tables, which are in the order of the log.
        """
        target = self._table(table)
        if target is None:
            return Compacted()
        if self.location.is_remote:
            return join_remote(target, small)
        if self._is_raw(target):
            return join_raw(target, Path(self._path(table)), most, small)
        columns = Columns(Path(self._path(table)), _schema(target))
        return compact_table(target, columns, self._orders(table, target), most, small)

    def loose(self, table: str, *, most: int, small: int) -> int:
        """Return how many rows `compact` would sort and write again; none in an object store."""
        target = self._table(table)
        if target is None or self.location.is_remote or self._is_raw(target):
            return 0
        return loose_rows(target, self._orders(table, target), most, small)

    def _orders(self, table: str, target: DeltaTable) -> tuple[Order, Order]:
        """Return by what the rows of a closed day are sorted, and those of the open one."""
        in_log = self._order(table, target, ())
        return self._order(table, target, self._keys.get(table, ())), in_log

    def _order(self, table: str, target: DeltaTable, keys: Sequence[str]) -> Order:
        """Return by what rows are sorted that are brought together by keys."""
        stored = _schema(target)
        evolved = self._evolved(table, stored)
        if "_offset" not in stored:
            names = [_day_column(target), next(iter(stored))]
        else:
            system = [name for name in ("_event_time", "_tie") if keys and name in stored]
            names = [*keys, *system, "_offset"]
        by = [pl.col(name) if evolved is None else evolved.expression(name) for name in names]
        return Order(tuple(names), tuple(by))

    def vacuum(
        self, table: str, keep: Collection[int] = (), *, hours: int = 168, dry: bool = False
    ) -> Vacuumed:
        """Delete the files that no version in use needs; nobody else may write meanwhile.

        In use are the current version, those of `keep`, and those that were current less than
        `hours` ago. Reading another one raises `LakeVersionGone` if it had files of its own. `dry`
        only says what would be deleted.
        """
        target = self._table(table)
        if target is None:
            return Vacuumed()
        place = self._path(table)
        held = {file.removeprefix(place + "/"): size for file, size in sizes(place).items()}
        return vacuum_table(target, held, keep, hours, dry)

    def status(self, table: str) -> TableStatus:
        """Return what a table is made of."""
        target = self._table(table)
        files = [] if target is None else table_files(target)
        version = -1 if target is None else int(target.version())
        return status_of(table, files, version, sorts=not self._is_raw(target))

    def _is_raw(self, target: DeltaTable | None) -> bool:
        """Whether a table has records as they were received."""
        return target is not None and _schema(target) == RAW

    def _require_there(self, table: str, version: int | None, files: Sequence[str]) -> None:
        """Raise `LakeVersionGone` if files of a version of before were deleted."""
        if version is None:
            return
        there = sizes(self._path(table))
        missing = sum(file not in there for file in files)
        if missing:
            raise LakeVersionGone(table, version, missing, len(files))

    def _files(self, table: str, target: DeltaTable, days: str | None) -> list[str]:
        """Return the paths of the files of some days; Delta gives them as encoded addresses."""
        uris = target.file_uris(file_pruning_predicate=days)
        folder = self._path(table)
        return sorted("/".join([folder, *uri.rsplit("/", 2)[-2:]]) for uri in uris)

    def _path(self, table: str) -> str:
        if not _NAME.fullmatch(table):
            raise LakeMismatch(
                table,
                "the name is no folder name",
                "letters, digits, '_', '-' and '.', not first a '.'",
                "rename it",
            )
        return self.location.table(table)

    def _table(self, table: str, version: int | None = None) -> DeltaTable | None:
        """Return the table at its newest state, or at a version; None if nothing was appended."""
        from deltalake import DeltaTable

        path = self._path(table)
        found = self._handles.tables.get(table)
        if found is None:
            if not self.location.has_table(table):
                return None
            found = self._handles.tables[table] = DeltaTable(path)
        else:
            found.update_incremental()
        if version is None:
            return found
        if not 0 <= version <= found.version():
            raise LakeMismatch(
                table, f"version {version}", f"0 to {found.version()}", "ask for one of those"
            )
        return DeltaTable(path, version=version)

    def _check(self, table: str, target: DeltaTable, frame: pl.DataFrame, day: str) -> None:
        """Refuse a column of another type, which delta-rs would cast without a word."""
        there = _schema(target)
        if day != _day_column(target):
            raise LakeMismatch(
                table,
                f"day={day!r}",
                f"day={_day_column(target)!r}, as in the rows that are there",
                "append with that column",
            )
        for name, dtype in frame.schema.items():
            if name in there and there[name] != dtype:
                raise LakeMismatch(
                    table,
                    f"column {name!r} is {dtype}",
                    f"{there[name]}, as in the rows that are there",
                    "cast it, or write a new column",
                )

    def _evolved(self, table: str, stored: pl.Schema) -> Evolved | None:
        """Return how stored columns are read under the table's event schema, None if they are it.

        Raises `LakeMismatch` if they cannot be.
        """
        if table not in self._events:
            return None
        for conflict in column_conflicts(self._events[table], stored):
            raise LakeMismatch(
                table,
                f"column {conflict.field!r} is {stored[conflict.field]}, and the event class reads "
                "another type",
                "the type of the rows that are there, or float for integers",
                conflict.instead,
            )
        return Evolved(stored, self._events[table])

    def _empty(self, table: str, columns: Sequence[str] | None) -> pl.DataFrame:
        if table not in self._declared:
            raise UnknownName("table", table, self.tables(), f"lake {self.location.name!r}")
        schema = self._declared[table]
        wanted = list(schema if columns is None else columns)
        for name in wanted:
            if name not in schema:
                raise UnknownName("column", name, tuple(schema), f"lake table {table!r}")
        return pl.DataFrame(schema={name: schema[name] for name in wanted})


def _schema(target: DeltaTable) -> pl.Schema:
    schema = pl.Schema(target.schema().to_arrow())
    return pl.Schema({name: dtype for name, dtype in schema.items() if name != _DAY})


def _day_column(target: DeltaTable) -> str:
    return str(json.loads(target.metadata().description)["day"])


def _days(known_from: Micros | None, known_before: Micros | None) -> str | None:
    """Return the predicate on the partition column that keeps the days in question."""
    bounds = []
    if known_from is not None:
        bounds.append(f"{_DAY} >= '{from_micros(known_from).date()}'")
    if known_before is not None:
        bounds.append(f"{_DAY} <= '{from_micros(known_before - 1).date()}'")
    return " AND ".join(bounds) or None


def _instant(micros: Micros) -> pl.Expr:
    return pl.lit(micros, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
