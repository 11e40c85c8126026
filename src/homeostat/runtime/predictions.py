"""`predictions.db`: answers that the lake has not taken yet, and an index of requests.

Predictions are kept in parts (Arrow, compressed) of a step, in the order in which they were
written. The *cut* of a model is the last part that the lake has: what is up to it is in the lake,
what is after it is here, and nothing else has to be looked at.
"""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import RLock

import polars as pl

from homeostat.core.durations import Micros
from homeostat.core.storage import storage

__all__ = ["Chunk", "Part", "PredictionStore", "with_offsets"]

_SCHEMA = (
    (
        "CREATE TABLE IF NOT EXISTS predictions (model TEXT NOT NULL, step INTEGER NOT NULL, "
        "part INTEGER NOT NULL, rows INTEGER NOT NULL, body BLOB NOT NULL, "
        "PRIMARY KEY (model, step, part)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE IF NOT EXISTS parts (model TEXT NOT NULL, step INTEGER NOT NULL, "
        "part INTEGER NOT NULL, rows INTEGER NOT NULL, first INTEGER, last INTEGER, "
        "PRIMARY KEY (model, step, part)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE IF NOT EXISTS cuts (model TEXT PRIMARY KEY, version INTEGER NOT NULL, "
        "step INTEGER NOT NULL, part INTEGER NOT NULL, next_step INTEGER, next_part INTEGER) "
        "WITHOUT ROWID"
    ),
    (
        "CREATE TABLE IF NOT EXISTS unsent (model TEXT NOT NULL, step INTEGER NOT NULL, "
        "part INTEGER NOT NULL, no_event TEXT NOT NULL, "
        "PRIMARY KEY (model, step, part)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE IF NOT EXISTS answered (key INTEGER NOT NULL, at INTEGER NOT NULL, "
        "PRIMARY KEY (key, at)) WITHOUT ROWID"
    ),
    "CREATE INDEX IF NOT EXISTS answered_at ON answered (at)",
    "CREATE TABLE IF NOT EXISTS unindexed (every INTEGER PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS oldest (model TEXT PRIMARY KEY, at INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS newest (model TEXT PRIMARY KEY, at INTEGER) WITHOUT ROWID",
)

UNINDEXED = "INSERT OR IGNORE INTO unindexed VALUES (1)"
"""Predictions were written whose requests are not in the index."""

FIRST, LAST = -(2**62), 2**62
"""Before every step, and after every part of one."""

SMALL, RUN = 2_000, 64
"""So many parts of fewer rows are merged into one."""

