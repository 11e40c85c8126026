"""Predictions move from a file into the lake: each is there once, whatever happens in between."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from homeostat.core.clock import from_micros
from homeostat.lake.tiered import TieredLake
from homeostat.runtime import prediction_history, predictions
from homeostat.runtime.prediction_history import PredictionHistory
from homeostat.serve.predictions import prediction_schema

DAY = 24 * 3_600_000_000
START = 19_800 * DAY


def rows(first: int, count: int, apart: int = 60_000_000) -> pl.DataFrame:
    """Return predictions number `first` and on, one a minute."""
    numbers = range(first, first + count)
    schema = prediction_schema(["taps"])
    held: dict[str, list[Any]] = {
        "prediction_id": [f"p{n:06}" for n in numbers],
        "at": [from_micros(START + n * apart) for n in numbers],
        "request_id": [f"r{n // 2}" for n in numbers],
        "score": [n / 7 for n in numbers],
        "features": [[float(n), None] for n in numbers],
        "request": ['{"tap": 1}' for _ in numbers],
    }
    return pl.DataFrame(
        [
            pl.Series(name, held.get(name, [None] * count), dtype=dtype)
            for name, dtype in schema.items()
        ]
    )


@contextmanager
def opened(folder: Path) -> Iterator[PredictionHistory]:
    lake = TieredLake(folder / "lake", declared={"predictions_m": pl.Schema(prediction_schema([]))})
    history = PredictionHistory(folder / "predictions.db", lake)
    try:
        yield history
    finally:
        history.close()


def held(
    history: PredictionHistory, since: int | None = None, until: int | None = None
) -> pl.DataFrame:
    found = list(history.frames("m", since, until))
    return pl.concat(found, how="diagonal").sort("at") if found else rows(0, 0)


class Killed(BaseException):
    """The process ends here."""


def test_whatever_is_cut_off_each_prediction_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draw writings, merges, moves, kills in the midst of them and restarts, against a list."""
    monkeypatch.setattr(predictions, "SMALL", 9)
    monkeypatch.setattr(predictions, "RUN", 3)
    monkeypatch.setattr(prediction_history, "FLUSH_ROWS", 20)
    monkeypatch.setattr(prediction_history, "READ_ROWS", 50)
    draw, written, step, kills = random.Random(3), 0, 0, 0

    def write(history: PredictionHistory) -> None:
        nonlocal written, step
        step += draw.random() < 0.2
        count = draw.randint(1, 8)
        ((model, key),) = history.store.add(step, {"m": rows(written, count)})
        written += count
        if draw.random() < 0.8:
            history.store.sent(model, key)
        history.store.merge("m")

    def move(history: PredictionHistory) -> None:
        for name, key in history.store.unsent():
            history.store.sent(name, key)
        history.flush("m")

    def cut_off(history: PredictionHistory) -> None:
        """Move, and be killed before or after the lake's commit."""
        nonlocal kills
        append, after = history._lake.append, draw.random() < 0.5

        def append_and_die(*args: object, **named: object) -> bool:
            if after:
                append(*args, **named)  # type: ignore[arg-type]
            raise Killed

        monkeypatch.setattr(history._lake, "append", append_and_die)
        with suppress(Killed):
            move(history)
            return  # there was nothing to move
        kills += 1

    acts: list[Callable[[PredictionHistory], None]] = [write, write, write, write, move, cut_off]
    for _ in range(30):
        with opened(tmp_path) as history:
            write(history)
            for _ in range(draw.randint(1, 6)):
                act = draw.choice(acts)
                act(history)
                expected = rows(0, written)
                assert (
                    held(history)
                    .select("prediction_id", "score", "features")
                    .equals(expected.select("prediction_id", "score", "features"))
                )
                if act is cut_off:
                    break
            assert history.last("m") == START + (written - 1) * 60_000_000
            since, until = (START + draw.randint(0, written + 1) * 60_000_000 for _ in "ab")
            found = held(history, since, until)["prediction_id"].to_list()
            at = expected["at"]
            inside = (at >= from_micros(since)) & (at < from_micros(until))
            assert found == expected["prediction_id"].filter(inside).to_list()
            asked = draw.randrange(written)
            row = history.find("m", f"p{asked:06}")
            assert row is not None
            assert row["score"].to_list() == [asked / 7]
            first = history.answered("m", [f"r{asked // 2}", "never"])
            assert {k: v["prediction_id"] for k, v in first.items()} == {
                f"r{asked // 2}": f"p{asked // 2 * 2:06}"
            }
    assert kills > 5
    with opened(tmp_path) as history:
        move(history)
        assert history.store.parts("m") == []
        assert len(history._lake.read("predictions_m")) == written
        newest = next(history.newest_first("m"))
        assert newest["prediction_id"].to_list()[-1] == f"p{written - 1:06}"


