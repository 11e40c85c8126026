"""How the served answers and the rivals' compare: by month, by week, and by score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from math import isfinite
from typing import Any

import polars as pl

from homeostat.core.clock import to_micros
from homeostat.evaluate.calibration import reliability
from homeostat.evaluate.metrics import Costs
from homeostat.monitor.quality import logged_metrics, quality_by
from homeostat.runtime.rivals import threshold_of

__all__ = ["FINAL", "scoreboard"]

FINAL, ALL = "final", "all"
"""The answers as they were served; the whole period."""

METRICS = ("auc", "cost", "calibration_error")
BINS = 20
WEEK = timedelta(days=7)


def scoreboard(
    answers: pl.DataFrame, rivals: Sequence[str], costs: Costs, start: datetime
) -> dict[str, Any]:
    """Return the comparison as JSON values; undefined metrics are null.

    Args:
        answers: one row per logged prediction whose label is final, by instant: `at` (in the
            zone whose months are meant), `score`, `threshold`, `label`, and two columns per rival.
        rivals: their names.
        costs: of the declared requirements.
        start: weeks are counted from here.

    Returns:
        `auc`, `cost` and `calibration_error` by model and month ("all": the whole period),
        `base_rate` by month, `weekly` rows of (first day, the three metrics, rows) by model, and
        `reliability` rows of (mean score, share, rows) by model.
    """
    found: dict[str, Any] = {name: {} for name in (*METRICS, "weekly", "reliability")}
    found["base_rate"] = {}
    for model, rows in _models(answers, rivals):
        months = {p.period: p.metrics for p in quality_by("month", rows, costs)}
        months[ALL] = logged_metrics(rows, costs)
        for metric in METRICS:
            found[metric][model] = {month: _finite(m[metric]) for month, m in months.items()}
        found["weekly"][model] = [_week(week, rows, costs) for week, rows in _weeks(rows, start)]
        table = reliability(rows["score"].to_numpy(), rows["label"].to_numpy(), BINS)
        found["reliability"][model] = [[b.mean_score, b.rate, b.rows] for b in table]
        if model == FINAL:
            periods = quality_by("month", rows, costs)
            found["base_rate"] = {p.period: p.positives / p.rows for p in periods}
            found["base_rate"][ALL] = int(rows["label"].sum()) / rows.height
    return found


def _models(answers: pl.DataFrame, rivals: Sequence[str]) -> Iterator[tuple[str, pl.DataFrame]]:
    columns = {FINAL: ("score", "threshold"), **{r: (r, threshold_of(r)) for r in rivals}}
    for model, (score, threshold) in columns.items():
        rows = answers.select(
            "at", "label", score=pl.col(score), threshold=pl.col(threshold)
        ).filter(pl.col("score").is_not_nan())
        if rows.height:
            yield model, rows


def _weeks(rows: pl.DataFrame, start: datetime) -> Iterator[tuple[datetime, pl.DataFrame]]:
    begin, week = to_micros(start), WEEK // timedelta(microseconds=1)
    numbered = rows.with_columns(_week=(pl.col("at").dt.epoch("us") - begin) // week)
    for part in numbered.partition_by("_week", maintain_order=True):
        yield start + int(part["_week"][0]) * WEEK, part


def _week(begin: datetime, rows: pl.DataFrame, costs: Costs) -> list[Any]:
    metrics: Mapping[str, float] = logged_metrics(rows, costs)
    return [begin.date().isoformat(), *(_finite(metrics[name]) for name in METRICS), rows.height]


def _finite(value: float) -> float | None:
    return float(value) if isfinite(value) else None
