"""Evidence from logged predictions: whose answer it was, what counts, and what does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import to_micros
from homeostat.core.hashing import unit_interval
from homeostat.deploy.decide import decide_rollout
from homeostat.deploy.evidence import NoRollout, Observed, arm_evidence
from homeostat.deploy.guards import RolloutEvidence
from homeostat.deploy.state import RolloutState, advance
from homeostat.serve.predictions import prediction_schema

START = datetime(2013, 5, 1, tzinfo=UTC)
SINCE = 1_367_366_400_000_000
DAY = 86_400_000_000
SIGNALS = ("error_rate", "positive_rate", "mean_score", "latency_p99_ms", "auc", "recall", "cost")


class Flight(hs.Event):
    """A flight is asked about."""

    flight_id: str
    asked_at: hs.Timestamp
    late: bool


source = hs.EventSource(
    "flights", Flight, event_id="flight_id", event_time="asked_at", lateness="1d"
)
model = hs.Model(
    "late",
    features=("asked_at",),
    label=hs.Label(
        "late",
        predicts=source,
        outcome=source,
        join_on="flight_id",
        value=hs.col("late"),
        delay="12h",
        when_absent=True,
    ),
    estimator=hs.Estimator("lightgbm:LGBMClassifier"),
    split=hs.Split(validation="30d", test="30d"),
    requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=4),
)
deployment = hs.Deployment(
    model=model,
    rollout=(hs.Shadow("1d"), hs.Canary((0.5,), every="1d")),
    guards=tuple(hs.Guard(signal, at_most=1e9, rows=1) for signal in SIGNALS),
    degradation=hs.Degradation(score=0.2),
)
SHADOW = RolloutState(
    champion=1, challenger=2, stage="shadow", step=0, since=SINCE, salt="late@2/0"
)
CANARY = RolloutState(
    champion=1, challenger=2, stage="canary", share=0.5, step=1, since=SINCE, salt="late@2/0"
)


def prediction(number: int, **given: object) -> dict[str, object]:
    """Return one logged row: the champion answers 0.6 over a threshold of 0.5."""
    row = {
        "prediction_id": f"p{number}",
        "at": START + timedelta(minutes=number),
        "request_id": f"r{number}",
        "model": "late",
        "version": 1,
        "arm": "champion",
        "score": 0.6,
        "threshold": 0.5,
        "degraded": "",
        "features": [1.0],
        "shadow_version": None,
        "shadow_score": None,
        "request": "{}",
        "latency_total_us": 1000.0,
    }
    row |= given
    return {"decision": row["score"] >= row["threshold"], **row}  # type: ignore[operator]


def logged(rows: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=prediction_schema([]))


def known(labels: dict[int, bool]) -> pl.DataFrame:
    rows = [{"prediction_id": f"p{n}", "label": label} for n, label in labels.items()]
    return pl.DataFrame(rows, schema={"prediction_id": pl.String, "label": pl.Boolean})


def evidence_of(
    state: RolloutState, rows: list[dict[str, object]], labels: dict[int, bool]
) -> RolloutEvidence:
    return arm_evidence(deployment, state, Observed(logged(rows), known(labels), 0.3))


def test_shadow_compares_both_on_the_same_requests_with_their_own_thresholds() -> None:
    rows = [
        prediction(0, score=0.9, shadow_version=2, shadow_score=0.1),
        prediction(1, score=0.2, shadow_version=2, shadow_score=0.4),
        prediction(2, score=0.4, shadow_version=2, shadow_score=0.2),
        prediction(3, score=0.8, shadow_version=2, shadow_score=None, degraded="shadow_broken"),
        prediction(4, score=0.2, shadow_version=2, shadow_score=0.3, degraded="store_down"),
        prediction(5, score=0.9),  # not asked of the challenger
    ]
    found = evidence_of(SHADOW, rows, {0: True, 1: False, 3: True, 4: True, 5: True})
    ours, theirs = found.challenger, found.champion
    assert theirs is not None
    assert (ours.version, ours.rows, ours.labelled) == (2, 5, 2)
    assert found.beside is not None
    assert (found.beside.rows, found.beside.labelled) == (3, 2)
    assert (theirs.version, theirs.rows, theirs.labelled) == (1, 5, 2)
    assert (ours.signals["error_rate"], theirs.signals["error_rate"]) == (1 / 5, 1 / 5)
    assert (ours.signals["auc"], theirs.signals["auc"]) == (0.0, 1.0)
    assert ours.signals["positive_rate"] == pytest.approx(1 / 3)  # 0.4 of 0.1, 0.4, 0.2
    assert theirs.signals["positive_rate"] == pytest.approx(1 / 3)  # 0.9 of 0.9, 0.2, 0.4
    assert ours.signals["cost"] == (4 + 1) / 2
    assert theirs.signals["cost"] == 0.0
    assert ours.signals["mean_score"] == pytest.approx(0.7 / 3)
    assert ours.signals["latency_p99_ms"] is None


def test_canary_counts_each_request_for_the_version_that_was_to_answer() -> None:
    rows = [
        prediction(0, latency_total_us=9000.0),
        prediction(1, version=2, arm="challenger", score=0.9, threshold=0.3),
        prediction(2, degraded="challenger_broken"),  # the champion stood in
        prediction(3, version=None, arm="score", score=0.2, degraded="challenger_broken"),
        prediction(4, version=2, arm="challenger", score=0.1, threshold=0.3, degraded="store_down"),
        prediction(5, degraded="shadow_broken"),
    ]
    found = evidence_of(CANARY, rows, dict.fromkeys(range(6), True))
    ours, theirs = found.challenger, found.champion
    assert theirs is not None
    assert (ours.rows, ours.labelled, ours.signals["error_rate"]) == (4, 1, 3 / 4)
    assert (theirs.rows, theirs.labelled, theirs.signals["error_rate"]) == (2, 2, 0.0)
    assert (ours.signals["mean_score"], ours.signals["recall"]) == (0.9, 1.0)
    assert theirs.signals["latency_p99_ms"] == 9.0
    assert ours.signals["auc"] is None or np.isnan(ours.signals["auc"])


def test_overload_is_charged_to_the_arm_the_draw_chose() -> None:
    rows = [
        prediction(n, version=None, arm="score", score=0.2, degraded="overloaded")
        for n in range(200)
    ]
    mine = sum(unit_interval("late", f"r{n}", "late@2/0") < 0.5 for n in range(200))
    found = evidence_of(CANARY, rows, {})
    assert found.champion is not None
    assert (found.challenger.rows, found.champion.rows) == (mine, 200 - mine)
    assert found.challenger.signals["error_rate"] == 1.0
    assert found.challenger.signals["mean_score"] is None


def test_only_the_present_step_counts_from_its_first_instant_on() -> None:
    rows = [
        prediction(-1, version=2, arm="challenger"),
        prediction(0, version=2, arm="challenger"),
        prediction(1, version=2, arm="challenger"),
    ]
    assert evidence_of(CANARY, rows, {}).challenger.rows == 2


def test_nothing_logged_is_evidence_of_nothing() -> None:
    for state in (SHADOW, CANARY):
        found = evidence_of(state, [], {})
        assert (found.challenger.rows, found.challenger.labelled) == (0, 0)
        assert all(value is None or np.isnan(value) for value in found.challenger.signals.values())
    with pytest.raises(NoRollout, match="there is no challenger"):
        evidence_of(RolloutState(champion=1), [], {})


answers = st.lists(
    st.tuples(
        st.sampled_from(["champion", "challenger"]),
        st.floats(0, 1),
        st.sampled_from(["", "store_down", "overloaded,challenger_broken"]),
        st.sampled_from([None, True, False]),
    ),
    max_size=30,
)


@given(answers)
def test_the_columns_agree_with_a_count_by_hand(
    given_rows: list[tuple[str, float, str, bool | None]],
) -> None:
    rows, labels = [], {}
    for number, (arm, score, degraded, label) in enumerate(given_rows):
        version = 2 if arm == "challenger" else 1
        rows.append(prediction(number, arm=arm, version=version, score=score, degraded=degraded))
        if label is not None:
            labels[number] = label
    found = evidence_of(CANARY, rows, labels)
    for name, arm_found in (("challenger", found.challenger), ("champion", found.champion)):
        assert arm_found is not None
        mine = [
            (score, degraded, label)
            for arm, score, degraded, label in given_rows
            if (arm == "challenger" or "challenger_broken" in degraded) == (name == "challenger")
        ]
        clean = [(score, label) for score, degraded, label in mine if not degraded]
        judged = [(score >= 0.5, label) for score, label in clean if label is not None]
        assert arm_found.rows == len(mine)
        assert arm_found.labelled == len(judged)
        if mine:
            assert arm_found.signals["error_rate"] == (len(mine) - len(clean)) / len(mine)
        if clean:
            rate = sum(score >= 0.5 for score, _ in clean) / len(clean)
            assert arm_found.signals["positive_rate"] == pytest.approx(rate)
        if judged:
            cost = sum(
                4 if label and not said else 1 if said and not label else 0
                for said, label in judged
            )
            assert arm_found.signals["cost"] == pytest.approx(cost / len(judged))


@given(
    answers,
    st.lists(
        st.sampled_from(["", "challenger_unasked", "shadow_unasked"]), min_size=30, max_size=30
    ),
    st.sampled_from([SHADOW, CANARY]),
)
def test_a_request_that_lacks_a_field_of_the_challenger_is_evidence_about_neither(
    given_rows: list[tuple[str, float, str, bool | None]], lacks: list[str], state: RolloutState
) -> None:
    rows = [
        prediction(n, arm=arm, score=score, shadow_version=2, shadow_score=score / 2,
                   degraded=",".join(filter(None, [causes, lacks[n]])))
        for n, (arm, score, causes, _) in enumerate(given_rows)
    ]  # fmt: skip
    labels = {n: row[3] for n, row in enumerate(given_rows) if row[3] is not None}
    left = [n for n in range(len(rows)) if lacks[n]]
    found = evidence_of(state, rows, labels)
    alone = evidence_of(state, [row for n, row in enumerate(rows) if not lacks[n]], labels)
    assert repr(replace(found, unasked=0, unasked_at=None)) == repr(alone)
    last = to_micros(START + timedelta(minutes=left[-1])) if left else None
    assert (found.unasked, found.unasked_at) == (len(left), last)


shadowed = st.lists(
    st.tuples(
        st.sampled_from([
            "", "model_broken", "overloaded", "overloaded,calls_held", "model_unasked",
            "previous_unasked,model_broken", "store_down",
        ]),
        st.floats(0, 1),
        st.none() | st.floats(0, 1),
        st.sampled_from([None, True, False]),
        st.sampled_from([2, 3, None]),
    ),
    max_size=30,
)  # fmt: skip


@given(shadowed)
def test_what_becomes_of_the_champion_is_no_fault_of_its_shadow(
    given_rows: list[tuple[str, float, float | None, bool | None, int | None]],
) -> None:
    rows, labels = [], {}
    for n, (causes, score, shadow, label, version) in enumerate(given_rows):
        own = "shadow_broken" if version is not None and shadow is None else ""
        rows.append(
            prediction(n, score=score, shadow_version=version, shadow_score=shadow,
                       degraded=",".join(filter(None, [causes, own])))
        )  # fmt: skip
        if label is not None:
            labels[n] = label
    found = evidence_of(SHADOW, rows, labels)
    asked = [row for row in given_rows if row[4] == 2]
    whole = [row for row in asked if row[2] is not None and row[0] != "store_down"]
    both = [row for row in whole if row[0] == ""]
    assert found.champion is not None
    assert found.beside is not None
    assert found.challenger.rows == len(asked)
    assert found.beside.rows == len(both)
    if asked:
        failed = sum(row[2] is None for row in asked)
        assert found.challenger.signals["error_rate"] == pytest.approx(failed / len(asked))
        failed = sum(row[0] != "" for row in asked)
        assert found.champion.signals["error_rate"] == pytest.approx(failed / len(asked))
    for arm, mine, column, threshold in (
        (found.challenger, whole, 2, 0.3),
        (found.beside, both, 2, 0.3),
        (found.champion, both, 1, 0.5),
    ):
        scores = [(float(row[column] or 0.0), row[3]) for row in mine]
        judged = [(score >= threshold, label) for score, label in scores if label is not None]
        assert arm.labelled == len(judged)
        if scores:
            rate = sum(score >= threshold for score, _ in scores) / len(scores)
            assert arm.signals["positive_rate"] == pytest.approx(rate)
            mean = sum(score for score, _ in scores) / len(scores)
            assert arm.signals["mean_score"] == pytest.approx(mean)
        if judged:
            cost = sum(
                4 if label and not said else 1 if said and not label else 0
                for said, label in judged
            )
            assert arm.signals["cost"] == pytest.approx(cost / len(judged))


@given(st.lists(st.booleans(), min_size=40, max_size=40), st.booleans(), st.booleans())
def test_a_champion_that_was_given_up_does_not_stop_who_takes_its_place(
    fails: list[bool], gone: bool, waits: bool
) -> None:
    """The oracle: only the challenger's own failures roll it back."""
    rows = [
        prediction(n, degraded="overloaded" if n % 3 else "model_broken", arm="score",
                   version=None, shadow_version=2, shadow_score=None if broken else 0.4)
        for n, broken in enumerate(fails)
    ]  # fmt: skip
    if waits:
        rows.append(prediction(40, degraded="model_broken,shadow_unasked"))
    judged = hs.Deployment(
        model=model,
        rollout=(hs.Shadow("1d"), hs.Canary((0.5,), every="1d")),
        guards=(
            *(hs.Guard(one, within=0.0, rows=1) for one in SIGNALS if one != "latency_p99_ms"),
            hs.Guard("error_rate", at_most=0.2, rows=40),
        ),
        degradation=hs.Degradation(score=0.2),
    )  # fmt: skip
    state = replace(SHADOW, given_up=True)
    observed = Observed(logged(rows), known({}), 0.3, way_back_ready=not gone)
    found = arm_evidence(judged, state, observed)
    decision = decide_rollout(judged, state, found, SINCE + 3_600_000_000)
    expected = None
    if sum(fails) / 40 > 0.2:
        expected = "rollback"
    elif gone:
        expected = "hold" if waits else "promote"
    assert (decision and decision.action) == expected
    if expected == "hold":
        assert decision is not None
        assert "version 1 was given up and answers nothing; 1 requests lack" in decision.reason
        assert decide_rollout(judged, advance(state, decision), found, SINCE + 2 * DAY) is None


