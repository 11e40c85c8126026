"""The smoothed rate of positives among the training rows that carry a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FOLDS", "Rates", "target_rates"]

Floats = NDArray[np.float64]

FOLDS = 5
"""A training row's value is encoded from the other folds, so its own label is not in it."""


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """`by_value` for rows to come, `overall` for values never seen; `column` for the training rows,
    float64 (n,), each from the folds it is not in."""

    by_value: Mapping[float, float]
    overall: float
    column: Floats


def target_rates(
    values: Floats, labels: NDArray[np.bool_], smooth: float | None, seed: int
) -> Rates:
    """Learn the rates of numbers that stand for values (scikit-learn's TargetEncoder).

    Args:
        values: float64 (n,), without NaN.
        labels: one per value.
        smooth: weight of the overall rate in rows; None leaves it to the variances.
        seed: of the folds.
    """
    from sklearn.model_selection import KFold
    from sklearn.preprocessing import TargetEncoder

    encoder = TargetEncoder(
        target_type="continuous",
        smooth="auto" if smooth is None else smooth,
        cv=KFold(FOLDS, shuffle=True, random_state=seed),
    )
    column = encoder.fit_transform(values[:, None], labels.astype(np.float64))[:, 0]
    known, rates = encoder.categories_[0].tolist(), encoder.encodings_[0].tolist()
    return Rates(
        dict(zip(known, rates, strict=True)),
        float(encoder.target_mean_),
        np.ascontiguousarray(column, np.float64),
    )