def test_a_step_run_again_doubles_nothing(tmp_path: Path) -> None:
    for moved in (False, True, True):
        with opened(tmp_path) as history:
            history.put("m", 4, 0, rows(0, 5))
            if moved:
                history.flush("m")
            assert held(history).height == 5


def test_small_parts_are_merged_and_those_not_sent_stay(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        store, keys = history.store, []
        for n in range(200):
            ((model, key),) = store.add(1, {"m": rows(n, 1)})
            keys.append(key)
            if n != 150:
                store.sent(model, key)
            store.merge(model)
        assert len(store.parts("m")) < 2 * predictions.RUN
        assert store.unsent() == [("m", keys[150])]
        assert store.requests("m", keys[150]).height == 1
        assert history.flush("m") == 150, "what is not sent yet waits, and all after it"
        assert held(history).height == 200


def old_home(folder: Path, steps: int, flushed: int) -> None:
    """Make a file of before there were cuts: a row per tick, for ever, and the lake's copy."""
    with closing(sqlite3.connect(folder / "predictions.db", isolation_level=None)) as db:
        db.execute(
            "CREATE TABLE predictions (model TEXT NOT NULL, step INTEGER NOT NULL, "
            "part INTEGER NOT NULL, rows INTEGER NOT NULL, body BLOB NOT NULL, "
            "PRIMARY KEY (model, step, part)) WITHOUT ROWID"
        )
        for n in range(steps * 3):
            body = rows(2 * n, 2).write_ipc(None, compression="lz4").getvalue()
            db.execute(
                "INSERT INTO predictions VALUES ('m', ?, ?, 2, ?)", (n // 3 + 1, n % 3, body)
            )
    lake = TieredLake(folder / "lake")
    lake.append("predictions_m", rows(0, flushed * 6), "log/m", flushed, day="at")


def test_a_home_from_before_is_taken_over_bite_by_bite(tmp_path: Path) -> None:
    old_home(tmp_path, steps=100, flushed=98)
    with opened(tmp_path) as history:
        assert [part.key for part in history.store.parts("m")] == [
            (step, part) for step in (99, 100) for part in range(3)
        ], "only what the lake has not is looked at"
        assert held(history)["prediction_id"].equals(rows(0, 600)["prediction_id"])
        assert history.last("m") == START + 599 * 60_000_000
        assert history.store.sweep("m") == predictions.SWEPT
    with opened(tmp_path) as history:
        history.store.add(101, {"m": rows(600, 1)})
        history.store.sent(*history.store.unsent()[0])
        history.tidy("m", START)
        history.flush("m")
        assert held(history)["prediction_id"].equals(rows(0, 601)["prediction_id"])
        assert history.last("m") == START + 600 * 60_000_000
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as db:
        assert db.execute("SELECT count(*) FROM predictions").fetchone() == (0,)


def test_requests_are_forgotten_after_a_day(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        history.store.add(1, {"m": rows(0, 4)})
        history.tidy("m", START + DAY + 120_000_000)
        assert list(history.answered("m", ["r0", "r1"])) == ["r1"]
        assert held(history).height == 4


def test_opening_reads_no_prediction_that_the_lake_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as history:
        for n in range(40):
            history.put("m", n, 0, rows(n * 25, 25))
        history.flush("m")
        history.put("m", 41, 0, rows(1000, 3))
    read: list[int] = []
    body = predictions._body

    def counted(db: sqlite3.Connection, model: str, key: tuple[int, int]) -> bytes:
        read.append(1)
        return body(db, model, key)

    monkeypatch.setattr(predictions, "_body", counted)
    with opened(tmp_path) as history:
        with monkeypatch.context() as patched:
            patched.setattr(history, "_lake", None)
            assert history.last("m") == START + 1_002 * 60_000_000
            assert history.first("m") == START
        assert history.store.waiting("m") == 3
        assert read == []
        assert [f.height for f in history.store.tail("m")] == [3]
        assert len(read) == 1