GUARDED = hs.Deployment(
    model=model,
    rollout=(hs.Shadow("1d"), hs.Canary((0.5,), every="1d")),
    guards=(hs.Guard("auc", within=0.05, rows=100), hs.Guard("error_rate", at_most=0.01)),
    degradation=hs.Degradation(score=0.2),
)


def day_of_traffic(
    state: RolloutState, *, harmful: bool
) -> tuple[list[dict[str, object]], dict[int, bool]]:
    """Return a day of one request per minute: the champion ranks well, a harm reverses it."""
    rng = np.random.default_rng(state.step)
    truth = rng.random(1440) < 0.3
    good = np.clip(truth * 0.3 + rng.random(1440) * 0.6, 0, 1)
    other = np.clip(1 - good if harmful else good + 0.01, 0, 1)
    first = (state.since - SINCE) // 60_000_000
    rows = []
    for n in range(1440):
        number = first + n
        mine = unit_interval("late", f"r{number}", state.salt) < state.share
        given: dict[str, object] = {"score": float(good[n])}
        if mine:
            given = {"score": float(other[n]), "arm": "challenger", "version": 2}
        elif state.stage == "shadow":
            given |= {"shadow_version": 2, "shadow_score": float(other[n])}
        rows.append(prediction(number, **given))
    return rows, {first + n: bool(truth[n]) for n in range(1440)}


