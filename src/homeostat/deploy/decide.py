"""Decides what happens next to a challenger: a pure function of declaration, state and evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from homeostat.core.clock import from_micros
from homeostat.core.decisions import Action, Decision
from homeostat.core.durations import Micros, format_duration
from homeostat.core.errors import HomeostatError
from homeostat.declare.deployments import BlueGreen, Canary, Deployment, Shadow
from homeostat.deploy.guards import GuardVerdict, RolloutEvidence, judge_guards, promised_guard
from homeostat.deploy.state import RolloutState, Stage

__all__ = [
    "Candidate",
    "RolloutBusy",
    "Step",
    "decide_candidate",
    "decide_return",
    "decide_rollout",
    "rollout_steps",
]

PATIENCE = 2
"""A step without enough evidence is extended to this many times its span, then held openly."""


class RolloutBusy(HomeostatError):
    """A challenger arrives while another one is on its way."""

    def __init__(self, model: str, state: RolloutState, version: int) -> None:
        super().__init__(
            f"deployment of {model!r}: version {version} arrives while version "
            f"{state.challenger} is in {state.stage}; allowed: one challenger at a time; wait for "
            "its end, or roll it back."
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a rollout: its stage, the challenger's share of the requests, and its span."""

    stage: Stage
    share: float
    span_us: Micros

    def __str__(self) -> str:
        return f"canary at {self.share:.4g}" if self.stage == "canary" else _WORDS[self.stage]


