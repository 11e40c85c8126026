"""Tells a source that has gone silent."""

from __future__ import annotations

from homeostat.core.durations import Micros, format_duration
from homeostat.declare.monitors import Freshness
from homeostat.monitor.findings import Finding

__all__ = ["judge_freshness"]


def judge_freshness(monitor: Freshness, last_known: Micros | None, now: Micros) -> Finding:
    """Return the finding about a source whose newest event became known at `last_known`.

    A source that has never had an event is not judged: it may not have begun.
    """
    name, bound = monitor.source.name, monitor.within_us
    if last_known is None:
        return Finding("freshness", name, "not judged", f"{name} has had no event yet")
    silent = max(now - last_known, 0)
    evidence = {"last_known": last_known, "silent_us": silent, "within_us": bound}
    told = f"{name}'s last event became known {format_duration(silent)} ago"
    if silent > bound:
        reason = f"{told}, longer than {format_duration(bound)}"
        return Finding("freshness", name, "found", reason, evidence)
    return Finding("freshness", name, "clear", f"{told}, within {format_duration(bound)}", evidence)
