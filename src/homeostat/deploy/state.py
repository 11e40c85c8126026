"""Where a model's rollout stands: a fold of the decision journal, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, cast

from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError

__all__ = ["IllegalTransition", "RolloutState", "Stage", "advance", "is_given_up", "replayed"]

Stage = Literal["idle", "training", "shadow", "canary", "blue_green"]


class IllegalTransition(HomeostatError):
    """A decision that the state of its rollout does not allow."""

    def __init__(self, decision: Decision, state: RolloutState, allowed: str) -> None:
        super().__init__(
            f"rollout of {decision.model!r}: {decision.action} of version {decision.version} "
            f"while {state.stage} (champion {state.champion}, challenger {state.challenger}); "
            f"allowed: {allowed}; decide from the state that the journal gives."
        )


@dataclass(frozen=True, slots=True)
class RolloutState:
    """The versions of one model in production, and how far a challenger has come.

    `share` of the requests is answered by the challenger. `since` is the instant at which the
    present step began, `started` that at which the rollout did; `step` counts its steps from 0.
    `salt` seeds the routing draw and is kept for the whole rollout, so whoever got the challenger
    keeps it while the share grows. `previous` is the champion before this one, `trained` the
    instant of the last training, `withdrawn` the versions that were rolled back, `held` the cause
    for which the present step was journaled as held ("" if it was not).

    `attempt` counts the trainings under way that were cut off with their process, this one
    included; `failures` the trainings in a row that failed, and `failure` says why the last one
    did; `declared` is the hash of the model's declaration that failed. `given_up` says that the
    champion may have stopped answering: what then can answer takes its place without a way back.
    """

    champion: int | None = None
    previous: int | None = None
    challenger: int | None = None
    stage: Stage = "idle"
    share: float = 0.0
    step: int = -1
    since: Micros = 0
    started: Micros = 0
    salt: str = ""
    trained: Micros | None = None
    withdrawn: tuple[int, ...] = ()
    held: str = ""
    attempt: int = 0
    failures: int = 0
    failure: str = ""
    declared: str = ""
    given_up: bool = False

    @property
    def rolling(self) -> bool:
        """Whether a challenger is on its way."""
        return self.challenger is not None


def advance(state: RolloutState, decision: Decision) -> RolloutState:
    """Return the state after `decision`; raise `IllegalTransition` if it is not allowed.

    Alerts and their ends leave the state as it is.

    >>> advance(RolloutState(), Decision(7, "late", "promote", "the first model", 1)).champion
    1
    """
    if decision.at < state.since:
        raise IllegalTransition(decision, state, f"decisions at {state.since} or later")
    match decision.action:
        case "alert" | "clear":
            return state
        case "train":
            # While training: earlier releases could journal one whose outcome never came.
            if state.stage not in ("idle", "training"):
                raise IllegalTransition(decision, state, "training while idle")
            attempt = int(decision.evidence.get("attempt", 1))
            return replace(
                state, stage="training", trained=decision.at, since=decision.at, attempt=attempt
            )
        case "reject":
            if state.rolling:
                raise IllegalTransition(
                    decision, state, "rollback while a challenger is rolled out"
                )
            return _rejected(state, decision)
        case "shadow" | "canary" | "blue_green":
            return _step(state, decision)
        case "hold":
            if not state.rolling or decision.version != state.challenger:
                raise IllegalTransition(decision, state, "hold of the challenger")
            return replace(state, held=str(decision.evidence.get("cause", "held")))
        case "promote":
            return _promoted(state, decision)
        case "rollback":
            return _rolled_back(state, decision)
        case "give_up":
            return _given_up(state, decision)


def is_given_up(state: RolloutState, version: int | None) -> bool:
    """Whether a version may stop answering: the champion was given up, or it is out of service.

    >>> is_given_up(RolloutState(champion=2, given_up=True), 2)
    True
    """
    if version == state.champion:
        return state.given_up
    return version not in (state.challenger, state.previous)


def replayed(decisions: Iterable[Decision]) -> dict[str, RolloutState]:
    """Return the state of every model that a journal, oldest first, leads to.

    >>> replayed([Decision(7, "late", "promote", "the first model", 1)])["late"].champion
    1
    """
    states: dict[str, RolloutState] = {}
    for decision in decisions:
        if decision.action not in ("alert", "clear"):
            state = states.get(decision.model, RolloutState())
            states[decision.model] = advance(state, decision)
    return states


def _rejected(state: RolloutState, decision: Decision) -> RolloutState:
    """Return `state` without the candidate; a training that failed is counted."""
    settled, failed = _settled(state, decision.at), decision.evidence.get("failed")
    if failed is None:
        if "cut_off" in decision.evidence:
            return settled
        return replace(settled, failures=0, failure="", declared="")
    declared = str(failed.get("declared", ""))
    failures = state.failures + 1 if declared == state.declared else 1
    return replace(settled, failures=failures, failure=decision.reason, declared=declared)


def _settled(state: RolloutState, at: Micros) -> RolloutState:
    """Return `state` with no challenger and nothing under way."""
    return replace(
        state, challenger=None, stage="idle", share=0.0, step=-1, since=at, started=0, salt="",
        held="", attempt=0,
    )  # fmt: skip


def _step(state: RolloutState, decision: Decision) -> RolloutState:
    """Begin a rollout, or take its next step."""
    version = decision.version
    if version is None or state.champion is None or version == state.champion:
        raise IllegalTransition(decision, state, "a challenger beside another champion")
    if state.challenger is not None and version != state.challenger:
        raise IllegalTransition(decision, state, "one challenger at a time")
    share, step = decision.evidence.get("share"), decision.evidence.get("step")
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise IllegalTransition(decision, state, "evidence with a share between 0 and 1")
    if step != state.step + 1:
        raise IllegalTransition(decision, state, f"step {state.step + 1} of the rollout")
    begins = not state.rolling
    return replace(
        state,
        challenger=version,
        stage=cast(Stage, decision.action),
        share=float(share),
        step=step,
        since=decision.at,
        started=decision.at if begins else state.started,
        salt=f"{decision.model}@{version}/{decision.at}" if begins else state.salt,
        held="",
        attempt=0,
        failures=0,
        failure="",
        declared="",
    )


def _promoted(state: RolloutState, decision: Decision) -> RolloutState:
    version = decision.version
    if version is None or version == state.champion:
        raise IllegalTransition(decision, state, "promotion of another version")
    if state.rolling and version != state.challenger:
        raise IllegalTransition(decision, state, "promotion of the challenger")
    settled, way_back = _settled(state, decision.at), decision.evidence.get("way_back", {})
    return replace(
        settled,
        champion=version,
        previous=state.champion if way_back.get("ready", True) else None,
        given_up=False,
        withdrawn=tuple(v for v in state.withdrawn if v != version),
        failures=0,
        failure="",
        declared="",
    )


def _rolled_back(state: RolloutState, decision: Decision) -> RolloutState:
    """Withdraw the challenger, or, with none, go from the champion back to the previous one."""
    version = decision.version
    if version is None or version != (state.challenger if state.rolling else state.champion):
        raise IllegalTransition(decision, state, "rollback of the newest version that answers")
    settled = _settled(state, decision.at)
    withdrawn = tuple(sorted({*state.withdrawn, version}))
    if state.rolling:
        return replace(settled, withdrawn=withdrawn)
    if state.previous is None:
        raise IllegalTransition(decision, state, "a previous champion to go back to")
    back = replace(
        settled, champion=state.previous, previous=None, withdrawn=withdrawn, given_up=False
    )
    # A training under way goes on: what comes of it is judged by the state it then finds.
    return (
        back
        if state.stage != "training"
        else replace(back, stage="training", attempt=state.attempt)
    )


def _given_up(state: RolloutState, decision: Decision) -> RolloutState:
    """Let go of a version: the champion stays until another takes its place, others leave."""
    version = decision.version
    if version is None or version not in (state.champion, state.challenger, state.previous):
        raise IllegalTransition(decision, state, "a version in service")
    if version == state.champion:
        return replace(state, given_up=True)
    if version == state.previous:
        return replace(state, previous=None)
    withdrawn = tuple(sorted({*state.withdrawn, version}))
    return replace(_settled(state, decision.at), withdrawn=withdrawn)
