"""The summary of a replay says what the logs hold: recomputed here in the plainest way."""

from __future__ import annotations

import json
import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from rich.console import Console

from homeostat.console.report import render
from homeostat.console.terminal import print_summary
from homeostat.core.clock import from_micros
from homeostat.evaluate.metrics import Costs
from homeostat.features.assemble import Features
from homeostat.monitor.drift import drift_report
from homeostat.monitor.logged import logged_features
from homeostat.monitor.sketch import Sketch, sketch_like
from homeostat.runtime.home import Home
from homeostat.runtime.review import Review, months
from homeostat.runtime.rivals import FROZEN, WITHOUT_STREAMING, threshold_of
from homeostat.runtime.scoreboard import scoreboard
from homeostat.runtime.summary import intake_counts, summarize
from homeostat.testing.toy import toy_system
from homeostat.testing.toy_replay import replay_toy, toy_schedule
from homeostat.train.servable import Servable

SYSTEM = toy_system()
MODEL = SYSTEM.deployments[0].model
SCHEDULE = toy_schedule()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("toy")
    replay_toy(where)
    return where


@pytest.fixture
def home(folder: Path, tmp_path: Path) -> Iterator[Home]:
    """A copy of the replayed home, to be changed at will."""
    shutil.copytree(folder, tmp_path / "home")
    opened = Home(tmp_path / "home", SYSTEM, sync=False)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    opened = Home(folder, SYSTEM, sync=False)
    try:
        return summarize(SYSTEM, opened, SCHEDULE, seconds=1.5)
    finally:
        opened.close()


def logged(home: Home) -> pl.DataFrame:
    return pl.concat(home.predictions.frames(MODEL.name))


def replace(home: Home, changed: pl.DataFrame) -> None:
    """Put other rows in place of those with the same ids."""
    where = home.lake.folder / f"predictions_{MODEL.name}"
    named = ", ".join(f"'{name}'" for name in changed["prediction_id"])
    DeltaTable(where).delete(f"prediction_id IN ({named})")
    days = changed.with_columns(pl.col("at").dt.date().alias("_day"))
    write_deltalake(where, days, mode="append")


def reviewed(home: Home, zone: str = "UTC") -> Review:
    review = Review(SYSTEM, home, MODEL, home.journal.decisions(), SCHEDULE.end)
    for month in months((logged(home),), zone):
        review.add(month)
    return review


def answers(home: Home) -> pl.DataFrame:
    found = reviewed(home).answers()
    assert found is not None
    return found


def truths(home: Home) -> dict[str, bool]:
    """The label of every request, read off its verdicts one by one."""
    verdicts: dict[str, list[tuple[datetime, bool]]] = {}
    for row in home.lake.read("verdicts").iter_rows(named=True):
        verdicts.setdefault(row["payment_id"], []).append((row["_known_time"], row["fraud"]))
    found = {}
    for row in logged(home).iter_rows(named=True):
        final = row["at"] + timedelta(hours=6)
        if final < from_micros(SCHEDULE.end):
            known = [v for v in verdicts.get(row["request_id"], []) if v[0] <= final]
            found[row["prediction_id"]] = max(known)[1] if known else False
    return found


def test_it_is_json_that_the_report_and_the_terminal_tell(told: dict[str, Any]) -> None:
    again = json.loads(json.dumps(told, allow_nan=False))
    assert "</html>" in render(again)
    console = Console(record=True, width=120, quiet=True)
    print_summary(again, console)
    assert told["seconds"] == 1.5
    assert told["peak_rss_mb"] > 10
    assert {d["action"] for d in again["decisions"]} >= {"train", "promote"}


def test_every_prediction_is_audited(home: Home, told: dict[str, Any]) -> None:
    rows = logged(home).height
    assert rows > 500
    assert told["predictions"] == told["skew_predictions"] == rows
    assert told["skew_compared"] == rows * len(MODEL.feature_names())
    assert told["skew_different"] == 0
    assert told["skew_differing"] == []