SWEPT = 64
"""So many bodies that the lake has are deleted at once, to hold the file's lock shortly."""

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """Where some predictions are; `first` and `last` bound their instants, None if unknown."""

    key: Key
    rows: int
    first: Micros | None
    last: Micros | None

    def meets(self, since: Micros | None, until: Micros | None) -> bool:
        """Whether it may have predictions asked in [since, until)."""
        late = since is None or self.last is None or self.last >= since
        return late and (until is None or self.first is None or self.first < until)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next predictions that the lake is to take, as its version of the application."""

    version: int
    frame: pl.DataFrame
    upto: Key


class PredictionStore:
    """Parts of predictions in SQLite, from their writing until the lake has them.

    A step of a replay that is run again after a crash writes the same key again, or one before the
    cut, which is dropped; so nothing is doubled.

    Args:
        path: the file.
        applied: the version of the lake's table that a model's predictions were last committed as;
            asked once per model of a home that was written before there were cuts, where that was
            the last step that the lake has.
    """

    def __init__(self, path: Path, applied: Callable[[str], int]) -> None:
        self._path, self._applied = path, applied
        self._lock, self._reading = RLock(), RLock()
        self._db = _opened(path)
        _prepare(self._db)
        self._reader = _opened(path)
        self._small: dict[str, list[Key]] = {}

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that is synced when the block ends, and undone if it raises."""
        with self._lock, storage("predictions", self._path, sqlite3.OperationalError):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite ends it by itself when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def put(self, model: str, step: int, part: int, frame: pl.DataFrame) -> None:
        """Store one part of one step, in place of what was there; the lake's stays as it is."""
        self._begin(model)
        with self.writing() as db:
            if (step, part) > self._cut(db, model)[1]:
                _insert(db, model, (step, part), frame)
                db.execute(UNINDEXED)

    def add(
        self,
        step: int,
        frames: Mapping[str, pl.DataFrame],
        no_event: Mapping[str, Sequence[int]] | None = None,
    ) -> list[tuple[str, Key]]:
        """Store the next part of each model in one transaction; return their keys.

        Their requests count as not sent to their log until `sent`, but for the rows of `no_event`,
        which never go there.
        """
        never = no_event or {}
        for model in frames:
            self._begin(model)
        keys = []
        with self.writing() as db:
            for model, frame in frames.items():
                key = self._next(db, model, step)
                _insert(db, model, key, frame)
                rows = json.dumps(list(never.get(model, ())))
                db.execute("INSERT INTO unsent VALUES (?, ?, ?, ?)", (model, *key, rows))
                _index(db, model, frame)
                keys.append((model, key))
        for model, key in keys:
            self._small.setdefault(model, []).append(key)
        return keys

    def unsent(self) -> list[tuple[str, Key]]:
        """Return the parts whose requests may not be in their log, oldest first."""
        with self._reading:
            rows = self._reader.execute(
                "SELECT model, step, part FROM unsent ORDER BY model, step, part"
            )
            return [(model, (step, part)) for model, step, part in rows]

    def sent(self, model: str, key: Key) -> None:
        """Note that the requests of a part are in their log; not synced: it may be forgotten."""
        with self._lock:
            self._db.execute("PRAGMA synchronous=NORMAL")
            try:
                with self.writing() as db:
                    db.execute(
                        "DELETE FROM unsent WHERE model = ? AND step = ? AND part = ?",
                        (model, *key),
                    )
            finally:
                self._db.execute("PRAGMA synchronous=FULL")

    def requests(self, model: str, key: Key) -> pl.DataFrame:
        """Return `at` and `request` of those rows of an unsent part that are to be events."""
        with self._reading:
            body = _body(self._reader, model, key)
            row = self._reader.execute(
                "SELECT no_event FROM unsent WHERE model = ? AND step = ? AND part = ?",
                (model, *key),
            ).fetchone()
        asked = _frame(body, ["at", "request"]).with_row_index("_row")
        return asked.filter(~pl.col("_row").is_in(json.loads(row[0]))).drop("_row")

    def merge(self, model: str) -> int:
        """Put small parts together where many wait; return how many became one."""
        waiting = self._small.get(model, [])
        if len(waiting) < RUN:
            return 0
        with self.writing() as db:
            bound = self._cut(db, model)[1]
            row = db.execute(
                "SELECT next_step, next_part FROM cuts WHERE model = ? AND next_step NOT NULL",
                (model,),
            ).fetchone()
            bound = bound if row is None else (row[0], row[1])
            unsent = {
                (step, part)
                for step, part in db.execute(
                    "SELECT step, part FROM unsent WHERE model = ?", (model,)
                )
            }
            keys = [k for k in waiting if k > bound and all(k < other for other in unsent)]
            if len(keys) > 1:
                bodies = [_body(db, model, key) for key in keys]
                for key in keys:
                    _delete(db, model, key)
                whole = pl.concat((_frame(b, None) for b in bodies), how="diagonal")
                _insert(db, model, keys[-1], whole)
        self._small[model] = [k for k in waiting if k not in set(keys) and k > bound]
        return len(keys)

    def parts(self, model: str) -> list[Part]:
        """Return what the lake may not have yet, oldest first."""
        self._begin(model)
        with self._reading:
            return self._after(self._reader, model, self._cut(self._reader, model)[1])

    def tail(
        self,
        model: str,
        since: Micros | None = None,
        until: Micros | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[pl.DataFrame]:
        """Return the parts that may have predictions of a span, as they are at one instant."""
        self._begin(model)
        with self._reading:
            db = self._reader
            db.execute("BEGIN")
            try:
                found = self._after(db, model, self._cut(db, model)[1])
                bodies = [_body(db, model, p.key) for p in found if p.meets(since, until)]
            finally:
                db.execute("COMMIT")
        return [_frame(body, columns) for body in bodies]

    def waiting(self, model: str) -> int:
        """Return how many predictions the lake may not have yet."""
        return sum(part.rows for part in self.parts(model))

    def oldest(self, model: str, found: Callable[[], Micros | None]) -> Micros | None:
        """Return the instant of the first prediction ever, None if there was none.

        Of a home from before there were cuts it is `found` once, and kept then.
        """
        self._begin(model)
        with self._reading:
            row = self._reader.execute("SELECT at FROM oldest WHERE model = ?", (model,)).fetchone()
        if row is None or row[0] is not None:
            return None if row is None else int(row[0])
        at = found()
        with self.writing() as db:
            db.execute("UPDATE oldest SET at = ? WHERE model = ?", (at, model))
        return at

    def newest(self, model: str, found: Callable[[], Micros | None]) -> Micros | None:
        """Return the instant of the last prediction ever, None if there was none.

        Of a home that was written before it was noted it is `found` once, and kept then.
        """
        self._begin(model)
        with self._reading:
            row = self._reader.execute(
                "SELECT newest.at FROM oldest LEFT JOIN newest USING (model) WHERE model = ?",
                (model,),
            ).fetchone()
        if row is None or row[0] is not None:
            return None if row is None else int(row[0])
        at = found()
        if at is not None:
            with self.writing() as db:
                _note_newest(db, model, at)
        return at

    def version(self, model: str) -> int:
        """Return the version as which the lake took the last predictions."""
        self._begin(model)
        with self._reading:
            return self._cut(self._reader, model)[0]

    def instants(self, model: str, requests: Sequence[str]) -> dict[str, Micros]:
        """Return when requests were first answered, for those in the index."""
        found = {}
        with self._reading:
            for name in requests:
                row = self._reader.execute(
                    "SELECT MIN(at) FROM answered WHERE key = ?", (_digest(model, name),)
                ).fetchone()
                if row[0] is not None:
                    found[name] = int(row[0])
        return found

    def unindexed(self) -> bool:
        """Whether there are predictions whose requests the index lacks."""
        with self._reading:
            return bool(self._reader.execute("SELECT 1 FROM unindexed").fetchone())

    def index(self, frames: Iterable[tuple[str, pl.DataFrame]]) -> None:
        """Add what models have answered to the index, which lacks nothing then.

        `frames` has `request_id` and `at` of each.
        """
        for model, frame in frames:
            with self.writing() as db:
                _index(db, model, frame)
        with self.writing() as db:
            db.execute("DELETE FROM unindexed")

    def forget(self, before: Micros, most: int) -> int:
        """Take requests answered before an instant out of the index, at most so many."""
        with self.writing() as db:
            gone = db.execute(
                "DELETE FROM answered WHERE (key, at) IN "
                "(SELECT key, at FROM answered WHERE at < ? LIMIT ?)",
                (before, most),
            )
            return gone.rowcount

    def chunk(self, model: str, rows: int) -> Chunk | None:
        """Return the next predictions for the lake, None if there are none.

        The same ones until `taken`, also after a crash: what the lake commits under a version never
        depends on when it is tried.
        """
        self._begin(model)
        with self.writing() as db:
            version, cut = self._cut(db, model)
            found = self._after(db, model, cut)
            upto = self._intended(db, model)
            if upto is None:
                first = db.execute(
                    "SELECT step, part FROM unsent WHERE model = ? ORDER BY step, part LIMIT 1",
                    (model,),
                ).fetchone()
                picked = 0
                for part in found:
                    if first is not None and part.key >= (first[0], first[1]):
                        break
                    if picked and picked + part.rows > rows:
                        break
                    upto, picked = part.key, picked + part.rows
                if upto is None:
                    return None
                db.execute(
                    "UPDATE cuts SET next_step = ?, next_part = ? WHERE model = ?", (*upto, model)
                )
            bodies = [_body(db, model, part.key) for part in found if part.key <= upto]
        frame = pl.concat([_frame(body, None) for body in bodies], how="diagonal")
        return Chunk(version + 1, frame, upto)

    def taken(self, model: str, chunk: Chunk, beside: Callable[[sqlite3.Connection], None]) -> None:
        """Move the cut to the end of a chunk that the lake has; `beside` writes along with it."""
        with self.writing() as db:
            found = self._after(db, model, self._cut(db, model)[1])
            db.execute(
                "UPDATE cuts SET version = ?, step = ?, part = ?, next_step = NULL, "
                "next_part = NULL WHERE model = ?",
                (chunk.version, *chunk.upto, model),
            )
            for part in found:
                if part.key <= chunk.upto:
                    _delete(db, model, part.key)
            beside(db)

    def sweep(self, model: str) -> int:
        """Delete some bodies that the lake had before there were cuts; return how many."""
        self._begin(model)
        with self.writing() as db:
            _, (step, part) = self._cut(db, model)
            keys = db.execute(
                "SELECT step, part FROM predictions WHERE model = ? AND (step, part) <= (?, ?) "
                "LIMIT ?",
                (model, step, part, SWEPT),
            ).fetchall()
            for key in keys:
                _delete(db, model, (key[0], key[1]))
        return len(keys)

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        self._reader.close()

    def _begin(self, model: str) -> None:
        """Give a model its cut; parts written before there were cuts are taken up after it."""
        with self._reading:
            known = self._reader.execute("SELECT 1 FROM cuts WHERE model = ?", (model,))
            if known.fetchone() is not None:
                return
        step = self._applied(model)
        with self.writing() as db:
            cut = (FIRST, 0) if step < 0 else (step, LAST)
            db.execute(
                "INSERT OR IGNORE INTO cuts VALUES (?, ?, ?, ?, NULL, NULL)", (model, step, *cut)
            )
            if step >= 0:  # what is in the lake is older
                db.execute("INSERT OR IGNORE INTO oldest VALUES (?, NULL)", (model,))
            db.execute(
                "INSERT OR IGNORE INTO parts SELECT model, step, part, rows, NULL, NULL "
                "FROM predictions WHERE model = ? AND (step, part) > (?, ?)",
                (model, *cut),
            )

    def _cut(self, db: sqlite3.Connection, model: str) -> tuple[int, Key]:
        row = db.execute("SELECT version, step, part FROM cuts WHERE model = ?", (model,))
        version, step, part = row.fetchone()
        return int(version), (int(step), int(part))

    def _intended(self, db: sqlite3.Connection, model: str) -> Key | None:
        row = db.execute(
            "SELECT next_step, next_part FROM cuts WHERE model = ?", (model,)
        ).fetchone()
        return None if row[0] is None else (int(row[0]), int(row[1]))

    def _after(self, db: sqlite3.Connection, model: str, cut: Key) -> list[Part]:
        rows = db.execute(
            "SELECT step, part, rows, first, last FROM parts "
            "WHERE model = ? AND (step, part) > (?, ?) ORDER BY step, part",
            (model, *cut),
        )
        return [Part((step, part), n, first, last) for step, part, n, first, last in rows]

    def _next(self, db: sqlite3.Connection, model: str, step: int) -> Key:
        """Return a key after all that there are and after the cut."""
        row = db.execute(
            "SELECT step, part FROM parts WHERE model = ? ORDER BY step DESC, part DESC LIMIT 1",
            (model,),
        ).fetchone()
        last = max(self._cut(db, model)[1], (FIRST, 0) if row is None else (row[0], row[1]))
        if last[1] == LAST and step <= last[0]:  # the cut of a home from before there were cuts
            return last[0] + 1, 0
        return (step, 0) if step > last[0] else (last[0], last[1] + 1)


def _prepare(db: sqlite3.Connection) -> None:
    """Make the tables that there are not; the index of a home that had none is not filled."""
    there = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    if "unindexed" in there:  # the newest of them
        return
    db.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        db.execute(statement)
    if "predictions" in there and "answered" not in there:
        db.execute(UNINDEXED)
    db.execute("COMMIT")


def _index(db: sqlite3.Connection, model: str, frame: pl.DataFrame) -> None:
    asked = frame.select("request_id", pl.col("at").dt.epoch("us"))
    db.executemany(
        "INSERT OR IGNORE INTO answered VALUES (?, ?)",
        [(_digest(model, name), at) for name, at in asked.iter_rows()],
    )


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    return db


def _insert(db: sqlite3.Connection, model: str, key: Key, frame: pl.DataFrame) -> None:
    body = io.BytesIO()
    frame.write_ipc(body, compression="lz4")
    instants = frame["at"].dt.epoch("us")
    db.execute(
        "INSERT OR REPLACE INTO predictions VALUES (?, ?, ?, ?, ?)",
        (model, *key, frame.height, body.getvalue()),
    )
    db.execute(
        "INSERT INTO oldest VALUES (?, ?) ON CONFLICT (model) DO UPDATE SET at = excluded.at "
        "WHERE excluded.at < at",
        (model, instants.min()),
    )
    if frame.height:
        _note_newest(db, model, int(instants.to_numpy().max()))
    db.execute(
        "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)",
        (model, *key, frame.height, instants.min(), instants.max()),
    )


def _note_newest(db: sqlite3.Connection, model: str, at: Micros) -> None:
    db.execute(
        "INSERT INTO newest VALUES (?, ?) ON CONFLICT (model) DO UPDATE SET at = excluded.at "
        "WHERE excluded.at > at",
        (model, at),
    )


def _delete(db: sqlite3.Connection, model: str, key: Key) -> None:
    for table in ("predictions", "parts"):
        db.execute(f"DELETE FROM {table} WHERE model = ? AND step = ? AND part = ?", (model, *key))


def _body(db: sqlite3.Connection, model: str, key: Key) -> bytes:
    row = db.execute(
        "SELECT body FROM predictions WHERE model = ? AND step = ? AND part = ?", (model, *key)
    ).fetchone()
    return bytes(row[0])


def _frame(body: bytes, columns: Sequence[str] | None) -> pl.DataFrame:
    if columns is not None and "definitions" not in columns:
        there = pl.read_ipc_schema(io.BytesIO(body))
        found = pl.read_ipc(io.BytesIO(body), columns=[name for name in columns if name in there])
        return with_offsets(found, columns)
    frame = pl.read_ipc(io.BytesIO(body))
    if "definitions" not in frame.columns:  # logged before predictions carried them
        place = frame.columns.index("features") + 1
        frame.insert_column(place, pl.Series("definitions", [None] * frame.height, pl.String))
    return frame if columns is None else frame.select(columns)


def with_offsets(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Return some columns; offsets of sources that were not read when it was written are missing.

    >>> with_offsets(pl.DataFrame({"request_id": ["a"]}), ["offset_taps", "request_id"]).row(0)
    (None, 'a')
    """
    return frame.select(
        pl.col(name)
        if name in frame.columns or not name.startswith("offset_")
        else pl.lit(None, pl.Int64).alias(name)
        for name in columns
    )


def _digest(model: str, request: str) -> int:
    """Return 64 bits of a request's name, as SQLite keeps them."""
    found = blake2b(f"{model}\0{request}".encode(), digest_size=8).digest()
    return int.from_bytes(found, "big", signed=True)
