"""Laws of the rollout state: whatever is decided, one challenger at most, and a way back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.decisions import ACTIONS, Decision, DecisionInvalid
from homeostat.deploy.state import IllegalTransition, RolloutState, advance, is_given_up, replayed

asked = st.builds(
    lambda action, version, share, step, cause: (action, version, share, step, cause),
    st.sampled_from([*ACTIONS, "shadow", "canary", "canary", "canary"]),
    st.sampled_from([None, None, 1, 2, 3, 4]),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from([0, 1, "next", "next", "next"]),
    st.sampled_from(["thin", "no way back"]),
)


def decisions_from(script: list[tuple[object, ...]]) -> list[Decision]:
    """Turn a script into the decisions that were allowed; "next" and None fit the state."""
    state, journal = RolloutState(), []
    first = ("promote", 1, 0.0, 0, "")
    for at, (action, version, share, step, cause) in enumerate([first, *script]):
        fitting = version if version is not None else state.challenger
        evidence = {
            "share": share,
            "step": state.step + 1 if step == "next" else step,
            "cause": cause,
        }
        decision = Decision(at, "late", action, "drawn", fitting, evidence)  # type: ignore[arg-type]
        try:
            state = advance(state, decision)
        except IllegalTransition:
            continue
        journal.append(decision)
    return journal


@given(st.lists(asked, max_size=40))
def test_every_reachable_state_is_sound(script: list[tuple[object, ...]]) -> None:
    state = RolloutState()
    for decision in decisions_from(script):
        before, state = state, advance(state, decision)
        assert (state.challenger is not None) == (state.stage in ("shadow", "canary", "blue_green"))
        assert state.challenger is None or state.challenger != state.champion
        assert state.previous is None or state.previous != state.champion
        assert state.rolling or (state.share, state.step, state.salt) == (0.0, -1, "")
        if before.challenger is not None and state.challenger is not None:
            assert state.challenger == before.challenger, "a second challenger came in"
            assert state.salt == before.salt, "the draw changed within a rollout"
        if decision.action == "rollback" and before.rolling:
            assert (state.champion, state.previous) == (before.champion, before.previous)
            assert decision.version in state.withdrawn
        if decision.action == "rollback" and not before.rolling:
            assert state.champion == before.previous
        if decision.action == "give_up":
            assert state.champion == before.champion
            assert is_given_up(state, decision.version)
            assert decision.version in (before.champion, before.challenger, before.previous)
        if decision.action != "give_up" and state.given_up:
            assert before.given_up
        if decision.action == "promote":
            assert not state.given_up
            assert (state.champion, state.previous) == (decision.version, before.champion)


@given(st.lists(asked, max_size=40))
def test_the_fold_of_the_journal_is_the_state_step_by_step(
    script: list[tuple[object, ...]],
) -> None:
    journal = decisions_from(script)
    state = RolloutState()
    for decision in journal:
        state = advance(state, decision)
    read_back = [Decision.from_json(json.dumps(d.as_json())) for d in journal]
    assert read_back == journal
    folded = replayed(read_back).get("late", RolloutState())
    assert folded == state


def test_the_draw_is_kept_for_a_rollout_and_new_for_the_next() -> None:
    state = advance(champion(), Decision(1, "late", "shadow", "", 2, {"share": 0, "step": 0}))
    salt = state.salt
    state = advance(state, Decision(2, "late", "canary", "", 2, {"share": 0.1, "step": 1}))
    assert (state.salt, state.started, state.since) == (salt, 1, 2)
    state = advance(state, Decision(3, "late", "rollback", "", 2))
    state = advance(state, Decision(4, "late", "shadow", "", 2, {"share": 0, "step": 0}))
    assert state.salt not in ("", salt)


@given(st.lists(asked, max_size=20), st.lists(asked, max_size=20))
def test_models_do_not_touch_each_other(
    one: list[tuple[object, ...]], other: list[tuple[object, ...]]
) -> None:
    first = decisions_from(one)
    second = [
        Decision(d.at, "fraud", d.action, d.reason, d.version, d.evidence)
        for d in decisions_from(other)
    ]
    together = sorted([*first, *second], key=lambda d: d.at)
    assert replayed(together) == replayed(first) | replayed(second)


def champion(version: int = 1) -> RolloutState:
    return advance(RolloutState(), Decision(0, "late", "promote", "first", version))


@pytest.mark.parametrize(
    ("action", "version", "evidence"),
    [
        ("shadow", 1, {"share": 0.0, "step": 0}),  # the champion beside itself
        ("canary", 2, {"share": 1.5, "step": 0}),  # more than all requests
        ("canary", 2, {"share": 0.1, "step": 1}),  # not the first step
        ("canary", 2, {"step": 0}),  # no share
        ("shadow", None, {"share": 0.0, "step": 0}),  # nobody
        ("hold", 2, {}),  # nothing to hold
        ("promote", 1, {}),  # the champion again
        ("rollback", 1, {}),  # nothing to go back to
    ],
)
def test_illegal_decisions_are_refused(
    action: str, version: int | None, evidence: dict[str, object]
) -> None:
    decision = Decision(1, "late", action, "asked", version, evidence)  # type: ignore[arg-type]
    with pytest.raises(IllegalTransition, match=r"rollout of 'late'.*allowed: .*; decide from"):
        advance(champion(), decision)


@pytest.mark.parametrize(
    ("action", "version", "evidence"),
    [
        ("train", None, {}),
        ("reject", 3, {}),
        ("canary", 3, {"share": 0.1, "step": 1}),  # a second challenger
        ("canary", 2, {"share": 0.1, "step": 0}),  # the first step again
        ("hold", 3, {}),
        ("promote", 3, {}),  # past the challenger
        ("rollback", 1, {}),  # of the champion, from under the challenger
    ],
)
def test_illegal_decisions_are_refused_during_a_rollout(
    action: str, version: int | None, evidence: dict[str, object]
) -> None:
    state = advance(champion(), Decision(1, "late", "shadow", "", 2, {"share": 0, "step": 0}))
    decision = Decision(2, "late", action, "asked", version, evidence)  # type: ignore[arg-type]
    with pytest.raises(IllegalTransition, match="while shadow"):
        advance(state, decision)


def test_a_decision_before_the_present_step_is_refused() -> None:
    state = advance(champion(), Decision(9, "late", "shadow", "", 2, {"share": 0, "step": 0}))
    with pytest.raises(IllegalTransition, match="decisions at 9 or later"):
        advance(state, Decision(8, "late", "rollback", "late", 2))


def test_promotion_then_rollback_restores_the_champion_and_remembers_the_withdrawn() -> None:
    state = advance(champion(1), Decision(1, "late", "promote", "by hand", 2))
    assert (state.champion, state.previous) == (2, 1)
    state = advance(state, Decision(2, "late", "rollback", "by hand", 2))
    assert (state.champion, state.previous, state.withdrawn) == (1, None, (2,))
    state = advance(state, Decision(3, "late", "promote", "repaired", 2))
    assert state.withdrawn == ()


def test_training_is_seen_until_its_outcome() -> None:
    state = advance(champion(), Decision(5, "late", "train", "drift"))
    assert (state.stage, state.trained) == ("training", 5)
    assert advance(state, Decision(6, "late", "reject", "gates", 2)).stage == "idle"
    rolling = advance(
        champion(), Decision(6, "late", "shadow", "held", 2, {"share": 0.0, "step": 0})
    )
    with pytest.raises(IllegalTransition, match="training while idle"):
        advance(rolling, Decision(7, "late", "train", "again"))


def test_a_journal_with_a_training_that_never_ended_is_read() -> None:
    """As a release wrote it in which a failure left none; the next one was journaled, too."""
    cut_off = [Decision(at, "late", "train", "drift") for at in (5, 6, 7)]
    state = replayed([Decision(1, "late", "promote", "first", 1), *cut_off])["late"]
    assert (state.stage, state.champion, state.trained) == ("training", 1, 7)


def test_a_champion_is_withdrawn_while_the_next_one_is_trained() -> None:
    state = advance(champion(1), Decision(1, "late", "promote", "by hand", 2))
    state = advance(state, Decision(2, "late", "train", "drift"))
    state = advance(state, Decision(3, "late", "rollback", "by hand", 2))
    assert (state.stage, state.champion, state.withdrawn) == ("training", 1, (2,))
    assert advance(state, Decision(4, "late", "reject", "the same again", 2)).stage == "idle"


def test_failures_in_a_row_of_one_declaration_are_counted() -> None:
    def failing(declared: str) -> Decision:
        return Decision(5, "late", "reject", "no", None, {"failed": {"declared": declared}})

    state, train = champion(), Decision(5, "late", "train", "drift")
    counts = []
    for end in (
        failing("a"), failing("a"), Decision(5, "late", "reject", "off", None, {"cut_off": 1}),
        failing("a"), failing("b"), Decision(5, "late", "reject", "gates", 2), failing("b"),
    ):  # fmt: skip
        state = advance(advance(state, train), end)
        counts.append(state.failures)
    assert counts == [1, 2, 2, 3, 1, 0, 1]


def test_decisions_are_named_by_content() -> None:
    base = Decision(5, "late", "promote", "held", 2, {"auc": 0.75, "steps": (1, 2)})
    assert base.id == Decision(5, "late", "promote", "held", 2, {"steps": [1, 2], "auc": 0.75}).id
    others = [
        Decision(6, "late", "promote", "held", 2, base.evidence),
        Decision(5, "fraud", "promote", "held", 2, base.evidence),
        Decision(5, "late", "rollback", "held", 2, base.evidence),
        Decision(5, "late", "promote", "hold", 2, base.evidence),
        Decision(5, "late", "promote", "held", 3, base.evidence),
        Decision(5, "late", "promote", "held", 2, {"auc": 0.750001, "steps": [1, 2]}),
    ]
    assert len({base.id, *(other.id for other in others)}) == 7


def test_evidence_is_copied_and_must_be_plain() -> None:
    numbers = [1, 2]
    decision = Decision(5, "late", "alert", "seen", None, {"numbers": numbers})
    numbers.append(3)
    assert decision.evidence == {"numbers": [1, 2]}
    with pytest.raises(DecisionInvalid, match="evidence of alert of 'late' is not JSON"):
        Decision(5, "late", "alert", "seen", None, {"auc": float("nan")})
    with pytest.raises(DecisionInvalid, match="is not JSON"):
        Decision(5, "late", "alert", "seen", None, {"when": object.__new__(object)})
    with pytest.raises(DecisionInvalid, match="action 'deploy'; allowed: train, reject"):
        Decision(5, "late", "deploy", "seen")  # type: ignore[arg-type]
