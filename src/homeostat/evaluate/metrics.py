"""The metrics a gate, guard or monitor may name, each defined for every input or NaN.

Labels are booleans, scores are probabilities of True, a row is decided True where its score is at
least the threshold. A metric whose definition divides by zero is NaN: it is undefined, not bad.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import HomeostatError
from homeostat.declare.models import METRICS, Requirements, check_metric
from homeostat.evaluate.calibration import calibration_error, relative_calibration_error

__all__ = [
    "Costs",
    "Counts",
    "ScoresRefused",
    "as_json",
    "auc",
    "average_precision",
    "brier",
    "check_scored",
    "counts",
    "evaluate",
    "log_loss",
    "metric",
    "slice_rows",
]

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

NAN = float("nan")


class ScoresRefused(HomeostatError, ValueError):
    """Scores and labels that no metric is defined for."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one false alarm and one miss cost, in any one unit."""

    false_positive: float
    false_negative: float

    @classmethod
    def of(cls, requirements: Requirements) -> Costs:
        """Return the declared costs."""
        return cls(requirements.false_positive_cost, requirements.false_negative_cost)


@dataclass(frozen=True, slots=True)
class Counts:
    """The confusion matrix at one threshold."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    def cost(self, costs: Costs) -> float:
        """Return the total cost of the wrong decisions."""
        return (
            self.false_positives * costs.false_positive
            + self.false_negatives * costs.false_negative
        )


def check_scored(scores: Floats, labels: Booleans) -> None:
    """Raise `ScoresRefused` unless there is one finite score per boolean label."""
    if labels.dtype != np.bool_ or scores.ndim != 1 or scores.shape != labels.shape:
        raise ScoresRefused(
            f"metrics: got scores {scores.dtype}{list(scores.shape)} and labels "
            f"{labels.dtype}{list(labels.shape)}; allowed: float64[n] and bool[n]; pass one score "
            "and one label per row."
        )
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ScoresRefused(
            f"metrics: the score of row {row} is {scores[row]}; allowed: finite numbers; leave "
            "out the rows that were answered without a model."
        )


def counts(scores: Floats, labels: Booleans, threshold: float) -> Counts:
    """Return the confusion matrix at a threshold.

    >>> counts(np.array([0.2, 0.7, 0.7]), np.array([True, True, False]), 0.5)
    Counts(true_positives=1, false_positives=1, false_negatives=1, true_negatives=0)
    """
    decided = scores >= threshold
    hits = int(np.count_nonzero(decided & labels))
    alarms = int(np.count_nonzero(decided))
    positives = int(np.count_nonzero(labels))
    return Counts(hits, alarms - hits, positives - hits, len(labels) - alarms - positives + hits)


def auc(scores: Floats, labels: Booleans) -> float:
    """Return the area under the ROC curve; a tie counts half. NaN unless both classes are there.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    positives = int(np.count_nonzero(labels))
    negatives = len(labels) - positives
    if not positives or not negatives:
        return NAN
    hits, alarms = _steps(scores, labels)
    # Twice the area of each trapezoid, in whole numbers: exact in any order of the rows.
    doubled = int(np.sum(np.diff(alarms, prepend=0) * (hits + np.append(0, hits[:-1]))))
    return doubled / (2 * positives * negatives)


def average_precision(scores: Floats, labels: Booleans) -> float:
    """Return the precision at each threshold, weighted by the recall it adds; NaN if none is True.

    >>> average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.8333333333333333
    """
    positives = int(np.count_nonzero(labels))
    if not positives:
        return NAN
    hits, alarms = _steps(scores, labels)
    return float(np.sum(np.diff(hits, prepend=0) * (hits / (hits + alarms)))) / positives


