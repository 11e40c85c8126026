"""Tells when a larger share of a source's records is no event than before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, lgamma

from homeostat.core.durations import Micros, format_duration
from homeostat.declare.monitors import Rejections
from homeostat.monitor.findings import Finding

__all__ = ["HOUR", "Tally", "judge_rejections", "p_of_rise"]

HOUR = 3_600_000_000
"""Records are counted by the hour in which they became known, in microseconds."""

_NAMED = 3
_NEGLIGIBLE = 1e-17


@dataclass(frozen=True, slots=True)
class Tally:
    """How many records of a source became known in an hour, and how many of them are no events.

    `refused` are those that were turned away at the door, by reason; the other two count them, too.
    """

    begin: Micros
    records: int
    rejected: int
    refused: Mapping[str, int] = field(default_factory=dict)


def p_of_rise(rejected: int, records: int, before_rejected: int, before: int) -> float:
    """Return how likely chance alone puts so many of the rejected records among the last ones.

    That is Fisher's exact test of one side: of all records, `records` are drawn without looking;
    how often are `rejected` or more of the rejected ones among them? 1.0 if the share has not
    risen.

    >>> round(p_of_rise(3, 3, 0, 3), 12)  # all three of six: 1 in 20
    0.05
    """
    marked, everything = rejected + before_rejected, records + before
    if rejected * everything <= marked * records:
        return 1.0
    term = exp(
        _log_choose(marked, rejected)
        + _log_choose(everything - marked, records - rejected)
        - _log_choose(everything, records)
    )
    total = 0.0
    for drawn in range(rejected, min(marked, records) + 1):
        total += term
        if term < _NEGLIGIBLE * total:  # beyond the mean, terms only fall
            break
        term *= (marked - drawn) * (records - drawn)
        term /= (drawn + 1) * (everything - marked - records + drawn + 1)
    return min(total, 1.0)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def judge_rejections(
    monitor: Rejections, tallies: Sequence[Tally], reasons: Mapping[str, int], now: Micros
) -> Finding:
    """Return the finding about the records of the last window.

    Args:
        monitor: the declared spans, level and factor.
        tallies: counts by hour, any span. The window are the hours that end after
            `now - window`; the baseline are those before it that end after its beginning.
        reasons: the reasons of the window's dead letters, for the words alone.
        now: the instant of judging, in microseconds.
    """
    name, span = monitor.source.name, format_duration(monitor.window_us)
    split = now - monitor.window_us
    begin = split - monitor.baseline_us
    last = [t for t in tallies if t.begin + HOUR > split and t.begin <= now]
    earlier = [t for t in tallies if split >= t.begin + HOUR > begin]
    records, rejected = sum(t.records for t in last), sum(t.rejected for t in last)
    before, before_rejected = sum(t.records for t in earlier), sum(t.rejected for t in earlier)
    why = sum((Counter(t.refused) for t in last), Counter(reasons))
    evidence: dict[str, object] = {
        "records": records,
        "rejected": rejected,
        "baseline_records": before,
        "baseline_rejected": before_rejected,
        "window_us": monitor.window_us,
        "reasons": dict(why),
    }
    if not records or not before:
        missing = "the last" if not records else "the baseline before"
        told = f"{name} has no record in {missing} {span if not records else ''}".rstrip()
        return Finding("rejections", name, "not judged", told, evidence)
    p = p_of_rise(rejected, records, before_rejected, before)
    share, usual = rejected / records, before_rejected / before
    evidence |= {"share": share, "baseline_share": usual, "p": p, "level": monitor.level}
    often = sorted(why.items(), key=lambda item: (-item[1], item[0]))[:_NAMED]
    told = f"{share:.3g} of {records:,} records of {span} are no events"
    if often:
        told += f" ({', '.join(f'{reason} {n:,}' for reason, n in often)})"
    told += f", against {usual:.3g} of {before:,} before; by chance in {p:.2g} of cases"
    has_risen = p < monitor.level and share >= monitor.times * usual
    return Finding("rejections", name, "found" if has_risen else "clear", told, evidence)
