"""Sections on how good the predictions were: by month, by week, by score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from homeostat.console.bars import reliability
from homeostat.console.charts import Series, Span, line_chart
from homeostat.console.page import figure, legend, section, table
from homeostat.console.rollout import marks
from homeostat.console.summary import ALL, MODELS, Summary, instant, number
from homeostat.console.wording import month_name, percent, short_name, signed, three

__all__ = ["meaning", "quality", "worth"]

QUALITY = (
    ("auc", 1, "ROC-AUC by week", "how well late flights are told from others; more is better"),
    ("cost", 2, "Cost per prediction by week", "at the declared costs; less is better"),
    (
        "calibration_error",
        3,
        "Calibration error by week",
        "how far a score of 30% is from meaning 30%; less is better",
    ),
)
"""Metric, its column in `weekly`, the heading, and what it tells."""


def worth(found: Summary) -> str:
    """Return the monthly table, and what streaming features and retraining were worth."""
    months, models = found.months(), found.models()
    if not months or not models:
        return ""
    gains = {m: found.gain(m) for m in months if math.isfinite(found.gain(m))}
    words = ""
    if gains:
        least, most = min(gains, key=lambda m: gains[m]), max(gains, key=lambda m: gains[m])
        effect = "raised" if gains[least] > 0 else "changed"
        words = (
            "Streaming features, computed from events up to the instant of the request, "
            f"{effect} ROC-AUC by <b>{signed(gains[least])}</b> ({month_name(least)}) to "
            f"<b>{signed(gains[most])}</b> ({month_name(most)})"
        )
        whole = found.gain(ALL)
        words += f", <b>{signed(whole)}</b> over all. " if math.isfinite(whole) else ". "
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
        held = [short_name(model) for model in models]
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
    row = ["All" if month == ALL else month_name(month)]
    if found.mapping("base_rate"):
        rate = number(found.mapping("base_rate").get(month))
        row.append(percent(rate))
    for metric in metrics:
        values = [found.metric(metric, model, month) for model in models]
        finite = [v for v in values if math.isfinite(v)]
        best = (max if metric == "auc" else min)(finite) if finite else math.nan
        row += [f"{'{best}' if v == best else ''}{three(v)}" for v in values]
        if metric == "auc" and gains:
            row.append(_gain_cell(gains.get(month, math.nan), gains))
    return row


def _gain_cell(gain: float, gains: Mapping[str, float]) -> str:
    if not math.isfinite(gain):
        return ""
    most = max((abs(g) for g in gains.values() if math.isfinite(g)), default=1.0) or 1.0
    width = max(1, round(abs(gain) / most * 44))
    loss = ' class="loss"' if gain < 0 else ""
    return f'{signed(gain)}<span class="gain"><i{loss} style="width:{width}px"></i></span>'


def quality(found: Summary) -> str:
    """Return the weekly lines of every metric."""
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
        picture = line_chart(lines, span, title, three, marks=changes)
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


def meaning(found: Summary) -> str:
    """Return what scores meant: predicted against observed shares."""
    series = []
    for index, model in enumerate(found.models()):
        points = [
            (number(row[0]), number(row[1]), number(row[2]))
            for row in found.rows("reliability", model)
            if isinstance(row, Sequence) and len(row) >= 3
        ]
        points = [point for point in points if all(map(math.isfinite, point))]
        if points:
            series.append((MODELS.get(model, model), f"s{index}", points))
    picture = reliability(series, "Predicted against observed shares")
    words = (
        "Predictions with a like score, and how many of them came true. On the dashed diagonal a "
        "score means what it says; the larger a dot, the more predictions it stands for."
    )
    names = [(style, name) for name, style, _ in series]
    return section(
        "What a score means", words, legend(names) if picture else "", figure("", picture)
    )
