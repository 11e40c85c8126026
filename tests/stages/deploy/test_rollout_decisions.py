"""What happens to a challenger, for every kind of evidence it may bring."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.decisions import Decision
from homeostat.deploy.decide import (
    Candidate,
    RolloutBusy,
    decide_candidate,
    decide_return,
    decide_rollout,
    rollout_steps,
)
from homeostat.deploy.guards import ArmEvidence, RolloutEvidence, judge_guards
from homeostat.deploy.state import RolloutState, advance, replayed

DAY = 86_400_000_000


class Flight(hs.Event):
    """A flight is asked about."""

    flight_id: str
    asked_at: hs.Timestamp


class Arrival(hs.Event):
    """A flight has arrived."""

    flight_id: str
    arrived_at: hs.Timestamp
    delay: float


asked = hs.EventSource("asked", Flight, event_id="flight_id", event_time="asked_at", lateness="1d")
arrivals = hs.EventSource(
    "arrivals", Arrival, event_id="flight_id", event_time="arrived_at", lateness="1d"
)
model = hs.Model(
    "late",
    features=("asked_at",),
    label=hs.Label(
        "late",
        predicts=asked,
        outcome=arrivals,
        join_on="flight_id",
        value=hs.col("delay") >= 15,
        delay="12h",
        when_absent=True,
    ),
    estimator=hs.Estimator("lightgbm:LGBMClassifier"),
    split=hs.Split(validation="30d", test="30d"),
    requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=4),
)


def deploying(
    *guards: hs.Guard,
    rollout: tuple[hs.Shadow | hs.Canary | hs.BlueGreen, ...] = (
        hs.Shadow("2d"),
        hs.Canary((0.05, 0.5), every="1d"),
    ),
) -> hs.Deployment:
    return hs.Deployment(
        model=model, rollout=rollout, guards=guards, degradation=hs.Degradation(score=0.2)
    )


AUC = hs.Guard("auc", within=0.02, rows=200)
ERRORS = hs.Guard("error_rate", at_most=0.01, rows=100)
PLAIN = deploying(AUC, ERRORS)


def seen(
    ours: dict[str, float | None] | None = None,
    theirs: dict[str, float | None] | None = None,
    rows: int = 1000,
    *,
    ready: bool = True,
) -> RolloutEvidence:
    good: dict[str, float | None] = {"auc": 0.75, "error_rate": 0.0}
    return RolloutEvidence(
        ArmEvidence(2, rows, rows, good | (ours or {})),
        ArmEvidence(1, 1000, 1000, good | (theirs or {})),
        way_back_ready=ready,
    )


def begun(deployment: hs.Deployment = PLAIN, at: int = 0) -> RolloutState:
    state = RolloutState(champion=1)
    first = decide_candidate(deployment, state, Candidate(2, True, "gates passed"), at)
    return advance(state, first)


def decided(decision: Decision | None) -> Decision:
    assert decision is not None
    return decision


def test_a_good_challenger_walks_the_declared_steps_and_no_others() -> None:
    state, journal, now = begun(), [], 0
    while state.rolling:
        now += DAY // 4
        decision = decide_rollout(PLAIN, state, seen(), now)
        if decision is not None:
            journal.append(decision)
            state = advance(state, decision)
    told = [(d.at // DAY, d.action, d.evidence.get("share")) for d in journal]
    assert told == [(2, "canary", 0.05), (3, "canary", 0.5), (4, "promote", None)]
    assert (state.champion, state.previous, state.stage) == (2, 1, "idle")
    assert journal[-1].evidence["way_back"] == {"version": 1, "ready": True}
    assert "the way back to version 1 is rehearsed" in journal[-1].reason
    assert "auc 0.75 is within 0.02 of the champion's 0.75" in journal[0].reason


@given(st.lists(st.booleans(), max_size=40), st.booleans())
def test_a_step_lasts_its_span_after_the_last_request_that_lacks_a_field(
    lacks: list[bool], is_guarded: bool
) -> None:
    """Every quarter of a day clients lack a field of the challenger, or not; then never again."""
    deployment = PLAIN if is_guarded else deploying()
    spans = [step.span_us for step in rollout_steps(deployment)]
    state, now, last, journal = begun(deployment), 0, None, []
    while state.rolling:
        now += DAY // 4
        if now // (DAY // 4) <= len(lacks) and lacks[now // (DAY // 4) - 1]:
            last = now
        told = None if last is None or last < state.since else last
        evidence = replace(seen(), unasked=int(told is not None), unasked_at=told)
        decision = decide_rollout(deployment, state, evidence, now)
        if decision is None:
            continue
        if decision.action == "hold":
            assert "lack a field that version 2 reads" in decision.reason
            assert (last or 0) + spans[state.step] > now
            assert not state.held
        else:
            begin = max(state.since, last or 0)
            assert begin + spans[state.step] <= now < begin + spans[state.step] + DAY // 4
        journal.append(decision.action)
        state = advance(state, decision)
    assert [action for action in journal if action != "hold"] == ["canary", "canary", "promote"]


@pytest.mark.parametrize("stage_share", [(0, 0.0), (1, 0.05), (2, 0.5)])
def test_a_broken_guard_rolls_back_in_any_step_at_once(stage_share: tuple[int, float]) -> None:
    state = begun()
    for _ in range(stage_share[0]):
        state = advance(state, decided(decide_rollout(PLAIN, state, seen(), state.since + 2 * DAY)))
    assert state.share == stage_share[1]
    decision = decided(decide_rollout(PLAIN, state, seen({"auc": 0.6}), state.since + 1))
    assert (decision.action, decision.version) == ("rollback", 2)
    assert "auc 0.6 is not within 0.02 of the champion's 0.75 over 1000" in decision.reason
    assert decision.evidence["back_to"] == 1
    (broken,) = decision.evidence["broken"]
    assert (broken["signal"], broken["within"]) == ("auc", 0.02)
    assert (broken["challenger"], broken["champion"], broken["rows"]) == (0.6, 0.75, 1000)
    after = advance(state, decision)
    assert (after.champion, after.challenger, after.withdrawn) == (1, None, (2,))


def test_guards_wait_for_rows_then_the_step_is_held_once_and_goes_on_with_them() -> None:
    state = begun()
    thin = seen({"auc": 0.1}, rows=199)
    assert decide_rollout(PLAIN, state, thin, 2 * DAY) is None
    assert decide_rollout(PLAIN, state, thin, 4 * DAY - 1) is None
    held = decided(decide_rollout(PLAIN, state, thin, 4 * DAY))
    assert held.action == "hold"
    assert "evidence is thin: auc has 199 of 200 labelled requests" in held.reason
    state = advance(state, held)
    assert state.stage == "shadow"
    assert decide_rollout(PLAIN, state, thin, 9 * DAY) is None
    moved = decided(decide_rollout(PLAIN, state, seen(rows=200), 9 * DAY))
    assert moved.action == "canary"
    assert advance(state, moved).held == ""


def test_without_a_way_back_nothing_is_promoted() -> None:
    deployment = deploying(AUC, rollout=(hs.Canary((0.1,), every="1d"),))
    state = begun(deployment)
    held = decided(decide_rollout(deployment, state, seen(ready=False), DAY))
    assert held.action == "hold"
    assert "the way back is not ready: version 1 fails to load" in held.reason
    state = advance(state, held)
    assert decide_rollout(deployment, state, seen(ready=False), 2 * DAY) is None
    assert decided(decide_rollout(deployment, state, seen(), 3 * DAY)).action == "promote"


def test_blue_green_sends_everything_and_keeps_the_champion_until_the_end() -> None:
    deployment = deploying(
        ERRORS, hs.Guard("mean_score", within=0.1), rollout=(hs.BlueGreen("1d"),)
    )
    state = begun(deployment)
    assert (state.stage, state.share, state.champion, state.challenger) == ("blue_green", 1.0, 1, 2)
    alone = replace(seen(), champion=ArmEvidence(1, 0, 0, {}))
    promoted = decided(decide_rollout(deployment, state, alone, DAY))
    assert promoted.action == "promote"
    assert "mean_score: the champion answers nothing in blue-green" in promoted.reason
    broken = replace(seen({"error_rate": 0.02}), champion=None)
    decision = decided(decide_rollout(deployment, state, broken, 1))
    assert advance(state, decision).champion == 1


def test_a_changed_declaration_ends_the_rollout() -> None:
    state = begun()
    other = deploying(AUC, rollout=(hs.Canary((0.2,), every="1d"),))
    decision = decided(decide_rollout(other, state, seen(), 1))
    assert (decision.action, decision.version) == ("rollback", 2)
    assert "no such step any more" in decision.reason


def test_latency_is_not_judged_on_a_virtual_clock_nor_in_shadow() -> None:
    guard = hs.Guard("latency_p99_ms", at_most=50, rows=1)
    slow = seen({"latency_p99_ms": 90.0})
    (virtual,) = judge_guards((guard,), "canary", slow)
    assert virtual.verdict == "not judged"
    assert virtual.sentence == "latency_p99_ms is not judged on a virtual clock"
    (shadow,) = judge_guards((guard,), "shadow", replace(slow, timed=True))
    assert shadow.verdict == "not judged"
    (real,) = judge_guards((guard,), "canary", replace(slow, timed=True))
    assert (real.verdict, real.sentence[:32]) == ("broken", "latency_p99_ms 90 is above 50 ov")


@pytest.mark.parametrize(
    ("guard", "ours", "theirs", "held"),
    [
        (hs.Guard("auc", at_least=0.7), 0.7, None, True),
        (hs.Guard("auc", at_least=0.7), math.nextafter(0.7, 0), None, True),  # rounding noise
        (hs.Guard("auc", at_least=0.7), 0.699999, None, False),
        (hs.Guard("log_loss", at_most=0.5), 0.5, None, True),
        (hs.Guard("log_loss", at_most=0.5), 0.500001, None, False),
        (hs.Guard("auc", within=0.02), 0.73, 0.75, True),
        (hs.Guard("auc", within=0.02), 0.729999, 0.75, False),
        (hs.Guard("auc", within=0.02), 0.99, 0.75, True),  # better is no breach
        (hs.Guard("cost", within=0.1), 0.6, 0.5, True),
        (hs.Guard("cost", within=0.1), 0.600001, 0.5, False),
        (hs.Guard("cost", within=0.1), 0.1, 0.5, True),
        (hs.Guard("error_rate", within=0.0), 0.0, 0.0, True),
        (hs.Guard("error_rate", within=0.0), 0.001, 0.0, False),
        (hs.Guard("positive_rate", within=0.1), 0.1, 0.2, True),
        (hs.Guard("positive_rate", within=0.1), 0.31, 0.2, False),
        (hs.Guard("positive_rate", within=0.1), 0.09, 0.2, False),  # silence counts as well
    ],
)
def test_bounds_include_their_edge(
    guard: hs.Guard, ours: float, theirs: float | None, held: bool
) -> None:
    evidence = seen({guard.signal: ours}, {guard.signal: theirs})
    (verdict,) = judge_guards((guard,), "canary", evidence)
    assert verdict.verdict == ("held" if held else "broken")


@pytest.mark.parametrize("signal", ["auc", "error_rate"])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_an_undefined_signal_waits(signal: str, value: float | None) -> None:
    for guard in (hs.Guard(signal, at_most=0.0), hs.Guard(signal, within=0.0)):
        (verdict,) = judge_guards((guard,), "canary", seen({signal: value}))
        assert verdict.verdict == "waiting"
        assert f"{signal} is undefined on 1000" in verdict.sentence


def test_metrics_count_labelled_rows_and_the_thinner_arm() -> None:
    evidence = RolloutEvidence(
        ArmEvidence(2, 500, 150, {"auc": 0.1, "error_rate": 0.5}),
        ArmEvidence(1, 120, 120, {"auc": 0.9, "error_rate": 0.0}),
    )
    within = [hs.Guard(s, within=0.0, rows=130) for s in ("auc", "error_rate")]
    alone = [hs.Guard(s, at_most=0.05, rows=160) for s in ("auc", "error_rate")]
    verdicts = judge_guards((*within, *alone), "canary", evidence)
    assert [(v.verdict, v.rows) for v in verdicts] == [
        ("waiting", 120),
        ("waiting", 120),
        ("waiting", 150),
        ("broken", 500),
    ]


def test_candidates_at_the_door() -> None:
    nobody = RolloutState(stage="training")
    first = decide_candidate(PLAIN, nobody, Candidate(1, True, "3 gates passed"), 5)
    assert (first.action, first.version) == ("promote", 1)
    assert "the first model" in first.reason
    failed = Candidate(2, False, "auc 0.5 is below 0.6", {"auc": 0.5})
    refused = decide_candidate(PLAIN, nobody, failed, 5)
    assert (refused.action, refused.reason) == ("reject", "auc 0.5 is below 0.6")
    assert refused.evidence == {"gates": {"auc": 0.5}}
    champion = RolloutState(champion=1, withdrawn=(3,))
    same = decide_candidate(PLAIN, champion, Candidate(1, True, "passed"), 5)
    assert (same.action, same.reason) == ("reject", "it is the same package as the champion")
    again = decide_candidate(PLAIN, champion, Candidate(3, True, "passed"), 5)
    assert (again.action, again.reason) == ("reject", "the same package was rolled back before")
    begins = decide_candidate(PLAIN, champion, Candidate(2, True, "passed"), 5)
    assert (begins.action, begins.reason) == ("shadow", "passed; shadow for 2d")
    with pytest.raises(RolloutBusy, match="version 3 arrives while version 2 is in shadow"):
        decide_candidate(PLAIN, begun(), Candidate(3, True, "passed"), 5)


def test_a_person_may_go_back_from_challenger_or_champion() -> None:
    assert decide_return("late", RolloutState(champion=1), "complaints", 5) is None
    rolling = decided(decide_return("late", begun(), "complaints", 5))
    assert (rolling.version, rolling.evidence) == (2, {"back_to": 1})
    assert advance(begun(), rolling).champion == 1
    after = RolloutState(champion=2, previous=1)
    back = decided(decide_return("late", after, "complaints", 5))
    assert advance(after, back) == RolloutState(champion=1, withdrawn=(2,), since=5)


def test_steps_follow_the_declared_order() -> None:
    stages = (hs.Canary((0.1, 0.2), every="1h"), hs.BlueGreen("2h"), hs.Shadow("3h"))
    steps = rollout_steps(deploying(rollout=stages))
    hour = DAY // 24
    assert [(s.stage, s.share, s.span_us // hour) for s in steps] == [
        ("canary", 0.1, 1),
        ("canary", 0.2, 1),
        ("blue_green", 1.0, 2),
        ("shadow", 0.0, 3),
    ]


numbers = st.one_of(st.none(), st.floats(0, 1), st.just(math.nan))
arms = st.builds(
    lambda rows, share, auc, errors: (
        rows,
        int(rows * share),
        {"auc": auc, "error_rate": errors},
    ),
    st.integers(0, 400),
    st.floats(0, 1),
    numbers,
    numbers,
)
evidences = st.builds(
    lambda ours, theirs, ready: RolloutEvidence(
        ArmEvidence(2, *ours), ArmEvidence(1, *theirs), way_back_ready=ready
    ),
    arms,
    arms,
    st.booleans(),
)


@given(st.lists(st.tuples(evidences, st.integers(0, 3 * DAY)), max_size=15))
def test_whatever_the_evidence_every_decision_is_legal_and_repeatable(
    script: list[tuple[RolloutEvidence, int]],
) -> None:
    journal = [
        Decision(0, "late", "promote", "first", 1),
        decide_candidate(PLAIN, RolloutState(champion=1), Candidate(2, True, "passed"), 0),
    ]
    now = 0
    for evidence, passed in script:
        now += passed
        state = replayed(journal)["late"]
        decision = decide_rollout(PLAIN, state, evidence, now)
        assert decision == decide_rollout(PLAIN, state, evidence, now)
        if decision is None:
            continue
        journal.append(decision)
        after = replayed(journal)["late"]
        guards = judge_guards(PLAIN.guards, state.stage, evidence)
        if decision.action in ("canary", "promote"):
            assert all(g.verdict == "held" for g in guards)
            assert now - state.since >= DAY
            assert decision.action == "canary" or evidence.way_back_ready
        else:
            assert decision.action in ("rollback", "hold")
            assert after.champion == 1
        assert decide_rollout(PLAIN, after, evidence, now) is None or decision.action == "canary"


@pytest.mark.parametrize(
    ("p99_ms", "timed", "stage", "action"),
    [
        (140.0, True, "canary", "rollback"), (90.0, True, "canary", None),
        (140.0, False, "canary", None), (140.0, True, "shadow", None), (None, True, "canary", None),
    ],
)  # fmt: skip
def test_a_required_latency_is_a_guard(
    p99_ms: float | None, timed: bool, stage: str, action: str | None
) -> None:
    steps = (hs.Canary((0.5,), every="2d"),) if stage == "canary" else (hs.Shadow("2d"),)
    evidence = replace(seen({"latency_p99_ms": p99_ms}), timed=timed)
    found = decide_rollout(deploying(rollout=steps), begun(deploying(rollout=steps)), evidence, DAY)
    assert (None if found is None else found.action) == action
    assert found is None or "latency_p99_ms 140 is above 100 over 1000 requests" in found.reason
    # it holds nothing up for want of rows, and a declared bound takes its place
    few = replace(seen({"latency_p99_ms": p99_ms}, rows=50), timed=timed)
    passed = decide_rollout(deploying(rollout=steps), begun(deploying(rollout=steps)), few, 3 * DAY)
    assert decided(passed).action == "promote"
    declared = deploying(hs.Guard("latency_p99_ms", at_most=200), rollout=steps)
    assert decide_rollout(declared, begun(declared), evidence, DAY) is None
