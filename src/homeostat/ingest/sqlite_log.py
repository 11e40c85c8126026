"""The embedded log: SQLite in WAL mode, synced, one blob per segment of an appended batch."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
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

__all__ = ["SqliteLog"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS segments (
    source TEXT NOT NULL, first INTEGER NOT NULL, records INTEGER NOT NULL,
    last_known INTEGER NOT NULL, checksum INTEGER NOT NULL,
    known BLOB NOT NULL, ends BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (source, first))
"""
_POSITIONS = """
CREATE TABLE IF NOT EXISTS positions (
    source TEXT NOT NULL, stream TEXT NOT NULL, position TEXT NOT NULL,
    PRIMARY KEY (source, stream)) WITHOUT ROWID
"""
_SEGMENT_RECORDS = 8_192
_SEGMENT_BYTES = 4 << 20
_PAYLOAD_BYTES = 64 << 20

_TRIMMED_SEGMENTS = 4
"""So many segments are let go at once: appends wait no longer than that takes."""

_FREED_PAGES = 1_024
"""So many pages are given back at once; a bite of segments has no more."""


@dataclass(frozen=True, slots=True, eq=False)
class _Segment:
    """Records [first, first + n) of a source; record i is body[ends[i - 1]:ends[i]]."""

    first: int
    known: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    body: bytes

    @property
    def stop(self) -> int:
        return self.first + len(self.known)

    def payloads(self, begin: int, end: int) -> Payloads:
        first = int(self.ends[begin - 1]) if begin else 0
        ends = self.ends[begin:end] - first
        body = np.frombuffer(self.body, np.uint8)[first : first + int(ends[-1])]
        return Payloads(body, np.append(0, ends[:-1]), ends)


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
        self._reader = _opened(path)
        self._reader.execute("PRAGMA query_only=TRUE")
        self._current: dict[str, _Segment] = {}

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
                for begin, stop in _cuts(lengths):
                    self._db.execute(
                        "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        _packed(
                            source,
                            end.next_offset + begin,
                            instants[begin:stop],
                            packed[begin:stop],
                        ),
                    )
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

    def _segments(self, source: str, start: int) -> Generator[_Segment]:
        """Yield the segments from the one that holds `start`; the last one read is kept."""
        current = self._current.get(source)
        if current is not None and current.first <= start < current.stop:
            yield current
            start = current.stop
        rows = self._reader.execute(
            "SELECT first, records, checksum, known, ends, body FROM segments "
            "WHERE source = ?1 AND first >= COALESCE((SELECT MAX(first) FROM segments "
            "WHERE source = ?1 AND first <= ?2), 0) ORDER BY first",
            (source, start),
        )
        with closing(rows):
            for first, records, checksum, known, ends, body in rows:
                if _checksum(known, ends, body) != checksum:
                    raise LogDamaged(str(self._path), source, int(first))
                if first + records > start:
                    yield _Segment(
                        int(first),
                        np.frombuffer(known, dtype="<i8").astype(np.int64, copy=False),
                        np.frombuffer(ends, dtype="<u4").astype(np.int64),
                        body,
                    )


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


def _cuts(lengths: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield [begin, stop) of segments that are bounded in records and, beyond one, in bytes."""
    ends, begin, before = np.cumsum(lengths), 0, 0
    while begin < len(lengths):
        full = int(np.searchsorted(ends, before + _SEGMENT_BYTES, side="right"))
        stop = min(max(full, begin + 1), begin + _SEGMENT_RECORDS, len(lengths))
        yield begin, stop
        begin, before = stop, int(ends[stop - 1])


def _packed(
    source: str, first: int, instants: npt.NDArray[np.int64], payloads: Payloads
) -> tuple[str | int | bytes, ...]:
    """Return the row of a segment of at least one record."""
    known = instants.astype("<i8").tobytes()
    ends = np.cumsum(payloads.lengths).astype("<u4").tobytes()
    body = payloads.packed()
    last_known, checksum = int(instants[-1]), _checksum(known, ends, body)
    return source, first, len(payloads), last_known, checksum, known, ends, body


def _checksum(known: bytes, ends: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(ends, zlib.crc32(known)))
