"""The embedded log: SQLite in WAL mode, synced, one blob per segment of an appended batch.

Segments are compressed, and small ones put together as they age (`pack`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros
from homeostat.core.storage import storage
from homeostat.ingest.log import (
    READ_BYTES,
    Advance,
    Instants,
    LogBatch,
    LogDamaged,
    LogEnd,
    LogTrimmed,
    PayloadTooLarge,
    PositionTaken,
    check_lengths,
)
from homeostat.ingest.payloads import Payloads
from homeostat.ingest.segments import (
    RECORDS,
    WORTH,
    Row,
    Segment,
    cuts,
    is_full,
    row_of,
    segment_of,
)

__all__ = ["SqliteLog"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS segments (
    source TEXT NOT NULL, first INTEGER NOT NULL, records INTEGER NOT NULL,
    last_known INTEGER NOT NULL, checksum INTEGER NOT NULL,
    known BLOB NOT NULL, ends BLOB NOT NULL, body BLOB NOT NULL, size INTEGER,
    PRIMARY KEY (source, first))
"""
_POSITIONS = """
CREATE TABLE IF NOT EXISTS positions (
    source TEXT NOT NULL, stream TEXT NOT NULL, position TEXT NOT NULL,
    PRIMARY KEY (source, stream)) WITHOUT ROWID
"""
_COLUMNS = "first, records, last_known, checksum, known, ends, body, size"
_PAYLOAD_BYTES = 64 << 20

_TRIMMED_SEGMENTS = 4
"""So many segments are let go at once: appends wait no longer than that takes."""

_FREED_PAGES = 1_024
"""So many pages are given back at once; a bite of segments has no more."""


