"""A request is answered once, whatever answered it: a replay, an earlier release, this process."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl

from homeostat.core.clock import ManualClock
from homeostat.runtime.app import App
from homeostat.testing.toy import toy_system
from homeostat.testing.toy_replay import replay_toy, toy_schedule

HOUR = 3_600_000_000


def logged(app: App) -> pl.DataFrame:
    app.live.flush()
    frames = app.home.predictions.frames("fraud", columns=["request_id", "prediction_id", "at"])
    return pl.concat(frames)


def asked_again(app: App, rows: pl.DataFrame) -> dict[str, str]:
    """Ask what was asked, with its own content; return the prediction of each request."""
    events = app.home.lake.read("payments")
    columns = ["payment_id", "card", "merchant", "amount", "asked_at"]
    found = events.filter(pl.col("payment_id").is_in(rows["request_id"].to_list())).select(columns)
    requests = [{**row, "asked_at": row["asked_at"].isoformat()} for row in found.to_dicts()]
    return {
        str(request["payment_id"]): app.predict("fraud", request)[0].prediction_id
        for request in requests
    }


def test_what_a_replay_answered_is_not_answered_again(tmp_path: Path) -> None:
    replay_toy(tmp_path)
    with App(toy_system(), tmp_path, ManualClock(toy_schedule().end)) as app:
        before = logged(app)
        first = before.sort("at").unique("request_id", keep="first", maintain_order=True)
        recent = first.filter(pl.col("at").dt.epoch("us") > toy_schedule().end - 20 * HOUR)
        again = asked_again(app, recent.tail(30))
        assert len(again) == 30
        known = dict(first.select("request_id", "prediction_id").iter_rows())
        assert again == {name: known[name] for name in again}
        assert logged(app).height == before.height


def test_what_an_earlier_release_answered_is_not_answered_again(tmp_path: Path) -> None:
    replay_toy(tmp_path)
    clock = ManualClock(toy_schedule().end)
    request = {"card": "card-3", "merchant": "kiosk", "amount": 20.0}
    names = [f"r{n}" for n in range(40)]
    with App(toy_system(), tmp_path, clock) as app:
        first = {
            name: app.predict("fraud", {**request, "payment_id": name})[0].prediction_id
            for name in names
        }
        app.live.flush_predictions()  # half of them are in the lake
        more = [f"s{n}" for n in range(10)]
        first |= {
            name: app.predict("fraud", {**request, "payment_id": name})[0].prediction_id
            for name in more
        }
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as db:  # as it left them
        db.execute("DROP TABLE answered")
        db.execute("DROP TABLE unindexed")
    clock.advance_to(clock.now() + HOUR)
    for _ in range(2):
        with App(toy_system(), tmp_path, clock) as app:
            before = logged(app).height
            assert not app.home.predictions.store.unindexed()
            for name, known in first.items():
                (answer,) = app.predict("fraud", {**request, "payment_id": name})
                assert answer.prediction_id == known, name
            assert logged(app).height == before