_WORDS: Mapping[Stage, str] = {
    "idle": "no rollout",
    "training": "training",
    "shadow": "shadow",
    "canary": "canary",
    "blue_green": "blue-green",
}
_ACTIONS: Mapping[Stage, Action] = {
    "shadow": "shadow",
    "canary": "canary",
    "blue_green": "blue_green",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained version at the door: whether it passed its gates, and what they saw."""

    version: int
    passed: bool
    reason: str
    evidence: Mapping[str, object] = field(default_factory=dict, hash=False)


def rollout_steps(deployment: Deployment) -> tuple[Step, ...]:
    """Return the steps of a deployment's rollout, in order; promotion follows the last.

    A deployment with `rollout=(Shadow("2d"), Canary((0.05, 0.5), every="1d"))` has three steps.
    """
    steps: list[Step] = []
    for stage in deployment.rollout:
        match stage:
            case Shadow():
                steps.append(Step("shadow", 0.0, stage.span_us))
            case Canary():
                steps.extend(Step("canary", share, stage.every_us) for share in stage.shares)
            case BlueGreen():
                steps.append(Step("blue_green", 1.0, stage.keep_us))
    return tuple(steps)


def decide_candidate(
    deployment: Deployment,
    state: RolloutState,
    candidate: Candidate,
    now: Micros,
    *,
    champion_answers: bool = True,
) -> Decision:
    """Return what becomes of a newly trained version: reject it, or begin its rollout.

    The first model of a deployment is promoted at once: there is nothing to compare it with, and
    without it the declared fallback score answers; so it is where the champion was given up and
    answers nothing (`champion_answers` is false). A version that was rolled back, or that is the
    champion itself (training on the same rows gives the same package), is rejected.
    Raises `RolloutBusy` while another challenger is on its way.
    """
    name, version = deployment.model.name, candidate.version
    if state.rolling:
        raise RolloutBusy(name, state, version)
    evidence: dict[str, object] = {"gates": candidate.evidence}
    if not candidate.passed:
        return Decision(now, name, "reject", candidate.reason, version, evidence)
    if version == state.champion:
        reason = "it is the same package as the champion"
        return Decision(now, name, "reject", reason, version, evidence)
    if version in state.withdrawn:
        reason = "the same package was rolled back before"
        return Decision(now, name, "reject", reason, version, evidence)
    if state.champion is None:
        reason = f"{candidate.reason}; it is the first model, so there is no champion to protect"
        return Decision(now, name, "promote", reason, version, evidence)
    if state.given_up and not champion_answers:
        reason = f"{candidate.reason}; {_gone(state)}"
        evidence["way_back"] = {"version": state.champion, "ready": False}
        return Decision(now, name, "promote", reason, version, evidence)
    first = rollout_steps(deployment)[0]
    reason = f"{candidate.reason}; {first} for {format_duration(first.span_us)}"
    evidence |= {"step": 0, "share": first.share, "span_us": first.span_us}
    evidence |= {"champion": state.champion}
    return Decision(now, name, _ACTIONS[first.stage], reason, version, evidence)


def decide_rollout(
    deployment: Deployment, state: RolloutState, evidence: RolloutEvidence, now: Micros
) -> Decision | None:
    """Return the next decision about the challenger, or None to go on as it is.

    A broken guard rolls back at once, at any moment, and so does a required latency that is not
    kept. Otherwise a step lasts its span; guards that
    still wait for rows extend it, and past twice the span that is journaled once as a hold:
    evidence that is thin never promotes. The span begins again with each request that lacks a
    field which the challenger reads: as champion, it would require that field of every client,
    so it waits until they send it. After the last step the challenger is promoted, once the
    way back to the champion has been rehearsed. Where the champion was given up and answers
    nothing, the challenger is promoted at once: there is nothing to compare it with; where it
    waits for a field, that is journaled at once.
    """
    if state.challenger is None:
        return None
    steps = rollout_steps(deployment)
    ask = _Ask(deployment, state, evidence, now)
    if state.step >= len(steps) or _differs(steps[state.step], state):
        return ask.decision("rollback", "the declared rollout has no such step any more", ())
    step = steps[state.step]
    verdicts = judge_guards(deployment.guards, state.stage, evidence)
    promised = promised_guard(deployment)
    if promised is not None:
        found = judge_guards((promised,), state.stage, evidence)
        verdicts += tuple(verdict for verdict in found if verdict.verdict == "broken")
    broken = [v.sentence for v in verdicts if v.verdict == "broken"]
    if broken:
        return ask.decision("rollback", f"{step}: {'; '.join(broken)}", verdicts)
    lacks = evidence.unasked_at is not None and now - evidence.unasked_at < step.span_us
    gone = state.given_up and not evidence.way_back_ready
    if gone and not lacks:
        back = {"version": state.champion, "ready": False}
        return ask.decision("promote", f"{step}: {_gone(state)}", verdicts, {"way_back": back})
    if gone:  # and it lacks fields: clients are told at once, for nothing answers them meanwhile
        return ask.hold("fields", f"{step}: {_given_up(state)}; {_unasked(evidence)}", verdicts)
    if now - state.since < step.span_us:
        return None
    if lacks:
        if now - state.since < PATIENCE * step.span_us:
            return None
        return ask.hold("fields", f"{step}: {_unasked(evidence)}", verdicts)
    waiting = [v.sentence for v in verdicts if v.verdict == "waiting"]
    if waiting:
        if now - state.since < PATIENCE * step.span_us:
            return None
        return ask.hold("thin", f"{step}: evidence is thin: {'; '.join(waiting)}", verdicts)
    summary = f"{step} for {format_duration(now - state.since)}: {_summary(verdicts)}"
    if state.step + 1 < len(steps):
        return ask.next_step(steps[state.step + 1], summary, verdicts)
    return ask.promotion(summary, verdicts)


def decide_return(model: str, state: RolloutState, reason: str, now: Micros) -> Decision | None:
    """Return the rollback a person asks for: of the challenger, else of the champion.

    None when there is nothing to go back to.
    """
    if state.challenger is not None:
        withdrawn, back = state.challenger, state.champion
    elif state.champion is not None and state.previous is not None:
        withdrawn, back = state.champion, state.previous
    else:
        return None
    return Decision(now, model, "rollback", reason, withdrawn, {"back_to": back})


@dataclass(frozen=True, slots=True)
class _Ask:
    """What `decide_rollout` was asked, so that each answer carries the same evidence."""

    deployment: Deployment
    state: RolloutState
    evidence: RolloutEvidence
    now: Micros

    def decision(
        self,
        action: Action,
        reason: str,
        verdicts: tuple[GuardVerdict, ...],
        extra: Mapping[str, object] | None = None,
    ) -> Decision:
        state, challenger, champion = self.state, self.evidence.challenger, self.evidence.champion
        body: dict[str, object] = {
            "stage": state.stage,
            "stage_share": state.share,
            "since": state.since,
            "champion": state.champion,
            "rows": challenger.rows,
            "labelled": challenger.labelled,
            "champion_rows": champion.rows if champion else 0,
            "champion_labelled": champion.labelled if champion else 0,
            "guards": [verdict.evidence() for verdict in verdicts],
        }
        if self.evidence.unasked:
            body["unasked"] = self.evidence.unasked
        if action == "rollback":
            body["back_to"] = state.champion
            body["broken"] = [v.evidence() for v in verdicts if v.verdict == "broken"]
        body |= extra or {}
        name = self.deployment.model.name
        return Decision(self.now, name, action, reason, state.challenger, body)

    def hold(self, cause: str, reason: str, verdicts: tuple[GuardVerdict, ...]) -> Decision | None:
        """Journal the cause of a hold once per step."""
        if self.state.held == cause:
            return None
        return self.decision("hold", reason, verdicts, {"cause": cause})

    def next_step(self, step: Step, summary: str, verdicts: tuple[GuardVerdict, ...]) -> Decision:
        extra = {"step": self.state.step + 1, "share": step.share, "span_us": step.span_us}
        reason = f"{summary}; {step} for {format_duration(step.span_us)}"
        return self.decision(_ACTIONS[step.stage], reason, verdicts, extra)

    def promotion(self, summary: str, verdicts: tuple[GuardVerdict, ...]) -> Decision | None:
        back = {"version": self.state.champion, "ready": self.evidence.way_back_ready}
        if not self.evidence.way_back_ready:
            reason = f"{summary}; the way back is not ready: version {self.state.champion} fails"
            return self.hold("no way back", f"{reason} to load", verdicts)
        reason = f"{summary}; the way back to version {self.state.champion} is rehearsed"
        return self.decision("promote", reason, verdicts, {"way_back": back})


def _gone(state: RolloutState) -> str:
    return f"{_given_up(state)}, so none is to protect"


def _given_up(state: RolloutState) -> str:
    return f"version {state.champion} was given up and answers nothing"


def _unasked(evidence: RolloutEvidence) -> str:
    at = evidence.unasked_at
    last = "" if at is None else f", the last at {from_micros(at)}"
    return (
        f"{evidence.unasked} requests lack a field that version {evidence.challenger.version} "
        f"reads{last}: it goes on when clients have sent it for a whole step"
    )


def _differs(step: Step, state: RolloutState) -> bool:
    return (step.stage, step.share) != (state.stage, state.share)


def _summary(verdicts: tuple[GuardVerdict, ...]) -> str:
    if not verdicts:
        return "no guards are declared"
    return "; ".join(v.sentence for v in verdicts)
