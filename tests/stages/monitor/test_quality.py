"""Delayed quality: labels by training's rule, metrics by the answer's own threshold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

import homeostat as hs
from homeostat.core.clock import to_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import UnknownName
from homeostat.declare.models import METRICS
from homeostat.evaluate.metrics import Costs, evaluate
from homeostat.monitor.labels import matured
from homeostat.monitor.logged import logged_features
from homeostat.monitor.quality import DECIDED, judge_quality, logged_metrics, quality_by
from homeostat.serve.predictions import prediction_schema

HOUR = 3_600_000_000
START = datetime(2013, 5, 1, tzinfo=UTC)
AT = to_micros(START)


class Flight(hs.Event):
    """A flight is asked about."""

    flight_id: str
    plane: int
    asked_at: hs.Timestamp


class Arrival(hs.Event):
    """A flight has arrived."""

    flight_id: str
    plane: int
    arrived_at: hs.Timestamp
    delay: float | None


asked = hs.EventSource("asked", Flight, event_id="flight_id", event_time="asked_at", lateness="1d")
arrivals = hs.EventSource(
    "arrivals", Arrival, event_id="flight_id", event_time="arrived_at", lateness="1d"
)


def label(join_on: str = "flight_id", when_absent: bool | None = True) -> hs.Label:
    return hs.Label(
        "late",
        predicts=asked,
        outcome=arrivals,
        join_on=join_on,
        value=hs.col("delay") >= 15,
        delay="12h",
        when_absent=when_absent,
    )


model = hs.Model(
    "late",
    features=("asked_at",),
    label=label(),
    estimator=hs.Estimator("lightgbm:LGBMClassifier"),
    split=hs.Split(validation="30d", test="30d"),
    requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=4),
)
COSTS = Costs(1, 4)


def logged(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Return a prediction log; what a row leaves out is filled in."""
    whole = [
        {
            "prediction_id": f"p{n}",
            "at": START + timedelta(hours=n),
            "request_id": f"f{n}",
            "model": "late",
            "version": 1,
            "arm": "champion",
            "score": 0.6,
            "threshold": 0.5,
            "decision": True,
            "degraded": "",
            "features": [float(n)],
            "request": f'{{"flight_id":"f{n}","plane":{n}}}',
            **row,
        }
        for n, row in enumerate(rows)
    ]
    return pl.DataFrame(whole, schema=prediction_schema([]))


def outcomes(rows: list[tuple[int, float, float | None]]) -> pl.DataFrame:
    """Return arrivals of (flight number, hours after the start at which known, delay)."""
    return pl.DataFrame(
        [
            {
                "flight_id": f"f{number}",
                "plane": number,
                "_known_time": START + timedelta(hours=known),
                "_event_time": START + timedelta(hours=known),
                "delay": delay,
            }
            for number, known, delay in rows
        ],
        schema={
            "flight_id": pl.String,
            "plane": pl.Int64,
            "_known_time": pl.Datetime("us", "UTC"),
            "_event_time": pl.Datetime("us", "UTC"),
            "delay": pl.Float64,
        },
    )


def test_a_final_label_is_found_again_the_same() -> None:
    rows = [(0, 5.0, 20.0), (1, 1.0, 20.0), (1, 13.5, 0.0), (2, 4.0, None)]
    predictions = logged([{} for _ in range(3)])
    final = matured(predictions, outcomes(rows), label(), AT + 13 * HOUR + 1)
    assert final["label"].to_list() == [True, True]
    assert final.columns == [*predictions.columns, "label", "label_known_time"]
    again = matured(final, outcomes(rows), label(), AT + 99 * HOUR)
    assert again["label"].to_list() == final["label"].to_list(), "a final label changed"


def test_an_absent_outcome_can_leave_the_row_out() -> None:
    final = matured(
        logged([{}, {}]), outcomes([(1, 2.0, 20.0)]), label(when_absent=None), AT + 99 * HOUR
    )
    assert final["prediction_id"].to_list() == ["p1"]
    none = matured(logged([{}]), outcomes([]), label(), AT + 99 * HOUR)
    assert none["label"].to_list() == [True]


def judged_rows(n: int, *, version: int = 1, good: float = 1.0) -> pl.DataFrame:
    """Return n labelled predictions, one an hour, of which the share `good` is right."""
    truths = [i % 2 == 0 for i in range(n)]
    right = [i < good * n for i in range(n)]
    scores = [0.9 if t == r else 0.1 for t, r in zip(truths, right, strict=True)]
    frame = logged([{"score": s, "version": version} for s in scores])
    return frame.with_columns(pl.Series("label", truths))


def judged(
    frame: pl.DataFrame, hours: int, baseline: float | None = 1.0, metric: str = "accuracy"
) -> tuple[str, str]:
    monitor = hs.Quality(model, metric, worse_by=0.125, window="2d", rows=10)
    finding = judge_quality(monitor, frame, 1, baseline, AT + hours * HOUR)
    assert finding.key == f"quality/late/{metric}/2d"
    return finding.status, finding.reason