def rollout(*, harmful_in: tuple[str, ...]) -> tuple[list[str], RolloutState, str]:
    """Run a rollout day by day; return its actions, its end and the last reason."""
    state, reason = SHADOW, ""
    told: list[str] = []
    while state.rolling:
        rows, labels = day_of_traffic(state, harmful=state.stage in harmful_in)
        observed = Observed(logged(rows), known(labels), 0.5, way_back_ready=True)
        evidence = arm_evidence(GUARDED, state, observed)
        decision = decide_rollout(GUARDED, state, evidence, state.since + DAY)
        assert decision is not None
        told.append(decision.action)
        state, reason = advance(state, decision), decision.reason
    return told, state, reason


def test_a_harmful_challenger_is_stopped_and_a_good_one_is_not() -> None:
    told, state, reason = rollout(harmful_in=())
    assert (told, state.champion, state.previous) == (["canary", "promote"], 2, 1)
    told, state, reason = rollout(harmful_in=("shadow", "canary"))
    assert (told, state.champion, state.withdrawn) == (["rollback"], 1, (2,))
    assert reason.startswith("shadow: auc 0.")
    told, state, reason = rollout(harmful_in=("canary",))
    assert (told, state.champion, state.challenger) == (["canary", "rollback"], 1, None)
    assert reason.startswith("canary at 0.5: auc 0.")
    assert "is not within 0.05 of the champion's 0." in reason
