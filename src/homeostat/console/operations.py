"""Sections on how the system ran: rollouts, drift, latency, events, and the features that count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from homeostat.console.bars import Bar, bars, ranges
from homeostat.console.charts import Series, Span, line_chart
from homeostat.console.page import figure, legend, section, table
from homeostat.console.rollout import marks, stays, timeline
from homeostat.console.summary import Summary, instant, number
from homeostat.console.wording import two, whole

__all__ = ["drift", "importance", "intake", "latency", "rollouts"]

PSI_BOUND = 0.25


def rollouts(found: Summary) -> str:
    """Return the timeline, and why each withdrawn version was stopped."""
    period, moves = found.period(), found.moves()
    if period is None or not moves:
        return ""
    picture = figure("", timeline(moves, Span(*period)))
    entries = [
        ("box champion", "champion"),
        ("box shadow", "shadow: answers nobody"),
        ("box canary", "canary"),
        ("box harmful", "later rolled back"),
    ]
    stopped = ""
    held = stays(moves, period[1])
    for decision in found.decisions():
        if decision.get("action") != "rollback":
            continue
        version = str(decision.get("version", "?"))
        mine = [s.share for s in held if s.version == version and s.stage != "champion"]
        reached = f" It never answered more than {max(mine):.0%} of the requests." if mine else ""
        at = instant(decision.get("at"))
        day = f" on {at.day} {at:%B}" if at else ""
        stopped += (
            f'<div class="stopped"><p><b>Version {escape(version)} was stopped{day}.</b>{reached}'
            f"</p><p>{escape(str(decision.get('reason', '')))}</p></div>"
        )
    words = (
        "The band shows who answered which share of the requests, the lanes below how each version "
        "got there, or did not."
    )
    return section("Rollouts", words, legend(entries), picture, stopped)


def drift(found: Summary) -> str:
    """Return the strongest drift and the number of drifted features by day."""
    period = found.period()
    rows = [r for r in found.rows("drift") if isinstance(r, Sequence) and len(r) >= 4]
    if period is None or not rows:
        return ""
    span = Span(*period)
    days = [(at, row) for row in rows if (at := instant(row[0])) is not None]
    notes = [f", {row[2]}" for _, row in days]
    strongest = Series("strongest", "s0", [(at, number(r[3])) for at, r in days], notes)
    many = Series("drifted features", "s3", [(at, number(r[1])) for at, r in days])
    changes = marks(found.moves())
    top = line_chart([strongest], span, "PSI", two, marks=changes, limit=PSI_BOUND, floor=0)
    count = line_chart([many], span, "features", whole, marks=changes, height=130, floor=0)
    words = (
        "Features of the last days against the training sketch of the model that answers, by the "
        f"population stability index; above {PSI_BOUND} (dashed) a shift is usually called major. "
        "A new champion brings a new reference, so the line falls where one is promoted."
    )
    return section(
        "Drift",
        words,
        figure("Strongest drift of any feature", top),
        figure("Features that drifted", count),
    )


def latency(found: Summary) -> str:
    """Return what a prediction costs in time, by component."""
    rows = []
    for name, row in found.mapping("latency").items():
        p50, p95, p99 = (
            number(row.get(key)) if isinstance(row, Mapping) else math.nan
            for key in ("p50_ms", "p95_ms", "p99_ms")
        )
        if math.isfinite(p50 + p95 + p99):
            rows.append((str(name).replace("_", " "), p50, p95, p99))
    picture = ranges(sorted(rows, key=lambda row: -row[1]), "Latency by component")
    words = (
        "Median (full dot), 95th and 99th percentile of the time inside the server; the scale is "
        "logarithmic."
    )
    return section("Latency by component", words, figure("", picture))


def importance(found: Summary) -> str:
    """Return the features that move the scores most."""
    rows = [r for r in found.rows("importance") if isinstance(r, Sequence) and len(r) >= 2]
    ranked = sorted(((str(r[0]), number(r[1])) for r in rows), key=lambda row: -row[1])
    shown = [
        Bar(name, share, f"{share:.1%}", "s0" if "__" in name else "s2")
        for name, share in ranked[:18]
        if math.isfinite(share)
    ]
    words = "The share of each feature in what the last champion has learned."
    entries = [("box s0", "from the stream"), ("box s2", "from the request, or computed on demand")]
    picture = figure("", bars(shown, "Importance of features"))
    return section("What the model looks at", words, legend(entries) if picture else "", picture)


def intake(found: Summary) -> str:
    """Return what became of every event, and why some were refused."""
    counts, refused = found.mapping("counts"), found.mapping("quarantined")
    rows = []
    for source in sorted({*counts, *refused}):
        reasons = found.mapping("quarantined", source)
        chips = "".join(
            f"<span>{escape(str(reason))} <b>{number(n):,.0f}</b></span>"
            for reason, n in sorted(reasons.items(), key=lambda item: -number(item[1]))
        )
        cells = [
            whole(found.number("counts", source, name))
            for name in ("accepted", "duplicates", "too_late", "rejected")
        ]
        rows.append([escape(str(source)), *cells, f'{{words}}<div class="chips">{chips}</div>'])
    head = ["Source", "Accepted", "Duplicates dropped", "Too late", "Quarantined", "{words}Reasons"]
    words = (
        "Every event ends in one of these columns. Too-late events are kept in the lake and are in "
        "no feature; quarantined ones wait, byte for byte, to be repaired and replayed "
        "(<code>homeostat dead-letters</code>)."
    )
    return section("Where events went", words, table(head, rows))
