"""What a replay came to: everything its report tells, computed from what the home holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from homeostat.core.clock import from_micros
from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.deploy.state import replayed
from homeostat.evaluate.metrics import Costs
from homeostat.features.audit import SkewAudit
from homeostat.features.folded import folded_offset
from homeostat.runtime.home import Home
from homeostat.runtime.replay import Schedule
from homeostat.runtime.review import Review, months
from homeostat.runtime.scoreboard import scoreboard

__all__ = ["intake_counts", "peak_rss_mb", "summarize"]

PERCENTILES = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}

LISTED = 20
"""At most this many values that differ are listed; all are counted."""


def summarize(
    system: System, home: Home, schedule: Schedule, *, zone: str = "UTC", seconds: float = 0.0
) -> dict[str, Any]:
    """Return the summary of a replay as JSON values; undefined numbers are null.

    It is about the first deployed model. Every prediction is audited for skew, and its logged
    features are scored again by the model's rivals, a month at a time to bound the memory.

    Args:
        system: the declarations.
        home: where the replay left its logs; nothing in it is changed.
        schedule: of the replay; labels are those final at its end.
        zone: whose calendar gives months and days.
        seconds: how long the replay took, for the report.
    """
    model = system.deployments[0].model
    decisions = home.journal.decisions(schedule.steps + 1)
    review = Review(system, home, model, decisions, schedule.end)
    for month in months(home.predictions.frames(model.name, until=schedule.end), zone):
        review.add(month)
    return {
        "system": system.name,
        "model": model.name,
        "period": {"start": _iso(schedule.start), "end": _iso(schedule.end)},
        "seconds": seconds,
        "peak_rss_mb": peak_rss_mb(),
        **_skew(review.skew),
        **_answered(review, model, schedule, zone),
        "decisions": [{**d.as_json(), "at": _iso(d.at)} for d in decisions],
        "journal_hash": home.journal.hash(),
        "model_hashes": {f"{r.model}@{r.version}": r.hash for r in home.registry.list()},
        "rollout": _rollout(model.name, decisions),
        "drift": [list(row) for row in review.drift.rows],
        "importance": _importance(home, model, decisions),
        **_events(system, home),
        "commands": [],
    }


def peak_rss_mb() -> float:
    """Return the most memory this process has held so far, in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def intake_counts(system: System, home: Home) -> dict[str, dict[str, int]]:
    """Return what became of every record that was folded and flushed, by source.

    `accepted` includes `too_late`; with `duplicates` and `rejected` it adds up to the records.
    """
    refused = home.letters.counts()
    with home.store.reader() as reader:
        records = {s.name: folded_offset(reader, s.name) + 1 for s in system.sources}
    found = {}
    for source, total in records.items():
        late = home.lake.read(source, ["_too_late"])["_too_late"]
        rejected = sum(n for (name, _), n in refused.items() if name == source)
        found[source] = {
            "accepted": len(late),
            "duplicates": total - len(late) - rejected,
            "too_late": int(late.sum()),
            "rejected": rejected,
        }
    return found


def _skew(found: SkewAudit) -> dict[str, Any]:
    return {
        "skew_predictions": found.predictions,
        "skew_compared": found.compared,
        "skew_different": found.different,
        "skew_bound": found.bound,
        "skew_causes": dict(found.causes),
        "skew_lagging": found.lagging,
        "skew_differing": [
            [d.prediction_id, d.feature, _finite(d.logged), _finite(d.recomputed), d.cause]
            for d in found.differing[:LISTED]
        ],
    }


def _answered(review: Review, model: Model, schedule: Schedule, zone: str) -> dict[str, Any]:
    """Return how many answers there were, by whom, how fast and how good."""
    answers = review.answers()
    if answers is None:
        return {"predictions": 0, "labels_not_final": 0}
    final = answers.filter(pl.col("label").is_not_null())
    costs = Costs.of(model.requirements)
    start = from_micros(schedule.start).astimezone(ZoneInfo(zone))
    by_arm = answers.group_by("arm").len().sort("arm").rows()
    causes = answers["degraded"].str.split(",").explode().value_counts().sort("degraded")
    return {
        "predictions": answers.height,
        "labels_not_final": answers.height - final.height,
        "answered_by": dict(by_arm),
        "degraded": {cause: n for cause, n in causes.rows() if cause},
        "latency": _latency(answers),
        "costs": {
            "false_positive": costs.false_positive,
            "false_negative": costs.false_negative,
        },
        **scoreboard(final, review.rivals.names, costs, start),
    }


def _latency(answers: pl.DataFrame) -> dict[str, dict[str, float | None]]:
    """Return percentiles of what an answer took, by component, in milliseconds."""
    found = {}
    for component in ("features", "model", "total"):
        times = answers[f"latency_{component}_us"].drop_nulls().to_numpy() / 1000
        found[component] = {
            name: float(np.quantile(times, q)) if times.size else None
            for name, q in PERCENTILES.items()
        }
    return found


def _rollout(model: str, decisions: Sequence[Decision]) -> list[list[Any]]:
    """Return rows of (instant, stage, version, share): when each version began each stage."""
    rows: list[list[Any]] = []
    for d in decisions:
        if d.model != model:
            continue
        if d.action in ("shadow", "canary", "blue_green"):
            rows.append([_iso(d.at), d.action, d.version, d.evidence["share"]])
        elif d.action == "promote":
            rows.append([_iso(d.at), "champion", d.version, 1.0])
        elif d.action == "rollback":
            rows.append([_iso(d.at), "rollback", d.version, 0.0])
    return rows


def _importance(home: Home, model: Model, decisions: Sequence[Decision]) -> list[list[Any]]:
    """Return each feature's share of the last champion's gain, the largest first."""
    state = replayed(decisions).get(model.name)
    if state is None or state.champion is None:
        return []
    shares = home.registry.load(model.name, state.champion).importance
    return [[name, share] for name, share in sorted(shares.items(), key=lambda s: (-s[1], s[0]))]


def _events(system: System, home: Home) -> dict[str, Any]:
    quarantined: dict[str, dict[str, int]] = {}
    for (source, reason), number in home.letters.counts().items():
        quarantined.setdefault(source, {})[reason] = number
    return {"counts": intake_counts(system, home), "quarantined": quarantined}


def _iso(instant: Micros) -> str:
    return from_micros(instant).isoformat()


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
