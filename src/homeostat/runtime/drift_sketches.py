"""Sketches of the logged features by step, kept as the lake takes them: a window is a sum."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from homeostat.core.durations import Micros
from homeostat.monitor.logged import logged_features
from homeostat.monitor.sketch import Sketch, sketch_like
from homeostat.runtime.prediction_history import PredictionHistory

__all__ = ["DriftSketches", "Reference"]

_SCHEMA = (
    (
        "CREATE TABLE IF NOT EXISTS sketches (model TEXT NOT NULL, window INTEGER NOT NULL, "
        "bucket INTEGER NOT NULL, counts TEXT NOT NULL, PRIMARY KEY (model, window, bucket)) "
        "WITHOUT ROWID"
    ),
    (
        "CREATE TABLE IF NOT EXISTS sketched (model TEXT NOT NULL, window INTEGER NOT NULL, "
        "bins TEXT NOT NULL, since INTEGER NOT NULL, version INTEGER NOT NULL, "
        "PRIMARY KEY (model, window)) WITHOUT ROWID"
    ),
)

COLUMNS = ("at", "degraded", "features", "definitions", "request")

Counts = list[list[int]]


@dataclass(frozen=True, slots=True)
class Reference:
    """What a package learned from: its features, the texts of them, and their histograms.

    `bins` names the histograms: the hash of the package. `mine` leaves those predictions that were
    given the package's features.
    """

    bins: str
    names: tuple[str, ...]
    texts: tuple[str, ...]
    sketch: Sketch
    mine: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame

    def of(self, frame: pl.DataFrame) -> Sketch:
        """Return the sketch of logged predictions in the bins of this reference."""
        own = self.mine(frame)
        return sketch_like(self.sketch, *logged_features(own, self.names, self.texts))


class DriftSketches:
    """The sketch of a window: one per step of what is in the lake, and the rows that are not.

    The steps' sketches are written with the cut of the lake, in one transaction: a prediction is in
    a sketch or in the tail, never in both. A reference that is new is sketched from the lake, once.

    Args:
        history: the predictions of a home.
        begin_of: returns the beginning of the step that an instant lies in.
        every: the length of a step, in microseconds.
    """

    def __init__(
        self, history: PredictionHistory, begin_of: Callable[[Micros], Micros], every: Micros
    ) -> None:
        self._history, self._begin_of, self._every = history, begin_of, every
        self._followed: dict[tuple[str, Micros], Reference] = {}
        with history.store.writing() as db:
            for statement in _SCHEMA:
                db.execute(statement)
        history.beside = self._beside

    def follow(self, model: str, window: Micros, reference: Reference) -> None:
        """Sketch what the lake takes from now on in the bins of a reference."""
        self._followed[model, window] = reference

    def window(self, model: str, window: Micros, begin: Micros, reference: Reference) -> Sketch:
        """Return the sketch of all predictions asked at `begin` or later."""
        self.follow(model, window, reference)
        edge = self._begin_of(begin)
        edge += self._every if edge < begin else 0
        with self._history.still():
            if not self._is_kept(model, window, edge, reference):
                self._sketch_again(model, window, edge, reference)
            total = [list(h.counts) for h in reference.of(_nothing()).histograms]
            for frame in self._history.frames(model, begin, edge, COLUMNS):
                _add(total, reference.of(frame))
            for counts in self._kept(model, window, edge):
                _add_counts(total, counts)
            for frame in self._history.tail(model, edge, COLUMNS):
                _add(total, reference.of(frame))
        return Sketch(
            tuple(
                replace(h, counts=tuple(counts))
                for h, counts in zip(reference.sketch.histograms, total, strict=True)
            )
        )

    def _is_kept(self, model: str, window: Micros, edge: Micros, reference: Reference) -> bool:
        version = self._history.store.version(model)
        with self._history.store.writing() as db:
            row = db.execute(
                "SELECT bins, since, version FROM sketched WHERE model = ? AND window = ?",
                (model, window),
            ).fetchone()
            if row is None or row[0] != reference.bins or row[1] > edge or row[2] != version:
                return False
            db.execute(
                "DELETE FROM sketches WHERE model = ? AND window = ? AND bucket < ?",
                (model, window, edge),
            )
        return True

    def _kept(self, model: str, window: Micros, edge: Micros) -> Iterable[Counts]:
        with self._history.store.writing() as db:
            rows = db.execute(
                "SELECT counts FROM sketches WHERE model = ? AND window = ? AND bucket >= ?",
                (model, window, edge),
            ).fetchall()
        return (json.loads(row[0]) for row in rows)

    def _sketch_again(self, model: str, window: Micros, edge: Micros, reference: Reference) -> None:
        found: dict[Micros, Counts] = {}
        for frame in self._history.stored(model, edge, COLUMNS):
            self._count(found, frame, reference)
        version = self._history.store.version(model)
        with self._history.store.writing() as db:
            db.execute("DELETE FROM sketches WHERE model = ? AND window = ?", (model, window))
            db.execute(
                "INSERT OR REPLACE INTO sketched VALUES (?, ?, ?, ?, ?)",
                (model, window, reference.bins, edge, version),
            )
            _write(db, model, window, found)

    def _count(self, found: dict[Micros, Counts], frame: pl.DataFrame, of: Reference) -> None:
        """Add rows to the counts of their steps."""
        at = frame["at"].dt.epoch("us")
        offset = self._begin_of(int(at[0])) if frame.height else 0
        named = frame.with_columns(_step=(at - offset) // self._every)
        for (step,), rows in named.partition_by("_step", as_dict=True).items():
            bucket = offset + int(step) * self._every
            sketch = of.of(rows.drop("_step"))
            if bucket in found:
                _add(found[bucket], sketch)
            else:
                found[bucket] = [list(h.counts) for h in sketch.histograms]

    def _beside(self, model: str, frame: pl.DataFrame) -> Callable[[sqlite3.Connection], None]:
        """Return what adds the predictions that the lake has taken to the sketches."""
        counted: dict[tuple[Micros, str], Mapping[Micros, Counts]] = {}
        for (name, window), reference in self._followed.items():
            if name == model:
                found: dict[Micros, Counts] = {}
                self._count(found, frame.select(COLUMNS), reference)
                counted[window, reference.bins] = found

        def note(db: sqlite3.Connection) -> None:
            for (window, bins), found in counted.items():
                moved = db.execute(
                    "UPDATE sketched SET version = version + 1 WHERE model = ? AND window = ? "
                    "AND bins = ? AND version + 1 = (SELECT version FROM cuts WHERE model = ?)",
                    (model, window, bins, model),
                )
                if moved.rowcount:
                    _write(db, model, window, found)

        return note


def _write(
    db: sqlite3.Connection, model: str, window: Micros, found: Mapping[Micros, Counts]
) -> None:
    for bucket, counts in found.items():
        row = db.execute(
            "SELECT counts FROM sketches WHERE model = ? AND window = ? AND bucket = ?",
            (model, window, bucket),
        ).fetchone()
        if row is not None:
            _add_counts(counts, json.loads(row[0]))
        db.execute(
            "INSERT OR REPLACE INTO sketches VALUES (?, ?, ?, ?)",
            (model, window, bucket, json.dumps(counts)),
        )


def _add(total: Counts, sketch: Sketch) -> None:
    _add_counts(total, [list(h.counts) for h in sketch.histograms])


def _add_counts(total: Counts, more: Sequence[Sequence[int]]) -> None:
    for mine, theirs in zip(total, more, strict=True):
        for i, count in enumerate(theirs):
            mine[i] += count


def _nothing() -> pl.DataFrame:
    from homeostat.serve.predictions import prediction_schema

    return pl.DataFrame(schema=prediction_schema(()))
