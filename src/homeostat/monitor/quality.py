"""How good the answers were, once the truth is known: by window, by week, by month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros, format_duration
from homeostat.core.errors import UnknownName
from homeostat.declare.models import METRICS
from homeostat.declare.monitors import Quality
from homeostat.evaluate.metrics import Costs, as_json, evaluate, metric
from homeostat.monitor.findings import Finding
from homeostat.serve.ports import UNASKED

__all__ = ["PERIODS", "PeriodQuality", "judge_quality", "logged_metrics", "quality_by"]

DECIDED = frozenset({"accuracy", "precision", "recall", "f1", "cost"})
"""Metrics of decisions; the others are of scores."""

PERIODS: Mapping[str, str] = {"week": "%G-W%V", "month": "%Y-%m", "day": "%Y-%m-%d"}
"""Periods by name, with the text that names one (weeks are ISO weeks; all in UTC)."""


@dataclass(frozen=True, slots=True)
class PeriodQuality:
    """The metrics of the predictions asked in one period, such as "2013-W18" or "2013-05".

    `positives` is the number of true labels; undefined metrics are NaN.
    """

    period: str
    rows: int
    positives: int
    metrics: Mapping[str, float] = field(hash=False)

    def as_json(self) -> dict[str, object]:
        """Return this quality as JSON values; undefined metrics are null."""
        return {
            "period": self.period,
            "rows": self.rows,
            "positives": self.positives,
            "metrics": as_json(self.metrics),
        }


def logged_metrics(matured: pl.DataFrame, costs: Costs) -> dict[str, float]:
    """Return every metric over labelled predictions, each decided by its own threshold.

    Args:
        matured: rows of the prediction log with `score`, `threshold` and `label`.
        costs: what a false alarm and a miss cost; `cost` is per prediction.
    """
    scores, decided, labels = _columns(matured)
    of_scores = evaluate(scores, labels, 0.5, costs)
    of_decisions = evaluate(decided, labels, 0.5, costs)
    return {name: (of_decisions if name in DECIDED else of_scores)[name] for name in METRICS}


def quality_by(period: str, matured: pl.DataFrame, costs: Costs) -> tuple[PeriodQuality, ...]:
    """Return the quality of each period with labelled predictions, oldest first.

    Args:
        period: "day", "week" or "month".
        matured: rows of the prediction log with `at`, `score`, `threshold` and `label`.
        costs: what a false alarm and a miss cost.
    """
    if period not in PERIODS:
        raise UnknownName("period", period, tuple(PERIODS), "quality")
    named = matured.sort("at", maintain_order=True).with_columns(
        pl.col("at").dt.strftime(PERIODS[period]).alias("_period")
    )
    return tuple(
        PeriodQuality(
            str(rows["_period"][0]),
            rows.height,
            int(rows["label"].sum()),
            logged_metrics(rows, costs),
        )
        for rows in named.partition_by("_period", maintain_order=True)
    )


UNTOUCHED = ("shadow_broken", "shadow_skipped", *UNASKED)
"""Marks of what became of the challenger: the champion's answer is none the worse for them."""


def judge_quality(
    monitor: Quality, matured: pl.DataFrame, version: int, baseline: float | None, now: Micros
) -> Finding:
    """Return the finding about the serving version's answers whose labels became final of late.

    Args:
        monitor: the declared metric, bound, window and rows.
        matured: labelled rows of the prediction log, any span. Judged are those that `version`
            answered, undegraded, and whose label became final in `[now - window, now)`: the
            window counts from the end of the label's delay, so that it is never too short for it.
        version: the champion.
        baseline: the metric on the test span of that version; None or NaN if it was undefined.
        now: the instant of judging, in microseconds.
    """
    name, watched = monitor.model.name, monitor.metric
    span = format_duration(monitor.window_us)
    detail = f"{watched}/{span}"
    first = now - monitor.window_us - monitor.model.label.delay_us
    rows = matured.filter(
        (pl.col("at") >= from_micros(first))
        & (pl.col("version") == version)
        & (
            pl.col("degraded").str.split(",").list.set_difference(list(UNTOUCHED)).list.join(",")
            == ""
        )
    )
    evidence: dict[str, object] = {
        "metric": watched,
        "version": version,
        "rows": rows.height,
        "worse_by": monitor.worse_by,
        "window_us": monitor.window_us,
    }
    if rows.height < monitor.rows:
        reason = f"{watched} has {rows.height} of {monitor.rows} labelled predictions"
        return Finding("quality", name, "not judged", reason, evidence, detail)
    found = _one(watched, rows, Costs.of(monitor.model.requirements))
    if baseline is None or isnan(baseline) or isnan(found):
        reason = f"{watched} is undefined at the gates or on {rows.height} labelled predictions"
        return Finding("quality", name, "not judged", reason, evidence, detail)
    worse = baseline - found if METRICS[watched] else found - baseline
    evidence |= {"found": found, "baseline": baseline, "worse": worse}
    side = "worse" if worse > 0 else "better"
    reason = (
        f"{watched} {found:.4g} over {rows.height} labelled predictions of {span} is "
        f"{abs(worse):.4g} {side} than the {baseline:.4g} at the gates of version {version} "
        f"(bound {monitor.worse_by:g})"
    )
    decayed = worse > monitor.worse_by
    return Finding("quality", name, "found" if decayed else "clear", reason, evidence, detail)


def _one(name: str, rows: pl.DataFrame, costs: Costs) -> float:
    scores, decided, labels = _columns(rows)
    return metric(name, decided if name in DECIDED else scores, labels, 0.5, costs)


def _columns(
    matured: pl.DataFrame,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return scores, decisions as 1.0 or 0.0, and labels; (n,) each."""
    scores = matured["score"].to_numpy()
    decided = (scores >= matured["threshold"].to_numpy()).astype(np.float64)
    return scores, decided, matured["label"].to_numpy()