def test_one_wrong_bit_is_found(home: Home) -> None:
    frame = logged(home)[300:330]
    values = frame["features"].to_list()
    values[3][1] = float(np.nextafter(values[3][1], np.inf))
    changed = frame.with_columns(pl.Series("features", values, dtype=pl.List(pl.Float64)))
    replace(home, changed)
    found = summarize(SYSTEM, home, SCHEDULE)
    assert found["skew_different"] == 1
    assert found["skew_causes"] == {"store_fault": 1}  # so little does not move the score
    ((prediction, feature, wrong, right, cause),) = found["skew_differing"]
    assert (prediction, feature) == (frame["prediction_id"][3], MODEL.feature_names()[1])
    assert cause == "store_fault"
    assert wrong == np.nextafter(right, np.inf)


def test_metrics_of_the_served_answers_by_hand(home: Home, told: dict[str, Any]) -> None:
    labels = truths(home)
    rows = [r for r in logged(home).iter_rows(named=True) if r["prediction_id"] in labels]
    good = [r["score"] for r in rows if labels[r["prediction_id"]]]
    bad = [r["score"] for r in rows if not labels[r["prediction_id"]]]
    wins = sum((g > b) + (g == b) / 2 for g, b in product(good, bad))
    assert told["auc"]["final"]["all"] == pytest.approx(wins / (len(good) * len(bad)), abs=1e-12)
    alarms = [(r["score"] >= r["threshold"], labels[r["prediction_id"]]) for r in rows]
    cost = sum(1 * (d and not y) + 5 * (y and not d) for d, y in alarms) / len(rows)
    assert told["cost"]["final"]["all"] == pytest.approx(cost)
    assert told["base_rate"]["all"] == pytest.approx(len(good) / len(rows))
    assert told["labels_not_final"] == told["predictions"] - len(rows) > 0
    assert sum(week[4] for week in told["weekly"]["final"]) == len(rows)
    assert sum(part[2] for part in told["reliability"]["final"]) == len(rows)


def test_the_frozen_model_is_the_first_one_for_ever(home: Home) -> None:
    found = answers(home)
    first = found.filter((pl.col("version") == 1) & (pl.col("arm") == "champion"))
    later = found.filter(pl.col("version") != 1)
    assert first.height
    assert later.height
    assert first[FROZEN].equals(first["score"].alias(FROZEN), null_equal=False)
    assert not np.array_equal(later[FROZEN].to_numpy(), later["score"].to_numpy())
    assert found[threshold_of(FROZEN)].unique().to_list() == [first["threshold"][0]]


def test_a_companion_is_the_one_of_the_same_occasion(home: Home) -> None:
    """Score every request again by the plain model, from the request and not from the log."""
    trained = {r.version: r.at for r in home.registry.list(MODEL.name)}
    plain = sorted((r.at, r.version) for r in home.registry.list("fraud_plain"))
    assert len(plain) > 1
    rows = logged(home).join(
        answers(home).select("prediction_id", WITHOUT_STREAMING), on="prediction_id"
    )
    used = Counter[int]()
    for version in rows["version"].unique().to_list():
        occasion = bisect_right([at for at, _ in plain], trained[version]) - 1
        servable = Servable(home.registry.load("fraud_plain", plain[occasion][1]))
        part = rows.filter(pl.col("version") == version)
        asked = [json.loads(text) for text in part["request"]]
        matrix = np.array([[request["amount"], np.nan] for request in asked])
        merchants = {"merchant": [request["merchant"] for request in asked]}
        assert servable.names == ("amount", "merchant")
        scores = servable.score(Features(matrix, merchants))
        assert np.array_equal(scores, part[WITHOUT_STREAMING].to_numpy())
        used[plain[occasion][1]] += part.height
    assert len(used) > 1


def test_answers_without_features_leave_the_others_in_place(home: Home) -> None:
    before = answers(home)
    frame = logged(home)[400:430]
    empty = pl.col("prediction_id") == frame["prediction_id"][2]
    hit = empty | (pl.col("prediction_id") == frame["prediction_id"][5])
    nothing = pl.lit([], dtype=pl.List(pl.Float64))
    changed = frame.with_columns(
        degraded=pl.when(hit).then(pl.lit("store_down")).otherwise("degraded"),
        features=pl.when(empty).then(nothing).otherwise("features"),
        version=pl.when(hit).then(None).otherwise("version"),
        arm=pl.when(hit).then(pl.lit("score")).otherwise("arm"),
    )
    replace(home, changed)
    after = answers(home)
    assert after.filter(hit)[FROZEN].is_nan().all()
    assert after.filter(~hit).equals(before.filter(~hit))
    found = summarize(SYSTEM, home, SCHEDULE)
    assert found["degraded"] == {"store_down": 2}
    assert found["answered_by"]["score"] == 2
    assert found["predictions"] == before.height == found["skew_predictions"] + 2
    assert sum(week[4] for week in found["weekly"][FROZEN]) == before["label"].count() - 2


