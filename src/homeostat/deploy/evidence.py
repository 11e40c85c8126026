"""Turns logged predictions and known labels into the evidence a rollout is judged on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.core.clock import from_micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.deployments import Deployment
from homeostat.declare.models import METRICS
from homeostat.deploy.guards import ArmEvidence, RolloutEvidence, promised_guard
from homeostat.deploy.state import RolloutState
from homeostat.evaluate.metrics import Costs, metric
from homeostat.serve.ports import UNASKED, Broken
from homeostat.serve.routing import Arm, Route

__all__ = ["NoRollout", "Observed", "arm_evidence"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_COLUMNS = (
    "prediction_id", "request_id", "arm", "score", "threshold", "degraded", "shadow_version",
    "shadow_score", "latency_total_us",
)  # fmt: skip


class NoRollout(HomeostatError):
    """Evidence about a challenger was asked for, and there is none."""

    def __init__(self, model: str, state: RolloutState) -> None:
        super().__init__(
            f"evidence of {model!r}: there is no challenger (stage {state.stage}); allowed: "
            "shadow, canary, blue_green; begin a rollout first."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """What was logged about a rollout.

    `predictions` are rows of the prediction log, at least those since the step began; `labels`
    have `prediction_id` (unique) and `label` (Boolean) of those whose label is final.
    `threshold` is the challenger's. `timed` says that latencies were measured, not on a virtual
    clock. `way_back_ready` says that the champion's package loads and scores.
    """

    predictions: pl.DataFrame
    labels: pl.DataFrame
    threshold: float
    timed: bool = False
    way_back_ready: bool = False


@dataclass(frozen=True, slots=True)
class _Answers:
    """One role's requests: n rows in each array; NaN is an unknown label or latency.

    `failed` rows are errors; signals other than the error rate are over the `clean` rows.
    """

    scores: Floats
    threshold: float
    labels: Floats
    failed: Bools
    clean: Bools
    latency_ms: Floats


def arm_evidence(
    deployment: Deployment, state: RolloutState, observed: Observed
) -> RolloutEvidence:
    """Return what champion and challenger did since the present step began.

    Each is judged by its own faults. In shadow both have the same requests: a fault of the
    challenger is that it gave no score, whatever became of the champion's answer, and a comparison
    is over the requests that both answered. In canary and blue-green each is judged on the
    requests that the draw gave it, also where another answered because it failed. Requests that
    lack a field which the challenger reads are evidence about neither, and are counted apart.
    `error_rate` is the share of faults; all other signals are over the requests that the version
    answered from whole features, the metrics over those whose label is final. Signals are those
    the guards name.
    """
    if state.challenger is None:
        raise NoRollout(deployment.model.name, state)
    labels = observed.labels.select("prediction_id", "label")
    frame = (
        observed.predictions.filter(pl.col("at") >= from_micros(state.since))
        .select("at", *_COLUMNS)
        .with_columns(pl.col("degraded").str.replace_all("(^|,)shadow_broken", ""))
        .join(labels, on="prediction_id", how="left", validate="m:1", maintain_order="left")
    )
    lacks = frame["degraded"].str.contains_any(list(UNASKED))
    unasked, frame = frame.filter(lacks).sort("at"), frame.filter(~lacks)
    beside = None
    if state.stage == "shadow":
        frame = frame.filter(pl.col("shadow_version") == state.challenger)
        ours, theirs = _shadowed(frame, observed.threshold)
        both = replace(ours, clean=theirs.clean)
        beside = _arm(deployment, state.challenger, both)
        beside = replace(beside, rows=int(theirs.clean.sum()))
    else:
        drawn = _drawn(deployment.model.name, state, frame)
        ours, theirs = _answered(frame.filter(drawn)), _answered(frame.filter(~drawn))
    champion = None
    if state.champion is not None:
        champion = _arm(deployment, state.champion, theirs)
    return RolloutEvidence(
        challenger=_arm(deployment, state.challenger, ours),
        champion=champion,
        beside=beside,
        timed=observed.timed,
        way_back_ready=observed.way_back_ready,
        unasked=unasked.height,
        unasked_at=unasked["at"].dt.epoch("us").to_list()[-1] if unasked.height else None,
    )


def _shadowed(frame: pl.DataFrame, threshold: float) -> tuple[_Answers, _Answers]:
    """Return challenger and champion on the same requests; the champion's clean are of both."""
    theirs = _answered(frame)
    shadow = _floats(frame["shadow_score"])
    failed = np.isnan(shadow)
    clean = ~failed & ~frame["degraded"].str.contains("store_down", literal=True).to_numpy()
    unmeasured = np.full(len(frame), np.nan)
    ours = _Answers(shadow, threshold, theirs.labels, failed, clean, unmeasured)
    return ours, replace(theirs, clean=clean & ~theirs.failed)


