"""When a challenger is trained: on declared occasions only, and never too often."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.decisions import Decision
from homeostat.deploy.state import RolloutState, Stage, advance
from homeostat.monitor.findings import Finding
from homeostat.retrain.decide import decide_retrain

DAY = 86_400_000_000


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
POLICY = hs.Retrain(model, every="30d", cooldown="7d")
DRIFT = Finding("drift", "late", "found", "3 of 40 features moved", {"psi": 0.3})
DECAY = Finding("quality", "late", "found", "auc 0.6 is 0.1 worse", {"found": 0.6}, "auc")
IDLE = RolloutState(champion=1, trained=100 * DAY)


def test_all_occasions_are_named_with_their_numbers() -> None:
    decision = decide_retrain(POLICY, IDLE, [DRIFT, DECAY], 130 * DAY)
    assert decision is not None
    assert (decision.action, decision.model, decision.version) == ("train", "late", None)
    assert decision.reason == (
        "drift: 3 of 40 features moved; quality: auc 0.6 is 0.1 worse; "
        "age: the last training was 30d ago, every 30d"
    )
    assert decision.evidence == {
        "champion": 1,
        "last_trained": 100 * DAY,
        "aged": True,
        "occasions": [
            {"key": "drift/late", "reason": "3 of 40 features moved", "psi": 0.3},
            {"key": "quality/late/auc", "reason": "auc 0.6 is 0.1 worse", "found": 0.6},
        ],
    }


@pytest.mark.parametrize(
    ("findings", "days", "trains"),
    [
        ([DRIFT], 7, True),
        ([DRIFT], 6.999, False),  # cooldown
        ([], 29, False),
        ([], 30, True),  # age alone
        ([Finding("drift", "late", "clear", "steady")], 8, False),
        ([Finding("drift", "late", "not judged", "few rows")], 8, False),
        ([Finding("drift", "fraud", "found", "another model")], 8, False),
        ([Finding("freshness", "late", "found", "silent")], 8, False),  # no declared occasion
    ],
)
def test_occasions(findings: list[Finding], days: float, trains: bool) -> None:
    decision = decide_retrain(POLICY, IDLE, findings, 100 * DAY + int(days * DAY))
    assert (decision is not None) is trains


def test_only_declared_triggers_count() -> None:
    on_decay = hs.Retrain(model, on=("quality",), cooldown="7d")
    assert decide_retrain(on_decay, IDLE, [DRIFT], 130 * DAY) is None
    assert decide_retrain(on_decay, IDLE, [DRIFT, DECAY], 130 * DAY) is not None
    by_age = hs.Retrain(model, on=(), every="30d")
    assert decide_retrain(by_age, IDLE, [DRIFT, DECAY], 120 * DAY) is None


@pytest.mark.parametrize("stage", ["training", "shadow", "canary", "blue_green"])
def test_nothing_is_trained_while_something_is_under_way(stage: Stage) -> None:
    state = RolloutState(champion=1, stage=stage, trained=0)
    assert decide_retrain(POLICY, state, [DRIFT], 130 * DAY) is None


def test_the_first_model_is_not_a_retraining() -> None:
    assert decide_retrain(POLICY, RolloutState(), [DRIFT], 130 * DAY) is None


def test_a_champion_deployed_by_hand_has_no_age_but_may_drift() -> None:
    state = RolloutState(champion=1)
    assert decide_retrain(POLICY, state, [], 130 * DAY) is None
    assert decide_retrain(POLICY, state, [DRIFT], 0) is not None


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40))
def test_trainings_are_a_cooldown_apart(script: list[tuple[int, bool]]) -> None:
    state, now, trained = IDLE, 100 * DAY, [100 * DAY]
    for days, drifts in script:
        now += days * DAY
        decision = decide_retrain(POLICY, state, [DRIFT] if drifts else [], now)
        if decision is not None:
            state = advance(state, decision)
            state = advance(state, Decision(now, "late", "reject", "gates", 2))
            trained.append(now)
        elif drifts:
            assert now - trained[-1] < 7 * DAY
        else:
            assert now - trained[-1] < 30 * DAY
    gaps = [after - before for before, after in pairwise(trained)]
    assert all(gap >= 7 * DAY for gap in gaps)