def test_quality_is_judged_on_the_window_of_the_serving_version() -> None:
    assert judged(judged_rows(40), 40)[0] == "clear"
    status, reason = judged(judged_rows(40, good=0.5), 40)
    assert status == "found"
    assert reason == (
        "accuracy 0.5 over 40 labelled predictions of 2d is 0.5 worse than the 1 at the gates of "
        "version 1 (bound 0.125)"
    )
    assert judged(judged_rows(40, good=0.875), 40)[0] == "clear"  # at the bound
    assert judged(judged_rows(40, good=0.85), 40)[0] == "found"
    assert judged(judged_rows(40, version=2, good=0.0), 40)[0] == "not judged"
    assert judged(judged_rows(100, good=0.9), 100)[0] == "found"  # the wrong ones are the last
    status, reason = judged(judged_rows(40), 12 + 79)  # labels are final after 12 hours
    assert (status, reason) == ("not judged", "accuracy has 9 of 10 labelled predictions")
    assert judged(judged_rows(40), 12 + 78)[0] == "clear"  # the tenth is at the window's edge


def test_lower_is_better_for_costs() -> None:
    assert judged(judged_rows(40, good=0.5), 40, 0.0, "cost")[0] == "found"
    assert judged(judged_rows(40, good=1.0), 40, 2.0, "cost")[0] == "clear"


def test_degraded_answers_are_not_the_models_quality() -> None:
    frame = judged_rows(40, good=0.5).with_columns(
        pl.when(pl.col("at") >= START + timedelta(hours=20))
        .then(pl.lit("store_down"))
        .otherwise(pl.lit("shadow_broken"))
        .alias("degraded")
    )
    assert judged(frame, 40)[0] == "clear"


@pytest.mark.parametrize("baseline", [None, float("nan")])
def test_an_undefined_baseline_is_not_judged(baseline: float | None) -> None:
    assert judged(judged_rows(40), 40, baseline)[0] == "not judged"


def test_each_answer_is_decided_by_its_own_threshold() -> None:
    rng = np.random.default_rng(0)
    scores, truths = rng.random(400), rng.random(400) < 0.4
    frame = logged([{"score": s, "threshold": 0.3} for s in scores.tolist()])
    frame = frame.with_columns(pl.Series("label", truths))
    assert logged_metrics(frame, COSTS) == evaluate(scores, truths, 0.3, COSTS)
    assert list(logged_metrics(frame, COSTS)) == list(METRICS)
    half = frame.with_columns(
        pl.when(pl.col("at") < START + timedelta(hours=200))
        .then(pl.lit(0.3))
        .otherwise(pl.lit(0.8))
        .alias("threshold")
    )
    parts = [
        evaluate(scores[:200], truths[:200], 0.3, COSTS)["cost"],
        evaluate(scores[200:], truths[200:], 0.8, COSTS)["cost"],
    ]
    assert logged_metrics(half, COSTS)["cost"] == pytest.approx(sum(parts) / 2)


def test_the_metrics_of_decisions_are_those_that_the_threshold_changes() -> None:
    rng = np.random.default_rng(0)
    scores, truths = rng.random(400), rng.random(400) < 0.4
    one, other = (evaluate(scores, truths, threshold, COSTS) for threshold in (0.3, 0.8))
    assert {name for name in METRICS if one[name] != other[name]} == DECIDED


def test_periods_are_iso_weeks_and_months_in_utc() -> None:
    days = [datetime(2012, 12, 30, 23, tzinfo=UTC), datetime(2012, 12, 31, tzinfo=UTC),
            datetime(2013, 1, 6, 23, tzinfo=UTC), datetime(2013, 1, 7, tzinfo=UTC)]  # fmt: skip
    frame = logged([{"at": day} for day in reversed(days)])
    frame = frame.with_columns(pl.Series("label", [True, False, True, True]))
    weeks = quality_by("week", frame, COSTS)
    assert [(q.period, q.rows, q.positives) for q in weeks] == [
        ("2012-W52", 1, 1),
        ("2013-W01", 2, 1),
        ("2013-W02", 1, 1),
    ]
    months = quality_by("month", frame, COSTS)
    assert [(q.period, q.rows) for q in months] == [("2012-12", 2), ("2013-01", 2)]
    assert months[0].as_json()["metrics"] == {
        name: None if value != value else value for name, value in months[0].metrics.items()
    }
    with pytest.raises(UnknownName, match="Did you mean 'week'"):
        quality_by("weeks", frame, COSTS)
    assert quality_by("week", frame.head(0), COSTS) == ()


def test_logged_features_leave_outages_out() -> None:
    nan = float("nan")
    frame = logged(
        [
            {"features": [1.0, nan], "request": '{"carrier":"UA","plane":3}'},
            {"features": [], "degraded": "features_broken", "request": "{}"},
            {"features": [2.0, nan], "degraded": "store_down"},
            {"features": [3.0, nan], "degraded": "shadow_broken", "request": '{"carrier":null}'},
        ]
    )
    matrix, texts = logged_features(frame, ["hour", "carrier"], ["carrier"])
    np.testing.assert_array_equal(matrix, [[1.0, nan], [3.0, nan]])
    assert texts == {"carrier": ["UA", None]}
    matrix, texts = logged_features(frame.head(0), ["hour", "carrier"], ["carrier"])
    assert (matrix.shape, texts) == ((0, 2), {"carrier": []})


def test_now_is_an_argument() -> None:
    early: Micros = AT
    assert matured(logged([{}]), outcomes([(0, 1.0, 20.0)]), label(), early).height == 0
