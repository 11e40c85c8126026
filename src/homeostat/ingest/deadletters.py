"""Quarantine: records that are no events wait here to be repaired, replayed or dropped."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError, UnknownName
from homeostat.core.storage import storage
from homeostat.ingest.intake import DeadLetter
from homeostat.ingest.log import Advance, EventLog

__all__ = ["DeadLetters", "LetterClosed", "Quarantined"]

STATES = ("open", "repaired", "replayed", "dropped")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS dead_letters (
    source TEXT NOT NULL, "offset" INTEGER NOT NULL, known INTEGER NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL, payload BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'open', repaired BLOB, replayed_as INTEGER,
    PRIMARY KEY (source, "offset")) WITHOUT ROWID
"""
_STREAM = "dead-letters"
"""Under this name the log keeps which letters were sent last: their offsets."""

_BATCH = 500
_COLUMNS = 'source, "offset", known, reason, detail, payload, state, repaired, replayed_as'

_Row = tuple[str, int, int, str, str, bytes, str, bytes | None, int | None]


class LetterClosed(HomeostatError):
    """A dead letter that was replayed or dropped cannot change any more."""

    def __init__(self, source: str, offset: int, state: str) -> None:
        super().__init__(
            f"dead letter {offset} of {source!r} is {state}; allowed: letters that are open or "
            "repaired; list them with `homeostat dead-letters list`"
        )


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A dead letter and what was done about it.

    `state` is open, repaired, replayed or dropped; `replayed_as` is the offset at which the
    letter went into the log again, None if the replay was killed before it could note it.
    """

    letter: DeadLetter
    state: str
    repaired: bytes | None
    replayed_as: int | None


class DeadLetters:
    """Dead letters in SQLite, one per source and offset however often it is added.

    >>> letters = DeadLetters(Path(":memory:"))
    >>> letters.add([DeadLetter("taps", 3, 0, "malformed", "not JSON", b"{")] * 2)
    1
    >>> letters.counts()
    {('taps', 'malformed'): 1}
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=30.0
        )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(_SCHEMA)

    def add(self, letters: Iterable[DeadLetter]) -> int:
        """Keep new letters in one transaction; return how many there were."""
        rows = [(x.source, x.offset, x.known, x.reason, x.detail, x.payload) for x in letters]
        if not rows:
            return 0
        with self._lock, storage("dead letters", self._path, sqlite3.OperationalError):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                added = self._db.executemany(
                    'INSERT OR IGNORE INTO dead_letters (source, "offset", known, reason, detail, '
                    "payload) VALUES (?, ?, ?, ?, ?, ?)",
                    rows,
                ).rowcount
            except BaseException:
                if self._db.in_transaction:  # SQLite ends it by itself when the disk is full
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        return added

    def counts(self, state: str | None = None) -> dict[tuple[str, str], int]:
        """Return how many letters there are by (source, reason), of one state or of all."""
        rows = self._db.execute(
            "SELECT source, reason, COUNT(*) FROM dead_letters WHERE ?1 IS NULL OR state = ?1 "
            "GROUP BY source, reason ORDER BY source, reason",
            (_known_state(state),),
        )
        return {(source, reason): int(number) for source, reason, number in rows}

    def reasons(self, source: str, known_from: Micros, known_before: Micros) -> dict[str, int]:
        """Return how many letters of a source became known in a span, by reason."""
        rows = self._db.execute(
            "SELECT reason, COUNT(*) FROM dead_letters WHERE source = ? AND known >= ? "
            "AND known < ? GROUP BY reason ORDER BY reason",
            (source, known_from, known_before),
        )
        return {reason: int(number) for reason, number in rows}

    def list(
        self,
        source: str | None = None,
        reason: str | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[Quarantined]:
        """Return letters by source and offset; None does not restrict."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM dead_letters WHERE (?1 IS NULL OR source = ?1) "
            "AND (?2 IS NULL OR reason = ?2) AND (?3 IS NULL OR state = ?3) "
            'ORDER BY source, "offset" LIMIT ?4',
            (source, reason, _known_state(state), limit),
        )
        return [_quarantined(row) for row in rows]

    def show(self, source: str, offset: int) -> Quarantined:
        """Return one letter; raise `UnknownName` if there is none at that offset."""
        row: _Row | None = self._db.execute(
            f'SELECT {_COLUMNS} FROM dead_letters WHERE source = ? AND "offset" = ?',
            (source, offset),
        ).fetchone()
        if row is None:
            near = self._db.execute(
                'SELECT "offset" FROM dead_letters WHERE source = ? ORDER BY ABS("offset" - ?) '
                "LIMIT 5",
                (source, offset),
            )
            known = [str(found) for (found,) in near]
            raise UnknownName("dead letter", str(offset), known, f"source {source!r}")
        return _quarantined(row)

    def repair(self, source: str, offset: int, payload: bytes) -> None:
        """Give a letter the bytes it should have had; `replay` then sends them."""
        self._change(source, offset, "repaired", payload)

    def drop(self, source: str, offset: int) -> None:
        """Close a letter for good; its bytes stay."""
        self._change(source, offset, "dropped", None)

    def replay(
        self, log: EventLog, at: Micros, source: str | None = None, *, unrepaired: bool = False
    ) -> int:
        """Append repaired letters to the log, known at `at`; return how many.

        With `unrepaired`, open ones too, as they are: for after a schema or clock was put right.
        Events keep their own event time. Which letters were sent is kept with their records: a
        replay that is killed at any instant and given again sends none twice.
        """
        wanted = ("repaired", "open") if unrepaired else ("repaired",)
        sources = self._db.execute(
            "SELECT DISTINCT source FROM dead_letters WHERE (?1 IS NULL OR source = ?1) "
            "AND state IN ('open', 'repaired') ORDER BY source",
            (source,),
        ).fetchall()
        return sum(self._send(log, at, name, wanted) for (name,) in sources)

    def _send(self, log: EventLog, at: Micros, source: str, wanted: Sequence[str]) -> int:
        """Send a source's letters in the wanted states, a batch at a time."""
        stands = log.positions(source).get(_STREAM)
        if stands is not None:
            self._sent(source, [int(offset) for offset in stands.split(",")], None)
        letters = [found for state in wanted for found in self.list(source, state=state, limit=-1)]
        for begin in range(0, len(letters), _BATCH):
            batch = letters[begin : begin + _BATCH]
            offsets = [found.letter.offset for found in batch]
            payloads = [
                found.letter.payload if found.repaired is None else found.repaired
                for found in batch
            ]
            sent = ",".join(map(str, offsets))
            step = Advance(_STREAM, stands, sent)
            self._sent(source, offsets, log.append(source, [at] * len(batch), payloads, [step]))
            stands = sent
        return len(letters)

    def _sent(self, source: str, offsets: Sequence[int], first: int | None) -> None:
        """Close letters that are in the log again, from `first` on if that is still known."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(
                    "UPDATE dead_letters SET state = 'replayed', replayed_as = ? WHERE source = ? "
                    "AND \"offset\" = ? AND state IN ('open', 'repaired')",
                    [
                        (None if first is None else first + place, source, offset)
                        for place, offset in enumerate(offsets)
                    ],
                )
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _change(self, source: str, offset: int, state: str, payload: bytes | None) -> None:
        found = self.show(source, offset)
        if found.state not in ("open", "repaired"):
            raise LetterClosed(source, offset, found.state)
        self._db.execute(
            'UPDATE dead_letters SET state = ?, repaired = ? WHERE source = ? AND "offset" = ?',
            (state, payload, source, offset),
        )


def _known_state(state: str | None) -> str | None:
    if state is not None and state not in STATES:
        raise UnknownName("state", state, STATES, "dead letters")
    return state


def _quarantined(row: _Row) -> Quarantined:
    source, offset, known, reason, detail, payload, state, repaired, replayed_as = row
    letter = DeadLetter(source, offset, known, reason, detail, payload)
    return Quarantined(letter, state, repaired, replayed_as)