def _answered(frame: pl.DataFrame) -> _Answers:
    """Return the answers of the version that was to give them; it has one threshold."""
    failed = (frame["degraded"] != "").to_numpy()
    thresholds = _floats(frame["threshold"])[~failed]
    return _Answers(
        _floats(frame["score"]),
        float(thresholds[0]) if thresholds.size else 0.5,
        _floats(frame["label"].cast(pl.Int8)),
        failed,
        ~failed,
        _floats(frame["latency_total_us"]) / 1000,
    )


def _drawn(model: str, state: RolloutState, frame: pl.DataFrame) -> pl.Series:
    """Return which requests were the challenger's.

    Where a fallback answered, the arm in the log is the fallback: then the routing draw, a pure
    function of the request's id, is taken again.
    """
    broken = frame["degraded"].str.contains("challenger_broken", literal=True)
    ours = (frame["arm"] == "challenger") | broken
    unclear = (frame["degraded"] != "") & ~frame["arm"].is_in(["champion", "challenger"]) & ~broken
    if not unclear.any():
        return ours
    nobody = Arm(state.challenger or 0, Broken("only its draw is asked for"), 0.0)
    route = Route(challenger=nobody, share=state.share, salt=state.salt)
    again = [
        route.takes_challenger(model, name) if fallback else mine
        for name, fallback, mine in zip(frame["request_id"], unclear, ours, strict=True)
    ]
    return pl.Series(again, dtype=pl.Boolean)


def _arm(deployment: Deployment, version: int, answers: _Answers) -> ArmEvidence:
    known = answers.clean & ~np.isnan(answers.labels)
    signals = {
        guard.signal: _signal(deployment, guard.signal, answers, known)
        for guard in deployment.guards
    }
    promised = promised_guard(deployment)
    if promised is not None and not np.isnan(answers.latency_ms).all():
        signals[promised.signal] = _signal(deployment, promised.signal, answers, known)
    return ArmEvidence(version, len(answers.scores), int(known.sum()), signals)


def _signal(deployment: Deployment, name: str, answers: _Answers, known: Bools) -> float | None:
    """Return one signal of one version, None where it is undefined."""
    if name in METRICS:
        labels = answers.labels[known].astype(np.bool_)
        costs = Costs.of(deployment.model.requirements)
        return metric(name, answers.scores[known], labels, answers.threshold, costs)
    if name == "error_rate":
        return float(answers.failed.mean()) if answers.failed.size else None
    if name == "positive_rate":
        positive = answers.scores[answers.clean] >= answers.threshold
        return float(positive.mean()) if positive.size else None
    if name == "mean_score":
        scores = answers.scores[answers.clean]
        return float(scores.mean()) if scores.size else None
    times = answers.latency_ms[~np.isnan(answers.latency_ms)]
    return float(np.quantile(times, 0.99, method="inverted_cdf")) if times.size else None


def _floats(values: pl.Series) -> Floats:
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
