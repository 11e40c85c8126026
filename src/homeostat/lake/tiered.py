"""A lake whose old days may be in a second place, or deleted; read as if it were one.

A day is in one tier at a time. Moving it is two commits: its rows are appended to the cold table,
with the day as the version of an application transaction, and then leave the hot one. The cold
table's transaction decides: days up to it are read there and nowhere else, so that a process killed
between the two leaves nothing lost and nothing doubled. Readers look at it before and after, and
begin again if a day was moved meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from homeostat.core.clock import to_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.schema import EventSchema
from homeostat.ingest.schema_compatibility import Incompatibility
from homeostat.lake.events import LakeEvents, Span, Stored
from homeostat.lake.inventory import TableFile, TableStatus, status_of, table_files
from homeostat.lake.tables import EVERYTHING, Lake, LakeMismatch
from homeostat.lake.tiered_events import TieredEvents
from homeostat.lake.vacuum import Vacuumed

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["ColdMissing", "DaysDeleted", "TieredLake"]

COLD, DELETED = "tier", "retention"
"""Applications whose version is the last day, as its ordinal, that was moved or deleted."""

AGAIN = 100
"""So many days may be moved under a reader before it gives up."""


class ColdMissing(HomeostatError):
    """Days of a table are in a cold place, and none is named."""

    def __init__(self, table: str, day: date) -> None:
        super().__init__(
            f"lake table {table!r}: its days up to {day} are in a cold place, and none is named; "
            "allowed: the place they were moved to; name it, as cold under [lake] of the profile"
        )


class DaysDeleted(HomeostatError):
    """A version of a table is asked for that had days which are deleted now."""

    def __init__(self, table: str, version: int, day: date) -> None:
        super().__init__(
            f"lake table {table!r}, version {version}: it had days up to {day}, which were deleted "
            "by their retention; allowed: instants after that day, or the present version; keep "
            "days for longer where models must be rebuilt"
        )


class TieredLake(Lake):
    """A lake with a hot place, which is written, and perhaps a cold one, for days that are over.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> lake = TieredLake(folder / "hot", folder / "cold")
    >>> at = [datetime(2024, 5, day, tzinfo=UTC) for day in (20, 21)]
    >>> frame = pl.DataFrame({"_known_time": at, "_offset": [0, 1]})
    >>> lake.append("taps", frame.cast({"_known_time": pl.Datetime("us", "UTC")}), "fold", 1)
    True
    >>> lake.move("taps", date(2024, 5, 20))
    1
    >>> lake.read("taps")["_offset"].to_list(), Lake(folder / "hot").read("taps").height
    ([0, 1], 1)
    """

    def __init__(
        self,
        where: Path | str,
        cold: Path | str | None = None,
        declared: Mapping[str, pl.Schema] | None = None,
        events: Mapping[str, EventSchema] | None = None,
        keys: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(where, declared, events, keys)
        self.cold = None if cold is None else Lake(cold, None, events)
        self._all_hot: set[str] = set()

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders with files of tables, of both places."""
        return (*super().folders, *(() if self.cold is None else self.cold.folders))

    def cold_until(self, table: str) -> date | None:
        """Return the last day that is cold, None if all are hot."""
        if self.cold is not None:
            return _day(self.cold.application_version(table, COLD))
        if table not in self._all_hot:
            moved = _day(self.application_version(table, COLD))
            if moved is not None:
                raise ColdMissing(table, moved)
            self._all_hot.add(table)
        return None

    def deleted_until(self, table: str) -> date | None:
        """Return the last day that was deleted, None if none was."""
        return _day(self.application_version(table, DELETED))

    def days(self, table: str, tier: str = "hot") -> tuple[date, ...]:
        """Return the days that a tier holds rows of, in order, but for hot ones that are moving."""
        side, until = self._side(tier), self.cold_until(table)
        target = None if side is None else side._table(table)
        if target is None:
            return ()
        found = {date.fromisoformat(str(part["_day"])) for part in target.partitions()}
        if tier == "hot" and until is not None:
            found = {day for day in found if day > until}
        return tuple(sorted(found))

    def move(self, table: str, day: date) -> int:
        """Move a day and all before it to the cold place, day by day; return how many rows.

        No row of the day or of one before it may be appended any more. Killed at any instant and
        called again, it goes on.
        """
        if self.cold is None:
            raise LakeMismatch(
                table, f"day {day} is to be cold", "lakes with a cold place", "name one"
            )
        until, rows = self.cold_until(table), 0
        if until is not None:
            self._remove(self, table, until, COLD)  # what a process that was killed left to do
        super().evolve(table)
        for one in [found for found in self.days(table) if found <= day]:
            frame = self._stored_day(table, one)
            self.cold.append(table, frame, COLD, one.toordinal(), self.day_column(table))
            self._remove(self, table, one, COLD)
            rows += frame.height
        return rows

    def delete(self, table: str, day: date) -> None:
        """Delete a day and all before it from both places; their files are swept later."""
        if self.version(table) < 0:
            return
        if self.cold is not None and self.cold.version(table) >= 0:
            self._remove(self.cold, table, day, DELETED)
        self._remove(self, table, day, DELETED)

    def loses(self, table: str, version: int, day: date) -> bool:
        """Whether a version of the table had days that are deleted with this one."""
        target = self._table(table, version)
        if target is None:
            return False
        return self._had(target, day)

    def sweep(self, table: str, grace_hours: int) -> int:
        """Remove the files of days that left a place at least so long ago; return their bytes.

        Versions of before read the moved days from the cold place. Only files of such days go.
        """
        moved, deleted = self.cold_until(table), self.deleted_until(table)
        freed = 0
        for side, until in (
            (self, max(filter(None, (moved, deleted)), default=None)),
            (self.cold, deleted),
        ):
            target = None if side is None or until is None else side._table(table)
            if target is None or side is None or until is None:
                continue
            left = target.vacuum(
                retention_hours=grace_hours, enforce_retention_duration=False, dry_run=True,
                full=True,
            )  # fmt: skip
            gone = [file for file in left if (day := _day_of(file)) is not None and day <= until]
            freed += side.location.remove([f"{table}/{file}" for file in gone])
        return freed

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        known_before: Micros | None = None,
        *,
        known_from: Micros | None = None,
        version: int | None = None,
    ) -> pl.DataFrame:
        """Return rows of both places, as `Lake.read` does."""
        for _ in range(AGAIN):
            until = self.cold_until(table)
            edge = None if until is None else _end(until)
            begin = known_from if edge is None else max(edge, known_from or edge)
            self._require_kept(table, version, known_from)
            hot = super().read(table, columns, known_before, known_from=begin, version=version)
            if until is None or edge is None:
                found = hot
            else:
                last = None if version is None else self._last_offset(table, version, until)
                before = edge if known_before is None else min(edge, known_before)
                cold = self._cold_rows(table, hot.schema, Span(known_from, before), last)
                found = pl.concat([cold, hot])
            if self.cold_until(table) == until:
                return found
        raise self._restless(table)

    def events(self, table: str, span: Span = EVERYTHING, version: int | None = None) -> LakeEvents:
        """Return the events of both places, as `Lake.events` does."""
        for _ in range(AGAIN):
            until = self.cold_until(table)
            if until is None or self.cold is None:
                self._require_kept(table, version, span.begin)
                found = super().events(table, span, version)
            else:
                edge = _end(until)
                self._require_kept(table, version, span.begin)
                begin = edge if span.begin is None else max(edge, span.begin)
                hot = super().events(table, Span(begin, span.end), version)
                before = edge if span.end is None else min(edge, span.end)
                cold = self.cold.events(table, Span(span.begin, before))
                last = None if version is None else self._last_offset(table, version, until)
                found = TieredEvents(cold, hot, last)
            if self.cold_until(table) == until:
                return found
        raise self._restless(table)

    def sides(self, table: str) -> tuple[Stored, ...]:
        """Return the parts of the table: the cold days, then the hot ones."""
        for _ in range(AGAIN):
            until = self.cold_until(table)
            found = super().sides(table)
            if until is not None and self.cold is not None:
                hot = [
                    Stored(
                        [f for f in side.files if (_day_of(f) or date.min) > until],
                        side.schema, side.evolved, side.version,
                    )
                    for side in found
                ]  # fmt: skip
                found = (*self.cold.sides(table), *hot)
            if self.cold_until(table) == until:
                return found
        raise self._restless(table)

    def vacuum(
        self, table: str, keep: Collection[int] = (), *, hours: int = 168, dry: bool = False
    ) -> Vacuumed:
        """Delete the files that no version in use needs, as `Lake.vacuum` does, in both places.

        Versions are those of the hot place; what they had that is cold now, is read from the
        present cold table.
        """
        hot = super().vacuum(table, keep, hours=hours, dry=dry)
        cold = Vacuumed() if self.cold is None else self.cold.vacuum(table, hours=hours, dry=dry)
        return Vacuumed(hot.files + cold.files, hot.bytes + cold.bytes)

    def status(self, table: str) -> TableStatus:
        """Return what a table is made of, in both places; the version is that of the hot one."""
        target = self._table(table)
        version = -1 if target is None else int(target.version())
        files = self._all_files(table, target)
        return status_of(table, files, version, sorts=not self._is_raw(target))

    def rows_by_day(self, table: str) -> dict[date, int]:
        """Return how many rows each day has, in both places, as the table's own log says."""
        rows: dict[date, int] = {}
        for file in self._all_files(table, self._table(table)):
            day = date.fromisoformat(file.day)
            rows[day] = rows.get(day, 0) + file.rows
        return rows

    def _all_files(self, table: str, target: DeltaTable | None) -> list[TableFile]:
        until = self.cold_until(table)
        files = [] if target is None else table_files(target)
        if until is not None:
            files = [file for file in files if date.fromisoformat(file.day) > until]
        cold = None if self.cold is None else self.cold._table(table)
        return files + ([] if cold is None else table_files(cold))

    def conflicts(self, table: str) -> tuple[Incompatibility, ...]:
        """Return the fields of the event schema that one of the places cannot hold."""
        hot = super().conflicts(table)
        return hot or (() if self.cold is None else self.cold.conflicts(table))

    def _side(self, tier: str) -> Lake | None:
        return self if tier == "hot" else self.cold

    def _stored_day(self, table: str, day: date) -> pl.DataFrame:
        """Return the rows of a day with the columns that are stored, in the order of their log."""
        [side] = super().sides(table)
        files = [file for file in side.files if _day_of(file) == day]
        if not files:
            return pl.DataFrame(schema=side.schema)
        rows = pl.scan_parquet(
            files, schema=side.schema, missing_columns="insert", hive_partitioning=False
        )
        order = "_offset" if "_offset" in side.schema else self.day_column(table)
        return rows.collect().sort(order, maintain_order=True)

    def _cold_rows(
        self, table: str, schema: pl.Schema, span: Span, last: int | None
    ) -> pl.DataFrame:
        """Return the cold rows of a span, with the columns of the hot ones."""
        cold = self.cold
        empty = pl.DataFrame(schema=schema)
        if cold is None or cold.version(table) < 0 or _is_empty(span):
            return empty
        held = cold.names(table)
        there = [name for name in schema if name in held]
        needed = there if last is None else list(dict.fromkeys([*there, "_offset"]))
        rows = cold.read(table, needed, span.end, known_from=span.begin)
        if last is not None:
            rows = rows.filter(pl.col("_offset") <= last)
        return pl.concat([empty, rows.select(there)], how="diagonal_relaxed").cast(schema)

    def _remove(self, side: Lake, table: str, until: date, application: str) -> None:
        """Take the days up to one out of a place, in one commit that says so."""
        from deltalake import CommitProperties, Transaction

        target = side._table(table)
        if target is None:
            return
        done = target.transaction_version(application)
        days = {date.fromisoformat(str(part["_day"])) for part in target.partitions()}
        ordinal = until.toordinal() if done is None else max(done, until.toordinal())
        if any(day <= until for day in days):
            target.delete(
                f"_day <= '{until}'",
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(application, ordinal)]
                ),
            )
        elif done is None or done < ordinal:
            rows = pl.DataFrame(schema=side.stored_schema(table))
            side.append(table, rows, application, ordinal, side.day_column(table))

    def _last_offset(self, table: str, version: int, until: date) -> int | None:
        """Return the last offset of the cold days that a version had, None if it had them all."""
        target = self._table(table, version)
        files = [] if target is None else self._files(table, target, None)
        newest = max(filter(None, map(_day_of, files)), default=date.min)
        if target is None or newest > until:
            return None  # a later day was begun, so those before it were whole
        if not files:
            return -1
        added = pl.DataFrame(target.get_add_actions(flatten=True))
        there = added.filter(pl.col("partition._day") == newest)
        if "max._offset" in there.columns and not there["max._offset"].null_count():
            return int(there["max._offset"].max())  # type: ignore[arg-type]
        raise LakeMismatch(
            table, f"version {version} ended in the midst of {newest}, which is cold now, and its "
            "commits do not say where", "versions that ended on a hot day, or the present one",
            "read one of those, up to an instant",
        )  # fmt: skip

    def _require_kept(self, table: str, version: int | None, begin: Micros | None) -> None:
        """Raise if a version had days in question that were deleted since."""
        deleted = None if version is None else self.deleted_until(table)
        target = None if deleted is None else self._table(table, version)
        if deleted is None or target is None or version is None:
            return
        if begin is not None and begin >= _end(deleted):
            return
        if self._had(target, deleted):
            raise DaysDeleted(table, version, deleted)

    def _had(self, target: DeltaTable, deleted: date) -> bool:
        """Whether a version had days up to `deleted`, in either place."""
        before = _day(target.transaction_version(DELETED))
        if before is not None and before >= deleted:
            return False
        moved = _day(target.transaction_version(COLD))
        if moved is not None and (before is None or moved > before):
            return True
        days = (date.fromisoformat(str(part["_day"])) for part in target.partitions())
        return any(day <= deleted and (before is None or day > before) for day in days)

    def _restless(self, table: str) -> LakeMismatch:
        return LakeMismatch(
            table, "its days were moved while it was read, again and again",
            "tables that stand still for as long as a reading takes", "read again",
        )  # fmt: skip


def _day(ordinal: int | None) -> date | None:
    return None if ordinal is None or ordinal < 0 else date.fromordinal(ordinal)


def _day_of(file: str) -> date | None:
    """Return the day that a file is of, by its folder."""
    folder = file.rsplit("/", 2)[-2] if "/" in file else ""
    return date.fromisoformat(folder[5:]) if folder.startswith("_day=") else None


def _end(day: date) -> Micros:
    """Return the instant at which a day is over."""
    return to_micros(datetime.combine(date.fromordinal(day.toordinal() + 1), time(), UTC))


def _is_empty(span: Span) -> bool:
    return span.begin is not None and span.end is not None and span.begin >= span.end
