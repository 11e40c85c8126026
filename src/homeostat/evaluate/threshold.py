"""The decision threshold that the declared costs ask for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homeostat.evaluate.metrics import Costs, ScoresRefused, check_scored

__all__ = ["Threshold", "choose_threshold"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Scores at or above `value` are decided True, at a mean `cost` per decision."""

    value: float
    cost: float


def choose_threshold(
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

    >>> choose_threshold(np.array([0.1, 0.4, 0.6]), np.array([False, True, True]), Costs(1, 5))
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