def _steps(scores: Floats, labels: Booleans) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return true and false positives at each distinct score as threshold, highest first."""
    order = np.argsort(-scores, kind="stable")
    ranked, truths = scores[order], labels[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(truths, dtype=np.int64)[ends]
    return hits, ends + 1 - hits


def log_loss(scores: Floats, labels: Booleans) -> float:
    """Return the mean negative log-likelihood; scores are kept 2.2e-16 away from 0 and 1.

    >>> round(log_loss(np.array([0.5, 0.5]), np.array([True, False])), 6)
    0.693147
    """
    if not len(labels):
        return NAN
    edge = np.finfo(np.float64).eps
    kept = np.clip(scores, edge, 1 - edge)
    return float(np.mean(-np.log(np.where(labels, kept, 1 - kept))))


def brier(scores: Floats, labels: Booleans) -> float:
    """Return the mean squared error of the probabilities.

    >>> brier(np.array([0.5, 1.0]), np.array([True, True]))
    0.125
    """
    return float(np.mean((scores - labels) ** 2)) if len(labels) else NAN


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else NAN


_DECIDED: Mapping[str, Callable[[Counts, Costs], float]] = {
    "accuracy": lambda c, _: _ratio(c.true_positives + c.true_negatives, _rows(c)),
    "precision": lambda c, _: _ratio(c.true_positives, c.true_positives + c.false_positives),
    "recall": lambda c, _: _ratio(c.true_positives, c.true_positives + c.false_negatives),
    "f1": lambda c, _: _ratio(
        2 * c.true_positives, 2 * c.true_positives + c.false_positives + c.false_negatives
    ),
    "cost": lambda c, costs: _ratio(c.cost(costs), _rows(c)),
}
"""Metrics of decisions; `cost` is per decision, so that spans and slices can be compared."""

_SCORED: Mapping[str, Callable[[Floats, Booleans], float]] = {
    "auc": auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
    "calibration_error": calibration_error,
    "relative_calibration_error": relative_calibration_error,
}


def _rows(c: Counts) -> int:
    return c.true_positives + c.false_positives + c.false_negatives + c.true_negatives


def metric(name: str, scores: Floats, labels: Booleans, threshold: float, costs: Costs) -> float:
    """Return one metric of `declare.models.METRICS`; NaN where it is undefined.

    Args:
        name: the metric.
        scores: float64[n], probabilities of True.
        labels: bool[n].
        threshold: scores at or above it are decided True.
        costs: of false alarms and misses, for "cost".

    >>> metric("recall", np.array([0.2, 0.7]), np.array([True, True]), 0.5, Costs(1, 1))
    0.5
    """
    check_metric(name, "metrics")
    check_scored(scores, labels)
    if name in _SCORED:
        return _SCORED[name](scores, labels)
    return _DECIDED[name](counts(scores, labels, threshold), costs)


def evaluate(scores: Floats, labels: Booleans, threshold: float, costs: Costs) -> dict[str, float]:
    """Return every metric by name, in the order of `METRICS`; undefined ones are NaN.

    >>> evaluate(np.array([0.2, 0.7]), np.array([False, True]), 0.5, Costs(1, 5))["cost"]
    0.0
    """
    check_scored(scores, labels)
    decided = counts(scores, labels, threshold)
    return {
        name: _SCORED[name](scores, labels) if name in _SCORED else _DECIDED[name](decided, costs)
        for name in METRICS
    }


def as_json(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics as JSON numbers; undefined ones are null.

    >>> as_json({"auc": float("nan"), "brier": 0.25})
    {'auc': None, 'brier': 0.25}
    """
    return {name: None if np.isnan(value) else float(value) for name, value in metrics.items()}


def slice_rows(values: Sequence[object]) -> dict[str | None, NDArray[np.int64]]:
    """Return the row numbers of each distinct value, values in text order, missing last.

    >>> {name: rows.tolist() for name, rows in slice_rows(["b", None, "a", "b"]).items()}
    {'a': [2], 'b': [0, 3], None: [1]}
    """
    texts = [None if value is None else str(value) for value in values]
    names = sorted({text for text in texts if text is not None})
    places = {name: place for place, name in enumerate(names)}
    codes = np.array([len(names) if t is None else places[t] for t in texts], np.int64)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 2))
    groups = {
        name: order[bounds[place] : bounds[place + 1]] for place, name in enumerate([*names, None])
    }
    return {name: rows for name, rows in groups.items() if len(rows)}
