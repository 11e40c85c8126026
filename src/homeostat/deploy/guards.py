"""Judges the guards of a deployment against the numbers of champion and challenger."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from homeostat.core.durations import Micros
from homeostat.declare.deployments import Deployment, Guard
from homeostat.declare.models import METRICS

__all__ = [
    "ArmEvidence",
    "GuardVerdict",
    "RolloutEvidence",
    "Verdict",
    "judge_guards",
    "promised_guard",
]

Verdict = Literal["held", "broken", "waiting", "not judged"]

ROUNDING = 1e-12
"""A bound is broken by more than this: differences of floats may carry rounding noise."""


@dataclass(frozen=True, slots=True)
class ArmEvidence:
    """What one version did since the step began.

    `rows` are its requests, `labelled` those whose label is known. `signals` has the guarded
    metrics (over the labelled rows) and signals (over all); None where undefined.
    """

    version: int
    rows: int
    labelled: int
    signals: Mapping[str, float | None] = field(hash=False)


@dataclass(frozen=True, slots=True)
class RolloutEvidence:
    """What a rollout is judged on; everything in it is a plain value.

    `timed` says whether latencies were measured (not on a virtual clock). `way_back_ready` says
    that the champion's package loads and scores, so that a promotion could be undone. `unasked`
    requests lacked a field that the challenger reads, the last of them at `unasked_at`. `beside` is
    the challenger on the requests that the champion answered, too; None where they share none.
    """

    challenger: ArmEvidence
    champion: ArmEvidence | None
    timed: bool = False
    way_back_ready: bool = False
    unasked: int = 0
    unasked_at: Micros | None = None
    beside: ArmEvidence | None = None


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """One guard, the numbers it was judged on, and the sentence that says so."""

    guard: Guard
    verdict: Verdict
    sentence: str
    challenger: float | None
    champion: float | None
    rows: int

    def evidence(self) -> dict[str, object]:
        """Return this verdict as JSON values, for a decision."""
        return {
            "signal": self.guard.signal,
            **_bound(self.guard),
            "verdict": self.verdict,
            "challenger": self.challenger,
            "champion": self.champion,
            "rows": self.rows,
            "rows_needed": self.guard.rows,
            "sentence": self.sentence,
        }


def promised_guard(deployment: Deployment) -> Guard | None:
    """Return the guard that the requirements stand for, None where a declared one says it.

    It breaks a rollout as a declared one does, and holds none up for want of rows.
    """
    if any(g.signal == "latency_p99_ms" and g.at_most is not None for g in deployment.guards):
        return None
    bound = deployment.model.requirements.latency_p99_us
    return Guard("latency_p99_ms", at_most=bound / 1000)


def judge_guards(
    guards: tuple[Guard, ...], stage: str, evidence: RolloutEvidence
) -> tuple[GuardVerdict, ...]:
    """Return one verdict per guard, in their order.

    A guard without enough rows, or whose metric is undefined on them, waits. Latency is not judged
    on a virtual clock or in shadow, where no user waits for the challenger. `within` is not
    judged in blue-green, where the champion answers nothing.
    """
    return tuple(_judge(guard, stage, evidence) for guard in guards)


def _judge(guard: Guard, stage: str, evidence: RolloutEvidence) -> GuardVerdict:
    name, needs_champion = guard.signal, guard.within is not None
    of_metric = name in METRICS
    arms = [evidence.challenger]
    if needs_champion and evidence.champion is not None:
        if evidence.beside is not None and name != "error_rate":
            arms = [evidence.beside]
        arms.append(evidence.champion)
    counts = [arm.labelled if of_metric else arm.rows for arm in arms]
    values = [_finite(arm.signals.get(name)) for arm in arms]
    rows, ours = min(counts), values[0]
    theirs = values[1] if len(values) > 1 else None
    kind = "labelled requests" if of_metric else "requests"

    def verdict(found: Verdict, sentence: str) -> GuardVerdict:
        return GuardVerdict(guard, found, sentence, ours, theirs, rows)

    if name == "latency_p99_ms" and stage == "shadow":
        return verdict("not judged", f"{name} is not judged in shadow")
    if name == "latency_p99_ms" and not evidence.timed:
        return verdict("not judged", f"{name} is not judged on a virtual clock")
    if needs_champion and stage == "blue_green":
        return verdict("not judged", f"{name}: the champion answers nothing in blue-green")
    if needs_champion and evidence.champion is None:
        return verdict("waiting", f"{name}: there is no champion to compare with")
    if rows < guard.rows:
        return verdict("waiting", f"{name} has {rows} of {guard.rows} {kind}")
    if ours is None or (needs_champion and theirs is None):
        return verdict("waiting", f"{name} is undefined on {rows} {kind}")
    held, comparison = _compare(guard, ours, theirs)
    return verdict("held" if held else "broken", f"{comparison} over {rows} {kind}")


def _compare(guard: Guard, ours: float, theirs: float | None) -> tuple[bool, str]:
    """Return whether the bound holds, and the sentence with the numbers."""
    name = guard.signal
    if guard.at_most is not None:
        held = ours - guard.at_most <= ROUNDING
        return held, f"{name} {ours:.4g} is {'at most' if held else 'above'} {guard.at_most:g}"
    if guard.at_least is not None:
        held = guard.at_least - ours <= ROUNDING
        return held, f"{name} {ours:.4g} is {'at least' if held else 'below'} {guard.at_least:g}"
    bound, theirs = guard.within or 0.0, theirs or 0.0
    held = _worse(name, ours, theirs) - bound <= ROUNDING
    beside = "within" if held else "not within"
    return held, f"{name} {ours:.4g} is {beside} {bound:g} of the champion's {theirs:.4g}"


def _worse(name: str, ours: float, theirs: float) -> float:
    """Return by how much the challenger is worse; a rate or mean that must not move counts both
    ways."""
    if METRICS.get(name):
        return theirs - ours
    if name in ("positive_rate", "mean_score"):
        return abs(ours - theirs)
    return ours - theirs


def _bound(guard: Guard) -> dict[str, float]:
    named = {"at_least": guard.at_least, "at_most": guard.at_most, "within": guard.within}
    return {name: bound for name, bound in named.items() if bound is not None}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
