"""Whether probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ReliabilityBin", "calibration_error", "relative_calibration_error", "reliability"]

BINS = 10


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Rows of similar score: `rate` of them are True, `mean_score` is what the model said."""

    rows: int
    lowest: float
    highest: float
    mean_score: float
    rate: float


def reliability(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """Return the reliability table over bins of about equal mass, lowest scores first.

    Rows of the same score are never parted, so the table does not depend on the order of the
    rows; with many ties there are fewer bins.

    Args:
        scores: float64[n], probabilities of True.
        labels: bool[n].
        bins: the largest number of bins.

    >>> table = reliability(np.array([0.1, 0.3, 0.8, 0.8]), np.array([0, 0, 1, 0], bool), bins=2)
    >>> [(b.rows, b.mean_score, b.rate) for b in table]
    [(2, 0.2, 0.0), (2, 0.8, 0.5)]
    """
    if not len(scores):
        return ()
    order = np.argsort(scores, kind="stable")
    ranked, truths = scores[order], labels[order]
    # A row's bin is given by the rank of the first row with the same score.
    first = np.searchsorted(ranked, ranked, side="left")
    starts = np.flatnonzero(np.diff(first * bins // len(ranked), prepend=-1))
    rows = np.diff(starts, append=len(ranked))
    means = np.add.reduceat(ranked, starts) / rows
    rates = np.add.reduceat(truths.astype(np.int64), starts) / rows
    lowest, highest = ranked[starts], ranked[starts + rows - 1]
    # A mean lies between its extremes; the rounded sum of equal scores may not.
    means = np.clip(means, lowest, highest)
    columns = (rows, lowest, highest, means, rates)
    return tuple(ReliabilityBin(*row) for row in zip(*(c.tolist() for c in columns), strict=True))


def calibration_error(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], bins: int = BINS
) -> float:
    """Return the expected calibration error over the bins of `reliability`; NaN without rows.

    That is the mean of |share of True - mean score| over the bins, weighted by their rows.

    >>> calibration_error(np.array([0.5, 0.5]), np.array([True, False]))
    0.0
    """
    table = reliability(scores, labels, bins)
    if not table:
        return float("nan")
    return sum(b.rows * abs(b.rate - b.mean_score) for b in table) / len(scores)


def relative_calibration_error(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], bins: int = BINS
) -> float:
    """Return the calibration error over the share of True labels; NaN where none is True.

    An error of 0.009 is nothing where one row in five is True, and more than all there is where
    one in two hundred is. Chance alone gives about 0.8 * sqrt(bins / true rows).

    >>> scores, labels = np.array([0.5, 0.5, 0.5, 0.5]), np.array([True, False, False, False])
    >>> calibration_error(scores, labels), relative_calibration_error(scores, labels)
    (0.25, 1.0)
    """
    positives = int(np.count_nonzero(labels))
    if not positives:
        return float("nan")
    return calibration_error(scores, labels, bins) * len(labels) / positives
