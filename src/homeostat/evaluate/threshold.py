"""The decision threshold that the declared costs ask for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homeostat.evaluate.calibration import calibration_error
from homeostat.evaluate.metrics import Costs, ScoresRefused, check_scored

__all__ = ["CALIBRATED", "Threshold", "choose_threshold", "cost_threshold"]

CALIBRATED = 0.05
"""Scores with at most this calibration error are taken for probabilities."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Scores at or above `value` are decided True, at a mean `cost` per decision."""

    value: float
    cost: float


def choose_threshold(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], costs: Costs
) -> Threshold:
    """Return the threshold that the costs ask for.

    Calibrated scores are probabilities: a positive decision is the cheaper one from
    `c_fp / (c_fp + c_fn)` on (Elkan 2001, "The foundations of cost-sensitive learning", eq. 1), in
    any season. The threshold that was cheapest on the validation rows would fit their base rate,
    which moves; it is taken only where the scores are not calibrated.

    Args:
        scores: float64[n], n at least 1; the validation rows, never the test rows.
        labels: bool[n].
        costs: of one false alarm and one miss.

    Raises:
        ScoresRefused: no rows, or scores that are not finite.

    >>> scores, labels = np.full(4, 0.25), np.array([True, False, False, False])
    >>> choose_threshold(scores, labels, Costs(1, 3)).value
    0.25
    """
    cheapest = cost_threshold(scores, labels, costs)
    if calibration_error(scores, labels) > CALIBRATED:
        return cheapest
    value = costs.false_positive / (costs.false_positive + costs.false_negative)
    decided = scores >= value
    alarms = int(np.count_nonzero(decided & ~labels))
    misses = int(np.count_nonzero(~decided & labels))
    total = alarms * costs.false_positive + misses * costs.false_negative
    return Threshold(float(value), float(total) / len(scores))


def cost_threshold(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], costs: Costs
) -> Threshold:
    """Return the threshold with the least total cost of false alarms and misses on these rows.

    Candidates are every distinct score, and the next number above the highest one (decide never).
    Of equal costs, the highest threshold is chosen: the fewest alarms.

    Args:
        scores: float64[n], n at least 1; the validation rows, never the test rows.
        labels: bool[n].
        costs: of one false alarm and one miss.

    Raises:
        ScoresRefused: no rows, or scores that are not finite.

    >>> cost_threshold(np.array([0.1, 0.4, 0.6]), np.array([False, True, True]), Costs(1, 5))
    Threshold(value=0.4, cost=0.0)
    """
    check_scored(scores, labels)
    if not len(scores):
        raise ScoresRefused(
            "threshold: got 0 rows; allowed: 1 or more; choose it on the validation rows."
        )
    order = np.argsort(-scores, kind="stable")
    ranked, truths = scores[order], labels[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.append(0, np.cumsum(truths, dtype=np.int64)[ends])
    alarms = np.append(0, ends + 1) - hits
    total = alarms * costs.false_positive + (hits[-1] - hits) * costs.false_negative
    candidates = np.append(np.nextafter(ranked[0], np.inf), ranked[ends])
    best = int(np.argmin(total))  # the first, so the highest, of equal ones
    return Threshold(float(candidates[best]), float(total[best]) / len(scores))
