"""The report of a replay: one page that holds everything it needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from homeostat.console.bars import Bar, bars, ranges, reliability
from homeostat.console.charts import Series, Span, line_chart
from homeostat.console.decisions import decision_tables
from homeostat.console.page import document, figure, legend, section, table, tile
from homeostat.console.rollout import marks, stays, timeline
from homeostat.console.summary import ALL, MODELS, Summary, instant, number

__all__ = ["render"]

QUALITY = (
    ("auc", 1, "ROC-AUC by week", "how well late flights are told from others; more is better"),
    ("cost", 2, "Cost per prediction by week", "at the declared costs; less is better"),
    (
        "calibration_error",
        3,
        "Calibration error by week",
        "how far a score of 30 % is from meaning 30 %; less is better",
    ),
)
"""Metric, its column in `weekly`, the heading, and what it tells."""
COMPONENTS = ("total", "features", "model")
PSI_BOUND = 0.25


def render(summary: Mapping[str, Any]) -> str:
    """Return the HTML page of a replay's summary; parts the summary lacks are left out.

    >>> render({"system": "flights"}).startswith("<!doctype html>")
    True
    """
    found = Summary(summary)
    name = found.text("system") or "system"
    body = [
        _head(found, name),
        _worth(found),
        _quality(found),
        _rollouts(found),
        _drift(found),
        _trust(found),
        _inside(found),
        _intake(found),
        _journal(found),
        _next(found),
        _foot(found),
    ]
    return document(f"{name}: a replay by Homeostat", body)


def _head(found: Summary, name: str) -> str:
    period = found.period()
    over = f"Homeostat · {escape(name)}"
    title = "A replay of the whole loop"
    if period:
        title = f"{escape(name.capitalize())}, {_days(*period)}"
    return (
        f'<p class="over">{over}</p><h1>{title}</h1><p class="lede">{_lede(found)}</p>'
        f'<div class="tiles">{"".join(_tiles(found))}</div>'
    )


def _lede(found: Summary) -> str:
    done = [str(d.get("action", "")) for d in found.decisions()]
    trained, promoted, back = (done.count(a) for a in ("train", "promote", "rollback"))
    words = "Events came in, became features, trained a model and were judged by it"
    if done:
        words = (
            f"The system trained <b>{_times(trained, 'challenger')}</b>, promoted "
            f"<b>{_times(promoted, 'model')}</b> and took back <b>{back}</b>"
        )
    answered = found.number("predictions")
    if math.isfinite(answered):
        words += f", while it answered <b>{answered:,.0f}</b> requests"
    return f"{words}, on a virtual clock and through the code that serves live."


def _times(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _tiles(found: Summary) -> list[str]:
    tiles: list[str] = []
    auc, gain = found.metric("auc", "final", ALL), found.gain(ALL)
    if math.isfinite(auc):
        words = "ROC-AUC of the system over the whole period"
        tiles.append(tile(f"{auc:.3f}", words))
    if math.isfinite(gain):
        style = "good" if gain > 0 else "bad"
        tiles.append(tile(_signed(gain), "AUC gained by streaming features", style))
    ours, frozen = (found.metric("cost", m, ALL) for m in ("final", "frozen"))
    if math.isfinite(ours) and frozen > 0:
        saved = 1 - ours / frozen
        words = "cost per prediction against the first model, frozen"
        tiles.append(tile(f"{-saved:+.1%}", words, "good" if saved > 0 else "bad"))
    compared, different = found.number("skew_compared"), found.number("skew_different")
    if math.isfinite(compared) and math.isfinite(different):
        words = f"of {compared:,.0f} logged feature values differ from the lake, to the bit"
        tiles.append(tile(f"{different:,.0f}", words, "bad" if different else "good"))
    bad = sum(number(n) for r in found.mapping("quarantined").values() for n in _counts(r).values())
    if found.mapping("quarantined"):
        tiles.append(tile(f"{bad:,.0f}", "bad events quarantined, each with its reason"))
    seconds, memory = found.number("seconds"), found.number("peak_rss_mb")
    if math.isfinite(seconds):
        words = "for the replay" + (
            f", at most {memory:,.0f} MB of memory" if math.isfinite(memory) else ""
        )
        tiles.append(tile(_clock(seconds), words))
    return tiles


def _worth(found: Summary) -> str:
    """Return the monthly table, and what streaming features and retraining were worth."""
    months, models = found.months(), found.models()
    if not months or not models:
        return ""
    gains = {m: found.gain(m) for m in months if math.isfinite(found.gain(m))}
    words = ""
    if gains:
        least, most = min(gains, key=lambda m: gains[m]), max(gains, key=lambda m: gains[m])
        words = (
            "Streaming features, computed from events up to the instant of the request, changed "
            f"ROC-AUC by <b>{_signed(gains[least])}</b> ({_month(least)}) to "
            f"<b>{_signed(gains[most])}</b> ({_month(most)})"
        )
        whole = found.gain(ALL)
        words += f", <b>{_signed(whole)}</b> over all. " if math.isfinite(whole) else ". "
    words += (
        "The frozen model is the first one, never retrained: what retraining repairs shows in cost "
        "and calibration."
    )
    shown = [m for m in ("auc", "cost", "calibration_error") if found.mapping(m)]
    rows = [_month_row(found, month, shown, models, gains) for month in months]
    if any(math.isfinite(found.metric(metric, models[0], ALL)) for metric in shown):
        rows.append(_month_row(found, ALL, shown, models, {**gains, ALL: found.gain(ALL)}))
    over = '<tr><th colspan="2"></th>' if found.mapping("base_rate") else "<tr><th></th>"
    head = ["Month", *(["Base rate"] if found.mapping("base_rate") else [])]
    for metric in shown:
        title = {"auc": "ROC-AUC", "cost": "Cost per prediction"}.get(metric, "Calibration error")
        held = [_short(model) for model in models]
        held += ["gain"] if metric == "auc" and gains else []
        over += f'<th colspan="{len(held)}">{title}</th>'
        head += held
    body = table(head, rows, total=rows[-1][0] == "All", over=f"{over}</tr>")
    note = (
        '<p class="note">ours: the system as it ran. frozen: its first model. no streaming: the '
        "same model without streaming features, trained on the same occasions. The gain is ours "
        "less no streaming. The best of each group is coloured.</p>"
    )
    return section("What streaming features and retraining are worth", words, body, note)


def _month_row(
    found: Summary,
    month: str,
    metrics: Sequence[str],
    models: Sequence[str],
    gains: Mapping[str, float],
) -> list[str]:
    row = ["All" if month == ALL else _month(month)]
    if found.mapping("base_rate"):
        rate = number(found.mapping("base_rate").get(month))
        row.append(f"{rate:.1%}" if math.isfinite(rate) else "")
    for metric in metrics:
        values = [found.metric(metric, model, month) for model in models]
        finite = [v for v in values if math.isfinite(v)]
        best = (max if metric == "auc" else min)(finite) if finite else math.nan
        row += [f"{'{best}' if v == best else ''}{_three(v)}" for v in values]
        if metric == "auc" and gains:
            row.append(_gain_cell(gains.get(month, math.nan), gains))
    return row


def _gain_cell(gain: float, gains: Mapping[str, float]) -> str:
    if not math.isfinite(gain):
        return ""
    most = max((abs(g) for g in gains.values() if math.isfinite(g)), default=1.0) or 1.0
    width = max(1, round(abs(gain) / most * 44))
    loss = " loss" if gain < 0 else ""
    return f'{_signed(gain)}<i class="gain{loss}" style="width:{width}px"></i>'


def _quality(found: Summary) -> str:
    period = found.period()
    if period is None or not found.mapping("weekly"):
        return ""
    span, moves = Span(*period), found.moves()
    changes = marks(moves)
    pictures = ""
    for _, column, title, tells in QUALITY:
        lines = [
            Series(MODELS.get(model, model), f"s{index}", *_weekly(found, model, column))
            for index, model in enumerate(found.models())
            if found.rows("weekly", model)
        ]
        picture = line_chart(lines, span, title, _three, marks=changes)
        pictures += figure(title, picture, tells)
    entries = [
        (f"s{index}", MODELS.get(model, model)) for index, model in enumerate(found.models())
    ]
    if any(mark.style == "up" for mark in changes):
        entries.append(("up", "promotion"))
    if any(mark.style == "down" for mark in changes):
        entries.append(("down", "rollback"))
    words = (
        "Each week is judged on its own predictions once their outcomes are known. Hover over a "
        "point for its numbers."
    )
    return section("Quality by week", words, legend(entries), pictures)


def _weekly(
    found: Summary, model: str, column: int
) -> tuple[list[tuple[datetime, float]], list[str]]:
    points, notes = [], []
    for row in found.rows("weekly", model):
        if not isinstance(row, Sequence) or len(row) <= column:
            continue
        at = instant(row[0])
        if at is not None:
            points.append((at, number(row[column])))
            rows = number(row[4]) if len(row) > 4 else math.nan
            notes.append(f" ({rows:,.0f} predictions)" if math.isfinite(rows) else "")
    return points, notes


def _rollouts(found: Summary) -> str:
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


def _drift(found: Summary) -> str:
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
    top = line_chart([strongest], span, "PSI", _two, marks=changes, limit=PSI_BOUND, floor=0)
    count = line_chart([many], span, "features", _whole, marks=changes, height=130, floor=0)
    words = (
        "Features of the last days against the training sketch of the model that answers, by the "
        f"population stability index; above {PSI_BOUND} (dashed) a shift is usually called major. "
        "A new champion brings a new reference, so the line falls where one is promoted."
    )
    return section(
        "Drift", words, figure("Strongest drift of any feature", top), figure("Features that drifted", count)
    )
