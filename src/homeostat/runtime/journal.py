"""The journal: every decision with its evidence, written before it is carried out.

State is a fold of the journal, so a decision must be in it exactly once however often its step is
run again after a crash: entries are keyed by (step, place in the step), and writing an entry that
is there already is checked to be the same.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from homeostat.core.decisions import Decision
from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import canonical_json

__all__ = ["Entry", "Journal", "JournalDiffers"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (
    step INTEGER NOT NULL, place INTEGER NOT NULL, body TEXT NOT NULL, chain TEXT NOT NULL,
    PRIMARY KEY (step, place)) WITHOUT ROWID
"""


class JournalDiffers(HomeostatError):
    """A step that was run again decided otherwise: it is not a function of its past."""

    def __init__(self, step: int, place: int, there: str, now: str) -> None:
        super().__init__(
            f"journal, step {step}, entry {place}: it holds {there}, the same step now decides "
            f"{now}; allowed: the same decision; a stage read a clock, chance or changed data: "
            "run `homeostat doctor`"
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One journaled decision; `chain` hashes it together with everything before it."""

    step: int
    place: int
    decision: Decision
    chain: str


class Journal:
    """Decisions in SQLite, hash-chained in the order of (step, place)."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(_SCHEMA)

    def write(self, step: int, place: int, decision: Decision) -> None:
        """Add one decision; raise `JournalDiffers` if another one is there."""
        body = canonical_json(decision.as_json())
        found = self._db.execute(
            "SELECT body FROM journal WHERE step = ? AND place = ?", (step, place)
        ).fetchone()
        if found is not None:
            if found[0] != body:
                raise JournalDiffers(step, place, found[0], body)
            return
        chain = _linked(self.hash(), body)
        self._db.execute("INSERT INTO journal VALUES (?, ?, ?, ?)", (step, place, body, chain))

    def entries(self, before_step: int | None = None) -> Iterator[Entry]:
        """Yield the entries in order, all of them or those of earlier steps."""
        rows = self._db.execute(
            "SELECT step, place, body, chain FROM journal WHERE ? IS NULL OR step < ? "
            "ORDER BY step, place",
            (before_step, before_step),
        ).fetchall()
        for step, place, body, chain in rows:
            yield Entry(step, place, Decision.from_json(body), chain)

    def decisions(self, before_step: int | None = None) -> Sequence[Decision]:
        """Return the decisions in order, all of them or those of earlier steps."""
        return [entry.decision for entry in self.entries(before_step)]

    def last_step(self) -> int | None:
        """Return the last step with an entry, None if there is none."""
        row = self._db.execute("SELECT MAX(step) FROM journal").fetchone()
        return None if row[0] is None else int(row[0])

    def next_place(self, step: int) -> int:
        """Return the place after the last entry of a step."""
        row = self._db.execute(
            "SELECT COALESCE(MAX(place), -1) + 1 FROM journal WHERE step = ?", (step,)
        ).fetchone()
        return int(row[0])

    def hash(self) -> str:
        """Return the chain's last hash: one text that stands for the whole journal."""
        row = self._db.execute(
            "SELECT chain FROM journal ORDER BY step DESC, place DESC LIMIT 1"
        ).fetchone()
        return str(row[0]) if row else ""

    def broken(self) -> tuple[int, int] | None:
        """Return step and place of the first entry that its chain does not confirm, if any."""
        before = ""
        rows = self._db.execute("SELECT step, place, body, chain FROM journal ORDER BY step, place")
        for step, place, body, chain in rows:
            if chain != _linked(before, body):
                return int(step), int(place)
            before = chain
        return None

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _linked(before: str, body: str) -> str:
    return hashlib.sha256((before + body).encode()).hexdigest()
