"""Every prediction that a home has logged: those in the lake, and then those it has not yet."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from pathlib import Path
from threading import RLock
from typing import Any

import polars as pl

from homeostat.core.clock import to_micros
from homeostat.core.durations import Micros
from homeostat.declare.storage import prediction_table
from homeostat.lake.tiered import TieredLake
from homeostat.runtime.predictions import PredictionStore, with_offsets

__all__ = ["FLUSH_ROWS", "REMEMBERED", "PredictionHistory", "prediction_table"]

FLUSH_ROWS = 50_000
"""The lake takes at most so many predictions in a commit."""

READ_ROWS = 200_000
"""A day of more predictions than this is read in several spans, to bound the memory."""

REMEMBERED = 24 * 3_600_000_000
"""For so long, in microseconds, an answer is found by its request's id."""

DAY = 24 * 3_600_000_000
BITES, FORGOTTEN = 32, 20_000

Beside = Callable[[str, pl.DataFrame], Callable[[sqlite3.Connection], None]]
"""Told of a model's predictions that the lake has taken; returns what is to be noted of them."""


def _nothing(model: str, frame: pl.DataFrame) -> Callable[[sqlite3.Connection], None]:
    return lambda db: None


class PredictionHistory:
    """Reads and moves the predictions of a home; safe to call from many threads.

    A reader takes what is in `predictions.db` first and the lake's rows then, without those it has
    already: whatever is moved meanwhile, each prediction is seen once.
    """

    def __init__(self, path: Path, lake: TieredLake) -> None:
        self._lake = lake
        self.store = PredictionStore(path, self._committed)
        self._moving = RLock()
        self.beside: Beside = _nothing

    def put(self, model: str, step: int, part: int, frame: pl.DataFrame) -> None:
        """Store one part of one step of a replay."""
        self.store.put(model, step, part, frame)

    def frames(
        self,
        model: str,
        since: Micros | None = None,
        until: Micros | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield the predictions asked in [since, until), in parts; the oldest are first."""
        tail = self._tail(model, since, until, columns)
        ids = pl.concat([frame.select("prediction_id") for frame in tail]) if tail else None
        for begin, end in self._spans(model, since, until):
            yield from self._stored(model, (begin, end), columns, ids)
        for frame in tail:
            if frame.height:
                yield frame if columns is None else frame.select(columns)

    def stored(
        self, model: str, since: Micros, columns: Sequence[str] | None = None
    ) -> Iterator[pl.DataFrame]:
        """Yield those asked at an instant or later that the lake has; inside `still` alone."""
        tail = self._tail(model, since, None, [])
        ids = pl.concat([frame.select("prediction_id") for frame in tail]) if tail else None
        for span in self._spans(model, since, None):
            yield from self._stored(model, span, columns, ids)

    def tail(
        self, model: str, since: Micros, columns: Sequence[str] | None = None
    ) -> list[pl.DataFrame]:
        """Return those asked at an instant or later that the lake has not; inside `still` alone."""
        return [frame for frame in self._tail(model, since, None, columns) if frame.height]

    @contextmanager
    def still(self) -> Iterator[None]:
        """Let nothing be moved into the lake while the block runs."""
        with self._moving:
            yield

    def newest_first(self, model: str) -> Iterator[pl.DataFrame]:
        """Yield the predictions of a model in parts, the newest first."""
        tail = self._tail(model, None, None, None)
        ids = pl.concat([frame.select("prediction_id") for frame in tail]) if tail else None
        yield from (frame for frame in reversed(tail) if frame.height)
        for span in reversed(self._spans(model, None, None)):
            yield from self._stored(model, span, None, ids)

    def first(self, model: str) -> Micros | None:
        """Return the instant of the first prediction ever, None if there was none."""

        def found() -> Micros | None:
            frames = self.frames(model, columns=["at"])
            instants = (int(f["at"].dt.epoch("us").to_numpy().min()) for f in frames)
            return min(instants, default=None)

        return self.store.oldest(model, found)

    def last(self, model: str) -> Micros | None:
        """Return the instant of the newest prediction ever, None if there was none."""
        return self.store.newest(model, lambda: self._newest(model))

    def _newest(self, model: str) -> Micros | None:
        """Return the instant of the newest prediction that there is."""
        found = [frame["at"] for frame in self._tail(model, None, None, ["at"]) if frame.height]
        for span in reversed(self._spans(model, None, None)):
            found += [frame["at"] for frame in self._stored(model, span, ["at"], None)]
            if found:
                break
        return max((int(at.dt.epoch("us").to_numpy().max()) for at in found), default=None)

    def find(self, model: str, prediction_id: str) -> pl.DataFrame | None:
        """Return the one row of a prediction, None if the model has no such one."""
        wanted = pl.col("prediction_id") == prediction_id
        for frame in self._tail(model, None, None, None):
            if (row := frame.filter(wanted)).height:
                return row
        for span in reversed(self._spans(model, None, None)):
            for ids in self._stored(model, span, ["prediction_id", "at"], None):
                if (row := ids.filter(wanted)).height:
                    at = int(row["at"].dt.epoch("us")[0])
                    found = list(self._stored(model, (at, at + 1), None, None))
                    return pl.concat(found).filter(wanted) if found else None
        return None

    def answered(self, model: str, request_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the first logged answer of each request that was answered in the last 24 hours.

        By the request's id, as the columns of the prediction log. An id that is new costs one
        look-up in an index; one that is not, the reading of its part, or of its instant in the
        lake.
        """
        found: dict[str, dict[str, Any]] = {}
        for name, at in self.store.instants(model, request_ids).items():
            wanted = (pl.col("request_id") == name) & (pl.col("at").dt.epoch("us") == at)
            for frame in self.frames(model, at, at + 1):
                if (row := frame.filter(wanted)).height:
                    found[name] = row.row(0, named=True)
                    break
        return found

    def index(self, models: Sequence[str], now: Micros) -> None:
        """Let `answered` find what a replay or an earlier release has answered, too."""
        if self.store.unindexed():
            since, columns = now - REMEMBERED, ["request_id", "at"]
            self.store.index((m, f) for m in models for f in self.frames(m, since, None, columns))

    def flush(self, model: str, least: int = 1) -> int:
        """Move predictions into the lake while at least so many wait; return how many.

        Killed at any instant and called again, it goes on, and nothing is doubled.
        """
        moved, table = 0, prediction_table(model)
        with self._moving:
            while self.store.waiting(model) >= least:
                chunk = self.store.chunk(model, FLUSH_ROWS)
                if chunk is None:
                    break
                self._lake.append(table, chunk.frame, f"log/{model}", chunk.version, day="at")
                self.store.taken(model, chunk, self.beside(model, chunk.frame))
                moved += chunk.frame.height
        return moved

    def tidy(self, model: str, now: Micros) -> None:
        """Delete what is in the lake as well, and forget old requests, in bounded bites."""
        for _ in range(BITES):
            if not self.store.sweep(model):
                break
        for _ in range(BITES):
            if self.store.forget(now - REMEMBERED, FORGOTTEN) < FORGOTTEN:
                break

    def close(self) -> None:
        """Close the file."""
        self.store.close()

    def _committed(self, model: str) -> int:
        return self._lake.application_version(prediction_table(model), f"log/{model}")

    def _tail(
        self,
        model: str,
        since: Micros | None,
        until: Micros | None,
        columns: Sequence[str] | None,
    ) -> list[pl.DataFrame]:
        needed = None if columns is None else list(dict.fromkeys([*columns, "prediction_id", "at"]))
        return [
            frame.filter(_within(since, until))
            for frame in self.store.tail(model, since, until, needed)
        ]

    def _stored(
        self,
        model: str,
        span: tuple[Micros, Micros],
        columns: Sequence[str] | None,
        but: pl.DataFrame | None,
    ) -> Iterator[pl.DataFrame]:
        """Yield the lake's rows of a span, without those whose ids are in `but`."""
        table, needed = prediction_table(model), None
        if columns is not None:
            there, wanted = self._lake.names(table), dict.fromkeys([*columns, "prediction_id"])
            needed = [c for c in wanted if c in there or not c.startswith("offset_")]
        frame = self._lake.read(table, needed, known_before=span[1], known_from=span[0])
        if but is not None and frame.height:
            frame = frame.join(but, on="prediction_id", how="anti", maintain_order="left")
        if frame.height:
            yield frame if columns is None else with_offsets(frame, columns)

    def _spans(
        self, model: str, since: Micros | None, until: Micros | None
    ) -> list[tuple[Micros, Micros]]:
        """Return the spans of time to read the lake in, oldest first, each within a day."""
        spans = []
        for day, rows in sorted(self._lake.rows_by_day(prediction_table(model)).items()):
            midnight = _midnight(day)
            begin = midnight if since is None else max(midnight, since)
            end = midnight + DAY if until is None else min(midnight + DAY, until)
            pieces = -(-rows // READ_ROWS) or 1
            cuts = [midnight + DAY * i // pieces for i in range(pieces + 1)]
            spans += [
                (max(begin, a), min(end, b))
                for a, b in itertools.pairwise(cuts)
                if max(begin, a) < min(end, b)
            ]
        return spans


def _within(since: Micros | None, until: Micros | None) -> pl.Expr:
    at = pl.col("at").dt.epoch("us")
    lower = pl.lit(True) if since is None else at >= since
    return lower if until is None else lower & (at < until)


def _midnight(day: date) -> Micros:
    return to_micros(datetime.combine(day, time(), UTC))