class SqliteLog:
    """An `EventLog` in one SQLite file; several threads and processes may use it at once.

    Reading has a connection of its own: it waits for no append, which ends with a sync of the disk.

    >>> import tempfile
    >>> log = SqliteLog(Path(tempfile.mkdtemp()) / "log.sqlite")
    >>> log.append("taps", [10, 9], [b"a", b"b"])
    0
    >>> batch = log.read("taps", after=-1, limit=10)
    >>> list(batch.payloads), batch.known.tolist()
    ([b'a', b'b'], [10, 10])
    >>> log.end("taps")
    LogEnd(next_offset=2, last_known=10, first_offset=0)
    >>> log.close()
    """

    def __init__(self, path: Path) -> None:
        # Whoever holds `_lock` may take `_reading`, never the other way round.
        self._path, self._lock, self._reading = path, Lock(), Lock()
        self._db = _opened(path)
        self._db.execute("PRAGMA page_size=16384")
        self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of use to new files only
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(_SCHEMA)
        self._db.execute(_POSITIONS)
        if not any(row[1] == "size" for row in self._db.execute("PRAGMA table_info(segments)")):
            self._db.execute("ALTER TABLE segments ADD COLUMN size INTEGER")
        self._reader = _opened(path)
        self._reader.execute("PRAGMA query_only=TRUE")
        self._current: dict[str, Segment] = {}
        self._packed: dict[str, int] = {}

    def append(
        self,
        source: str,
        known: Instants,
        payloads: Sequence[bytes],
        steps: Sequence[Advance] = (),
    ) -> int:
        """Add records and take the steps in one synced transaction; return the first offset."""
        check_lengths(source, known, payloads)
        packed = Payloads.of(payloads)
        lengths = packed.lengths
        if lengths.size and int(lengths.max()) > _PAYLOAD_BYTES:
            raise PayloadTooLarge(source, int(lengths.max()), _PAYLOAD_BYTES)
        instants = np.asarray(known, dtype=np.int64)
        with self._lock, storage("log", self._path, sqlite3.OperationalError):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._advance(source, steps)
                end = _end(self._db, source)
                if end.last_known is not None:
                    instants = np.maximum(instants, end.last_known)
                instants = np.maximum.accumulate(instants)
                for begin, stop in cuts(lengths):
                    first = end.next_offset + begin
                    self._insert(source, row_of(first, instants[begin:stop], packed[begin:stop]))
            except BaseException:
                if self._db.in_transaction:  # SQLite ends it by itself when the disk is full
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        return end.next_offset

    def read(
        self, source: str, after: int, limit: int, known_before: Micros | None = None
    ) -> LogBatch:
        """Return at most `limit` records with a greater offset than `after`, of `READ_BYTES`."""
        start = max(after, -1) + 1
        parts: list[Payloads] = []
        count = size = 0
        known: list[npt.NDArray[np.int64]] = []
        with self._reading, closing(self._segments(source, start)) as segments:
            for segment in segments:
                if segment.first > start + count and limit > 0:
                    raise LogTrimmed(str(self._path), source, start, segment.first)
                self._current[source] = segment
                begin = max(start - segment.first, 0)
                end = min(len(segment.known), begin + limit - count)
                if known_before is not None:
                    end = min(end, int(np.searchsorted(segment.known, known_before, side="left")))
                if end > begin:
                    parts.append(segment.payloads(begin, end))
                    count, size = count + end - begin, size + len(parts[-1].body)
                    known.append(segment.known[begin:end])
                if end < len(segment.known) or count >= limit or size >= READ_BYTES:
                    break
        return LogBatch(
            source,
            np.arange(start, start + count, dtype=np.int64),
            np.concatenate(known) if known else np.empty(0, dtype=np.int64),
            Payloads.joined(parts) if parts else Payloads.of(()),
        )

    def end(self, source: str) -> LogEnd:
        """Return the next offset and the last known time."""
        with self._reading:
            return _end(self._reader, source)

    def positions(self, source: str) -> dict[str, str]:
        """Return where the log stands in each stream that the source is read from."""
        with self._reading:
            rows = self._reader.execute(
                "SELECT stream, position FROM positions WHERE source = ? ORDER BY stream", (source,)
            )
            return {str(stream): str(position) for stream, position in rows}

    def cut(self, source: str, known_before: Micros | None, octets: int | None) -> int:
        """Return the offset below which records may go by age or size; 0 for none."""
        found = 0
        with self._reading:
            if known_before is not None:
                row = self._reader.execute(
                    "SELECT MIN(first) FROM segments WHERE source = ? AND last_known >= ?",
                    (source, known_before),
                ).fetchone()
                end = _end(self._reader, source)
                found = end.next_offset if row[0] is None else int(row[0])
            if octets is not None:
                sizes = self._reader.execute(
                    "SELECT first + records, LENGTH(known) + LENGTH(ends) + LENGTH(body) "
                    "FROM segments WHERE source = ? ORDER BY first DESC",
                    (source,),
                )
                with closing(sizes):
                    for stop, size in sizes:
                        octets -= int(size)
                        if octets < 0:
                            found = max(found, int(stop))
                            break
        return found

    def trim(self, source: str, before: int) -> int:
        """Let go of whole segments below an offset, a few at a time, and give their space back."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                gone = self._db.execute(
                    "SELECT first, records FROM segments "
                    "WHERE source = ?1 AND first + records <= ?2 "
                    "AND first < (SELECT MAX(first) FROM segments WHERE source = ?1) "
                    "ORDER BY first LIMIT ?3",
                    (source, before, _TRIMMED_SEGMENTS),
                ).fetchall()
                self._db.executemany(
                    "DELETE FROM segments WHERE source = ? AND first = ?",
                    [(source, first) for first, _ in gone],
                )
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            with self._reading:
                if gone and source in self._current and self._current[source].stop <= before:
                    del self._current[source]
            # `execute` would free one page: it does not step through a pragma without columns.
            self._db.executescript(f"PRAGMA incremental_vacuum({_FREED_PAGES})")
        return sum(int(records) for _, records in gone)

    def pack(self, source: str) -> int:
        """Write the next full run of small or plain segments as one; return how many there were.

        One call takes a bounded time; 0 says that there is nothing to do. Offsets stay.
        """
        run = self._run(source)
        if run is None:
            return 0
        begin, stop = run
        with self._lock, storage("log", self._path, sqlite3.OperationalError):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                rows = self._db.execute(
                    f"SELECT {_COLUMNS} FROM segments "
                    "WHERE source = ? AND first >= ? AND first < ? ORDER BY first",
                    (source, begin, stop),
                ).fetchall()
                parts = [self._whole(source, Row(*row)) for row in rows]
                if parts:  # none of them was let go of meanwhile
                    self._db.execute(
                        "DELETE FROM segments WHERE source = ? AND first >= ? AND first < ?",
                        (source, begin, stop),
                    )
                    known = np.concatenate([part.known for part in parts])
                    payloads = Payloads.joined([p.payloads(0, len(p.known)) for p in parts])
                    self._insert(source, row_of(parts[0].first, known, payloads))
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        self._packed[source] = stop
        return len(rows)

    def _run(self, source: str) -> tuple[int, int] | None:
        """Return the offsets of the next segments that fill one and are not one already."""
        with self._reading:
            begin = self._packed.get(source, 0)
            if _end(self._reader, source).next_offset - begin < RECORDS:
                return None
            rows = self._reader.execute(
                "SELECT first, records, COALESCE(size, LENGTH(body)), size IS NULL FROM segments "
                "WHERE source = ? AND first >= ? ORDER BY first",
                (source, begin),
            )
            run: list[int] = []
            records = octets = 0
            is_plain, stop = False, 0
            with closing(rows):
                for first, count, size, plain in rows:
                    if run and (first != stop or is_full(records + count, octets + size)):
                        if len(run) > 1 or (is_plain and octets >= WORTH):
                            return run[0], stop
                        run, records, octets, is_plain = [], 0, 0, False
                        self._packed[source] = stop
                    run.append(first)
                    records, octets, stop = records + count, octets + size, first + count
                    is_plain |= bool(plain)
        return None

    def _insert(self, source: str, row: Row) -> None:
        self._db.execute(
            f"INSERT INTO segments (source, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (source, *row),
        )

    def _whole(self, source: str, row: Row) -> Segment:
        found = segment_of(row)
        if found is None:
            raise LogDamaged(str(self._path), source, row.first)
        return found

    def close(self) -> None:
        """Close the file."""
        with self._lock, self._reading:
            self._reader.close()
            self._db.close()

    def _advance(self, source: str, steps: Sequence[Advance]) -> None:
        for step in steps:
            row = self._db.execute(
                "SELECT position FROM positions WHERE source = ? AND stream = ?",
                (source, step.stream),
            ).fetchone()
            stands = None if row is None else str(row[0])
            if stands != step.after:
                raise PositionTaken(source, step, stands)
            self._db.execute(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
                (source, step.stream, step.to),
            )

    def _segments(self, source: str, start: int) -> Generator[Segment]:
        """Yield the segments from the one that holds `start`; the last one read is kept."""
        current = self._current.get(source)
        if current is not None and current.first <= start < current.stop:
            yield current
            start = current.stop
        rows = self._reader.execute(
            f"SELECT {_COLUMNS} FROM segments "
            "WHERE source = ?1 AND first >= COALESCE((SELECT MAX(first) FROM segments "
            "WHERE source = ?1 AND first <= ?2), 0) ORDER BY first",
            (source, start),
        )
        with closing(rows):
            for row in map(Row._make, rows):
                segment = self._whole(source, row)
                if segment.stop > start:
                    yield segment


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30.0)


def _end(db: sqlite3.Connection, source: str) -> LogEnd:
    row = db.execute(
        "SELECT first + records, last_known FROM segments WHERE source = ? "
        "ORDER BY first DESC LIMIT 1",
        (source,),
    ).fetchone()
    if row is None:
        return LogEnd(0, None)
    first = db.execute("SELECT MIN(first) FROM segments WHERE source = ?", (source,)).fetchone()
    return LogEnd(int(row[0]), int(row[1]), int(first[0]))