def test_drift_of_a_day_is_that_of_the_window_in_one_piece(home: Home) -> None:
    rows = logged(home)
    last = rows["at"].dt.date().max()
    assert last is not None
    window = rows.filter(pl.col("at").dt.date().is_in([last, last - timedelta(days=1)]))  # type: ignore[operator]
    champion = max(
        (d.at, d.version) for d in home.journal.decisions() if d.action == "promote"
    )[1]  # fmt: skip
    assert champion is not None
    reference = Sketch.from_json(home.registry.load(MODEL.name, champion).reference)
    features = logged_features(window, MODEL.feature_names(), ("merchant",))
    report = drift_report(reference, sketch_like(reference, *features))
    day, moved, name, psi = reviewed(home).drift.rows[-1]
    judged = [f for f in report if f.noise <= 0.3]
    assert day == str(last)
    assert (name, psi) == (judged[0].name, judged[0].psi)
    assert moved == sum(f.psi > 0.3 for f in judged)


def test_every_record_of_the_log_is_accounted_for(home: Home, told: dict[str, Any]) -> None:
    for source, counts in intake_counts(SYSTEM, home).items():
        folded = counts["accepted"] + counts["duplicates"] + counts["rejected"]
        assert folded <= home.log.end(source).next_offset
        assert counts["accepted"] == home.lake.read(source).height
    payments = told["counts"]["payments"]
    assert told["quarantined"] == {"payments": {"future": payments["rejected"]}}
    assert min(payments.values()) > 0


def test_the_rollout_tells_each_stage(told: dict[str, Any]) -> None:
    stages = [(d["at"], d["version"]) for d in told["decisions"] if d["action"] == "promote"]
    champions = [(at, version) for at, stage, version, _ in told["rollout"] if stage == "champion"]
    assert champions == stages
    assert told["importance"][0][1] == max(share for _, share in told["importance"])
    assert set(told["model_hashes"]) >= {"fraud@1", "fraud_plain@1"}


def test_a_home_without_predictions_has_a_summary(tmp_path: Path) -> None:
    empty = Home(tmp_path, SYSTEM, sync=False)
    try:
        found = summarize(SYSTEM, empty, SCHEDULE)
    finally:
        empty.close()
    assert found["predictions"] == found["skew_compared"] == 0
    assert "</html>" in render(found)


def test_months_are_those_of_the_zone() -> None:
    instants = [
        datetime(2013, 5, 31, 23, tzinfo=UTC),
        datetime(2013, 6, 1, 3, 59, tzinfo=UTC),
        datetime(2013, 6, 1, 4, tzinfo=UTC),
        datetime(2013, 7, 2, tzinfo=UTC),
    ]
    frames = [pl.DataFrame({"at": pl.Series(part, dtype=pl.Datetime("us", "UTC"))})
              for part in (instants[:1], instants[1:3], [], instants[3:])]  # fmt: skip
    found = [part["at"].dt.epoch("us").len() for part in months(frames, "America/New_York")]
    assert found == [2, 1, 1]
    assert [part.height for part in months(frames, "UTC")] == [1, 2, 1]


def test_undefined_metrics_are_null() -> None:
    at = [datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 5, 9, tzinfo=UTC)]
    rows = pl.DataFrame({"at": at, "score": [0.2, 0.9], "threshold": 0.5, "label": [False, False],
                         "frozen": [float("nan"), 0.4], "frozen_threshold": 0.5})  # fmt: skip
    found = scoreboard(rows, ("frozen",), Costs(1, 3), at[0])
    assert found["auc"]["final"] == {"2013-05": None, "all": None}
    assert found["cost"] == {
        "final": {"2013-05": 0.5, "all": 0.5}, "frozen": {"2013-05": 0.0, "all": 0.0}
    }  # fmt: skip
    assert [week[0] for week in found["weekly"]["final"]] == ["2013-05-01", "2013-05-08"]
    assert [week[4] for week in found["weekly"]["frozen"]] == [1]
