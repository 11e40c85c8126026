"""Decides when a challenger is trained: on findings, on age, never twice within the cooldown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros, format_duration
from homeostat.declare.monitors import Retrain
from homeostat.monitor.findings import Finding

__all__ = ["FIRST_REST", "LONGEST_REST", "Standing", "decide_retrain", "rest_after"]

FIRST_REST, LONGEST_REST = 600_000_000, 86_400_000_000
"""After a training that failed nothing is trained for ten minutes, then twice as long, up to a day;
a longer cooldown holds."""


class Standing(Protocol):
    """What a retraining asks of a model's rollout state."""

    @property
    def stage(self) -> str: ...
    @property
    def champion(self) -> int | None: ...
    @property
    def trained(self) -> Micros | None: ...
    @property
    def failures(self) -> int: ...


def rest_after(failures: int) -> Micros:
    """Return how long nothing is trained after so many trainings in a row that failed.

    >>> [rest_after(n) // 60_000_000 for n in (0, 1, 2, 3, 50)]
    [0, 10, 20, 40, 1440]
    """
    return min(FIRST_REST << min(failures - 1, 20), LONGEST_REST) if failures else 0


def decide_retrain(
    retrain: Retrain, state: Standing, findings: Iterable[Finding], now: Micros
) -> Decision | None:
    """Return the decision to train a challenger now, or None.

    There must be a champion, nothing under way (training or rollout), and `cooldown` since the
    last training. Then the findings the declaration names, or a last training `every` ago, are
    occasions; all that hold are named in the reason. A finding that goes on is an occasion again
    after the cooldown: the last challenger did not repair it. After trainings that failed the
    rest is at least `rest_after` them.
    """
    last = state.trained
    if state.stage != "idle" or state.champion is None:
        return None
    if last is not None and now - last < max(retrain.cooldown_us, rest_after(state.failures)):
        return None
    name = retrain.model.name
    occasions = [
        finding
        for finding in findings
        if finding.found and finding.kind in retrain.on and finding.subject == name
    ]
    reasons = [f"{finding.kind}: {finding.reason}" for finding in occasions]
    every = retrain.every_us
    if every is not None and last is not None and now - last >= every:
        age = format_duration(now - last)
        reasons.append(f"age: the last training was {age} ago, every {format_duration(every)}")
    if not reasons:
        return None
    evidence = {
        "champion": state.champion,
        "last_trained": last,
        "occasions": [
            {"key": finding.key, "reason": finding.reason, **finding.evidence}
            for finding in occasions
        ],
        "aged": len(reasons) > len(occasions),
    }
    return Decision(now, name, "train", "; ".join(reasons), None, evidence)
