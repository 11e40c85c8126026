"""Answers are written down whatever the home does, and a disk that takes none is said."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

import homeostat as hs
from homeostat.core.errors import HomeostatError
from homeostat.features.assemble import Features
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.runtime import prediction_writer
from homeostat.runtime.prediction_writer import PredictionLogFull, PredictionWriter
from homeostat.runtime.predictions import PredictionStore
from homeostat.runtime.profile import ProfileInvalid, read_profile
from homeostat.serve.ports import NotDurable
from homeostat.serve.predictions import Predictions
from homeostat.testing.toy import toy_system

SYSTEM = toy_system()


def answered(name: str) -> Predictions:
    """Return the fallback's answer to one request."""
    return Predictions(
        model="fraud",
        at=1_700_000_000_000_000,
        ids=[f"id-{name}"],
        request_ids=[name],
        requests=[{"payment_id": name, "amount": 1.0}],
        offsets={"payments": 3},
        features=Features(np.empty((1, 0)), {}),
        arms=["score"],
        versions=[None],
        scores=[0.1],
        thresholds=[0.5],
        degraded=[["no_champion"]],
    )


class Disk:
    """A store and a log that fail while they are told to, and what was said of it."""

    def __init__(self, folder: Path) -> None:
        self.store = PredictionStore(folder / "predictions.db", lambda model: -1)
        self.log = SqliteLog(folder / "log.db")
        self.said: list[str] = []
        self.asked = Event()
        self._add, self._append = self.store.add, self.log.append

    def break_store(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def add(*args: Any) -> Any:
            self.asked.set()
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(self.store, "add", add)

    def break_log(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def append(*args: Any) -> int:
            self.asked.set()
            raise sqlite3.OperationalError("database is locked")

        monkeypatch.setattr(self.log, "append", append)

    def mend(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self.store, "add", self._add)
        monkeypatch.setattr(self.log, "append", self._append)

    def events(self) -> list[bytes]:
        return list(self.log.read("payments", -1, 1000).payloads)

    def stored(self) -> list[str]:
        return [name for f in self.store.tail("fraud") for name in f["request_id"].to_list()]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    yield disk
    disk.store.close()
    disk.log.close()


@contextmanager
def writer(
    disk: Disk, kind: prediction_writer.LogPredictions = "soon"
) -> Iterator[PredictionWriter]:
    made = PredictionWriter(
        SYSTEM, disk.store, disk.log, step=lambda: 7, sources=lambda name: ("payments",),
        faults=lambda part, error: disk.said.append(f"{part}: {error}"), log_predictions=kind,
    )  # fmt: skip
    try:
        yield made
    finally:
        made.close()


def test_answers_and_their_requests_are_written_without_anybody_asking(disk: Disk) -> None:
    with writer(disk) as made:
        for n in range(50):
            made.append(answered(f"r{n}"))
        assert made.answered("fraud", "r49") is not None or "r49" in disk.stored()
        assert made.settle(60)
        assert made.answered("fraud", "r49") is None, "it is in the store now"
        assert disk.stored() == [f"r{n}" for n in range(50)]
        assert len(disk.events()) == 50
        assert disk.store.unsent() == []
        assert made.counted() == 50
    assert disk.said == []


def test_a_full_disk_is_said_and_what_waits_is_written_later(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_writer, "WAITING", 5)
    disk.break_store(monkeypatch)
    with writer(disk) as made:
        for n in range(5):
            made.append(answered(f"r{n}"))
        assert disk.asked.wait(60)
        row = made.answered("fraud", "r4")
        assert row is not None
        assert row["prediction_id"] == "id-r4"
        for n in (1, 2):
            with pytest.raises(PredictionLogFull, match=f"not logged \\({n} so far\\)"):
                made.append(answered("r9"))
        disk.mend(monkeypatch)
        assert made.settle(60)
    assert disk.stored() == [f"r{n}" for n in range(5)]
    assert "database or disk is full" in disk.said[0]


def test_a_log_that_is_down_holds_up_no_answer(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.break_log(monkeypatch)
    with writer(disk, "sync") as made:
        for n in range(4):
            made.append(answered(f"r{n}"))
        none = answered("none")
        none.recorded = [False]
        made.append(none)
        assert disk.stored() == ["r0", "r1", "r2", "r3", "none"]
        assert disk.asked.wait(60)
    assert disk.events() == []
    disk.mend(monkeypatch)
    with writer(disk) as again:
        assert again.settle(60), "what was not sent is sent by the next process"
    assert len(disk.events()) == 4, "and what is no event is not"
    assert disk.store.unsent() == []


def test_sync_returns_when_others_can_read_it(disk: Disk, tmp_path: Path) -> None:
    def ask(name: str) -> int:
        made.append(answered(name))
        with closing(sqlite3.connect(tmp_path / "predictions.db")) as db:
            rows: int = db.execute("SELECT sum(rows) FROM parts").fetchone()[0]
        return rows

    with writer(disk, "sync") as made, ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(ask, [f"r{n}" for n in range(40)]))
    assert sorted(seen)[-1] == 40
    assert min(seen) >= 1


def test_sync_lets_no_answer_leave_that_is_not_durable(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_writer, "PATIENCE_S", 0.05)
    disk.break_store(monkeypatch)
    with writer(disk, "sync") as made:
        with pytest.raises(NotDurable, match="lets no answer leave before"):
            made.append(answered("r1"))
        disk.mend(monkeypatch)
        assert made.settle(60)
    assert disk.stored() == ["r1"]


def test_what_could_not_be_written_before_the_end_is_said(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.break_store(monkeypatch)
    with writer(disk) as made:
        made.append(answered("r1"))
    assert "1 answers could not be written before the end" in disk.said[-1]


@pytest.mark.parametrize("kind", ["soon", "sync"])
def test_a_home_logs_what_it_answers(
    tmp_path: Path, kind: prediction_writer.LogPredictions
) -> None:
    asked = {"payment_id": "p1", "card": "c", "merchant": "m", "amount": 2.0}
    with hs.open(SYSTEM, tmp_path, log_predictions=kind) as app:
        (answer,) = app.predict("fraud", asked)
        if kind == "soon":
            app.live.fold()
        (row,) = app.live.answered("fraud", ["p1", "p2"]).values()
        assert row["prediction_id"] == answer.prediction_id
        app.live.drain()
        app.live.flush()
        assert app.home.lake.read("payments")["payment_id"].to_list() == ["p1"]
    with hs.open(SYSTEM, tmp_path) as app:
        (row,) = app.live.answered("fraud", ["p1"]).values()
        assert row["prediction_id"] == answer.prediction_id


def test_the_profile_says_when_answers_are_durable() -> None:
    assert read_profile("", SYSTEM).predictions == "soon"
    assert read_profile('[predictions]\nlog = "sync"', SYSTEM).predictions == "sync"
    with pytest.raises(ProfileInvalid, match="before the answer leaves"):
        read_profile('[predictions]\nlog = "later"', SYSTEM)
    names: Callable[[], object] = lambda: read_profile("[predictions]\nlogg = 1", SYSTEM)  # noqa: E731
    with pytest.raises(HomeostatError, match="Did you mean 'log'"):
        names()


@pytest.mark.parametrize("most", [100_000, 0])
def test_a_retry_gets_no_answer_that_is_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(prediction_writer, "PATIENCE_S", 0.05)
    asked = {"payment_id": "p1", "card": "c", "merchant": "m", "amount": 2.0}
    with hs.open(SYSTEM, tmp_path, log_predictions="sync") as app:
        disk = app.home.predictions.store
        whole = disk.add

        def full(*args: Any) -> Any:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(disk, "add", full)
        monkeypatch.setattr(prediction_writer, "WAITING", most)
        for _ in range(3):
            with pytest.raises(NotDurable, match="disk is full" if most else "not durable"):
                app.predict("fraud", asked)
        state = app.live.service.ready()
        if most:
            assert not state.ready
            assert "prediction log: answers wait to be written" in state.notes[-1]
            assert "disk is full" in state.notes[-1]
        monkeypatch.setattr(prediction_writer, "WAITING", 100_000)
        monkeypatch.setattr(prediction_writer, "PATIENCE_S", 60)
        monkeypatch.setattr(disk, "add", whole)
        (answer,) = app.predict("fraud", asked)
        assert app.live.service.ready().ready
        logged = list(app.home.predictions.frames("fraud", columns=["prediction_id"]))
        assert [f["prediction_id"].to_list() for f in logged] == [[answer.prediction_id]]
    with hs.open(SYSTEM, tmp_path) as app:
        assert app.predict("fraud", asked)[0].prediction_id == answer.prediction_id
