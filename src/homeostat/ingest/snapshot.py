"""Database snapshots: rows are fetched in order, in batches, each once."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol
from zoneinfo import ZoneInfo

from homeostat.core.durations import Micros
from homeostat.declare.feeds import Query
from homeostat.ingest.boundary import Boundary
from homeostat.ingest.feed import Landing
from homeostat.ingest.log import Advance
from homeostat.ingest.rows import RowReader
from homeostat.ingest.schedules import Run, Timetable

__all__ = ["Asked", "Database", "QueryFeed", "Rows"]

Rows = Sequence[Sequence[object]]
"""Consecutive rows of a result."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a database.

    Attributes:
        columns: the columns of the rows.
        order: the columns that rows come in the order of.
        start: the least value of the first of them, None for all.
        missing: whether rows without a value in the first of them come, too.
        planned: the instant of the run, in microseconds.
        batch: how many rows at a time.
    """

    columns: tuple[str, ...]
    order: tuple[str, ...]
    start: object
    missing: bool
    planned: Micros
    batch: int


class Database(Protocol):
    """Answers one query in batches, without holding the whole result."""

    def columns(self) -> tuple[str, ...]:
        """Return the names of the result's columns."""
        ...

    def fetch(self, asked: Asked) -> Generator[Rows]:
        """Yield the rows that were asked for."""
        ...

    def lacks(self, column: str) -> bool:
        """Return whether there are rows without a value in a column."""
        ...


class QueryFeed:
    """Takes the rows of a source's query into the log.

    Where the query has a cursor, only rows at or after the last one taken are read; otherwise each
    run reads all, in the order of the event id. How far that is is kept in the transaction that
    appends the rows, so a run that is killed goes on at the right row.

    Args:
        query: the declared query.
        database: what answers it.
        landing: where the records go.
    """

    def __init__(self, query: Query, database: Database, landing: Landing) -> None:
        self._query, self._database, self._landing = query, database, landing
        self._timetable = Timetable(query.schedule, landing)
        # Another table or cursor is read from its beginning: where this one stands says nothing.
        self._stream = f"query/{query.name}/{query.cursor or ''}"
        self._noted: set[str] = set()
        self._zone = None if query.timezone is None else ZoneInfo(query.timezone)

    def take(self, *, force: bool = False) -> Generator[int]:
        """Make the run that is due; yield the number of records after each commit."""
        run = self._timetable.run(self._landing.clock.now(), force=force)
        if run is not None:
            yield from self._fetch(run)

    def _fetch(self, run: Run) -> Iterator[int]:
        query, name = self._query, self._landing.source.name
        said = self._landing.position(self._stream)
        boundary = Boundary(said, query.behind, name, self._zone)
        if query.cursor is not None:
            self._say(
                f"there are rows without {query.cursor!r}, the cursor: they are never taken; fill "
                "it, or drop cursor= so that each run reads all rows",
                holds=self._database.lacks(query.cursor),
            )
        reader = RowReader(self._landing.source, self._database.columns(), self._zone)
        for note in reader.notes:
            self._say(note)
        with closing(self._database.fetch(self._asked(reader, run, boundary))) as parts:
            for rows in parts:
                payloads = self._fresh(reader, rows, boundary)
                to = boundary.text()
                if to == said:
                    continue
                step = Advance(self._stream, said, to)
                self._landing.append(payloads, [step], history=query.history)
                said = to
                yield len(payloads)
        self._say(
            f"rows have local times of the hour that comes twice in {query.timezone}: these are "
            "taken as the first of the two; ask for instants with a zone, or for UTC",
            holds=reader.has_repeated,
        )
        steps = list(run.done)
        if query.cursor is None and said:
            steps.append(Advance(self._stream, said, ""))  # the next run begins at the beginning
        if steps:
            self._landing.append([], steps)

    def _say(self, words: str, *, holds: bool = True) -> None:
        """Tell a person of what holds, once as long as it does."""
        if holds and words not in self._noted:
            self._landing.told(words)
        (self._noted.add if holds else self._noted.discard)(words)

    def _asked(self, reader: RowReader, run: Run, boundary: Boundary) -> Asked:
        query, identity = self._query, self._landing.source.event_id
        order = (identity,) if query.cursor is None else (query.cursor, identity)
        for column in order:
            reader.place(column)
        return Asked(
            columns=reader.columns,
            order=tuple(dict.fromkeys(order)),
            start=boundary.start,
            missing=query.cursor is None,
            planned=run.planned,
            batch=query.batch,
        )

    def _fresh(self, reader: RowReader, rows: Rows, boundary: Boundary) -> list[bytes]:
        """Return the payloads of rows that were not taken yet; the boundary moves over them."""
        place = reader.place(self._query.cursor or self._landing.source.event_id)
        fresh: list[bytes] = []
        for row in rows:
            payload = reader.payload(row)
            digest = hashlib.blake2b(payload, digest_size=8).hexdigest()
            if boundary.takes(row[place], digest):
                fresh.append(payload)
        boundary.forget()
        return fresh
