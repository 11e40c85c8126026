"""The prediction log: every answer, durable before the step that gave it is committed."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import polars as pl

__all__ = ["PredictionStore"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS predictions (
    model TEXT NOT NULL, step INTEGER NOT NULL, part INTEGER NOT NULL, rows INTEGER NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (model, step, part)) WITHOUT ROWID
"""


class PredictionStore:
    """Frames of predictions in SQLite, one blob (Arrow, compressed) per model, step and part.

    A step that is run again after a crash writes the same key again, so nothing is doubled.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(_SCHEMA)

    def put(self, model: str, step: int, part: int, frame: pl.DataFrame) -> None:
        """Store the predictions of one part of one step."""
        body = io.BytesIO()
        frame.write_ipc(body, compression="lz4")
        self._db.execute(
            "INSERT OR REPLACE INTO predictions VALUES (?, ?, ?, ?, ?)",
            (model, step, part, frame.height, body.getvalue()),
        )

    def next_part(self, model: str, step: int) -> int:
        """Return the part after the last one of a step."""
        row = self._db.execute(
            "SELECT COALESCE(MAX(part), -1) + 1 FROM predictions WHERE model = ? AND step = ?",
            (model, step),
        ).fetchone()
        return int(row[0])

    def frames(
        self, model: str, first_step: int, before_step: int
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield (step, frame) of the steps in [first_step, before_step), in order."""
        rows = self._db.execute(
            "SELECT step, body FROM predictions WHERE model = ? AND step >= ? AND step < ? "
            "ORDER BY step, part",
            (model, first_step, before_step),
        )
        for step, body in rows:
            yield int(step), _frame(body)

    def newest_first(self, model: str) -> Iterator[pl.DataFrame]:
        """Yield the frames of a model, the newest first."""
        keys = self._db.execute(
            "SELECT step, part FROM predictions WHERE model = ? ORDER BY step DESC, part DESC",
            (model,),
        ).fetchall()
        for step, part in keys:
            row = self._db.execute(
                "SELECT body FROM predictions WHERE model = ? AND step = ? AND part = ?",
                (model, step, part),
            ).fetchone()
            yield _frame(row[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _frame(body: bytes) -> pl.DataFrame:
    frame = pl.read_ipc(io.BytesIO(body))
    if "definitions" not in frame.columns:  # logged before predictions carried them
        place = frame.columns.index("features") + 1
        frame.insert_column(place, pl.Series("definitions", [None] * frame.height, pl.String))
    return frame
