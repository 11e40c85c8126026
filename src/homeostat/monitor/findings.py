"""What a monitor found, and the alerts that open and close on it: once each, not every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros

__all__ = ["Finding", "decide_alerts", "open_alerts"]

Status = Literal["found", "clear", "not judged"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One monitor's judgement at one instant.

    `kind` is "drift", "quality", "freshness" or "skew"; `subject` the model or source; `detail`
    tells two monitors of one kind and subject apart (metric and window). `reason` carries the
    numbers, `evidence` holds JSON values.
    """

    kind: str
    subject: str
    status: Status
    reason: str
    evidence: Mapping[str, object] = field(default_factory=dict, hash=False)
    detail: str = ""

    @property
    def key(self) -> str:
        """The name under which the alert on this finding opens and closes."""
        return "/".join(part for part in (self.kind, self.subject, self.detail) if part)

    @property
    def found(self) -> bool:
        """Whether the monitor found what it watches for."""
        return self.status == "found"


def open_alerts(decisions: Iterable[Decision]) -> dict[str, Decision]:
    """Return the alerts that a journal, oldest first, leaves open, by key of their finding.

    That on failing trainings has the cause of the latest failure.
    """
    opened: dict[str, Decision] = {}
    causes: dict[str, str] = {}
    for decision in decisions:
        if decision.action == "reject" and "failed" in decision.evidence:
            training, before = f"training/{decision.model}", causes.get(decision.model, "")
            causes[decision.model] = decision.reason
            if before and training in opened:
                alert = opened[training]
                told = alert.reason.replace(before, decision.reason, 1)
                opened[training] = replace(alert, reason=told)
        key = str(decision.evidence.get("key", ""))
        if decision.action == "alert":
            opened[key] = decision
        elif decision.action == "clear":
            opened.pop(key, None)
    return opened


def decide_alerts(
    opened: Mapping[str, Decision], findings: Iterable[Finding], now: Micros
) -> tuple[Decision, ...]:
    """Return an alert for each finding that opens, and a clear for each that is over.

    A finding that goes on, or was not judged this time, changes nothing.
    """
    decisions: list[Decision] = []
    for finding in findings:
        if finding.found and finding.key not in opened:
            body = {"key": finding.key, "kind": finding.kind, **finding.evidence}
            decisions.append(Decision(now, finding.subject, "alert", finding.reason, None, body))
        elif finding.status == "clear" and finding.key in opened:
            since = opened[finding.key].at
            body = {"key": finding.key, "kind": finding.kind, "since": since, **finding.evidence}
            decisions.append(Decision(now, finding.subject, "clear", finding.reason, None, body))
    return tuple(decisions)
