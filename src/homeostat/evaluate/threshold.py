"""The decision threshold that costs least on the validation rows, and how far they determine it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from homeostat.evaluate.metrics import Costs, ScoresRefused, check_scored

__all__ = ["Threshold", "choose_threshold"]

CONFIDENCE = 1.96
"""The interval reaches to the last thresholds that cost at most this many standard errors more than
the cheapest: about 95 of 100 such intervals hold the best one."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Scores at or above `value` are decided True, at a mean `cost` per validation row.

    `cheapest` is the threshold of the least cost on these rows, `least`; `low` and `high` bound
    the thresholds that these rows cannot tell from it (95 %); `ideal` is the one that
    probabilities would have, c_fp / (c_fp + c_fn).
    """

    value: float
    cost: float
    low: float
    high: float
    cheapest: float
    least: float
    ideal: float

    def as_json(self) -> dict[str, float]:
        """Return the threshold as JSON numbers."""
        return {field.name: float(getattr(self, field.name)) for field in fields(self)}


def choose_threshold(scores: Floats, labels: NDArray[np.bool_], costs: Costs) -> Threshold:
    """Return the threshold by the cost of false alarms and misses on the validation rows.

    Candidates are every distinct score and the next number above the highest one (decide never);
    the cheapest is the one of least cost, the highest of equal ones. Its exact place is mostly
    chance, and fits the base rate of these rows. So all thresholds between the lowest and the
    highest candidate whose cost cannot be told from the least are kept (95 %; the standard error is
    that of the paired difference, row by row), with those beyond that decide these rows as they do:
    down to the next lower score, or to 0, and up to 1. Of that interval the value nearest to
    `ideal` is taken, which is right for calibrated scores in any season (Elkan 2001, "The
    foundations of cost-sensitive learning", eq. 1).

    Args:
        scores: float64[n], n at least 1; the validation rows, never the test rows.
        labels: bool[n].
        costs: of one false alarm and one miss.

    Raises:
        ScoresRefused: no rows, or scores that are not finite.

    >>> scores, labels = np.array([0.1, 0.4, 0.6]), np.array([False, True, True])
    >>> found = choose_threshold(scores, labels, Costs(1, 5))
    >>> found.cheapest, found.least, round(found.ideal, 3), round(found.value, 3)
    (0.4, 0.0, 0.167, 0.167)
    """
    check_scored(scores, labels)
    if not len(scores):
        raise ScoresRefused(
            "threshold: got 0 rows; allowed: 1 or more; choose it on the validation rows."
        )
    ladder = _Ladder(scores, labels, costs)
    ideal = costs.false_positive / (costs.false_positive + costs.false_negative)
    best = int(np.argmin(ladder.cost))  # the first, so the highest, of equal ones
    above, error = ladder.above(best)
    low, high = ladder.reach(np.flatnonzero(above <= CONFIDENCE * error))
    value = min(max(ideal, low), high)
    return Threshold(
        value=value,
        cost=ladder.cost_of(value) / len(scores),
        low=low,
        high=high,
        cheapest=float(ladder.values[best]),
        least=float(ladder.cost[best]) / len(scores),
        ideal=ideal,
    )


class _Ladder:
    """All candidate thresholds, the highest first, with the total cost of deciding by each."""

    def __init__(self, scores: Floats, labels: NDArray[np.bool_], costs: Costs) -> None:
        order = np.argsort(-scores, kind="stable")
        ranked, truths = scores[order], labels[order]
        ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        self._rows, self._costs = len(ranked), costs
        self.values: Floats = np.append(np.nextafter(ranked[0], np.inf), ranked[ends])
        self._hits: Integers = np.append(0, np.cumsum(truths, dtype=np.int64)[ends])
        self._alarms: Integers = np.append(0, ends + 1) - self._hits
        misses = self._hits[-1] - self._hits
        self.cost: Floats = self._alarms * costs.false_positive + misses * costs.false_negative

    def cost_of(self, threshold: float) -> float:
        """Return the total cost of any threshold: that of the next candidate above it."""
        return float(self.cost[max(int(np.count_nonzero(self.values >= threshold)) - 1, 0)])

    def reach(self, likely: NDArray[np.intp]) -> tuple[float, float]:
        """Return the lowest and the highest threshold that decide as one of these candidates."""
        first, last = int(likely[0]), int(likely[-1])
        high = max(float(self.values[0]), 1.0) if first == 0 else float(self.values[first])
        if last == len(self.values) - 1:
            return min(float(self.values[last]), 0.0), high
        return float(np.nextafter(self.values[last + 1], np.inf)), high

    def above(self, best: int) -> tuple[Floats, Floats]:
        """Return how much more each candidate costs than the best one, and the standard error.

        Two thresholds decide the rows between them differently: a true one costs c_fn less or
        more, a false one c_fp, and all other rows cost the same under both.
        """
        truths = np.abs(self._hits - self._hits[best])
        others = np.abs(self._alarms - self._alarms[best])
        squares = truths * self._costs.false_negative**2 + others * self._costs.false_positive**2
        difference = self.cost - self.cost[best]
        return difference, np.sqrt(np.maximum(squares - difference**2 / self._rows, 0.0))
