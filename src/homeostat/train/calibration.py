"""Calibration as a value: one monotone map from a model's score to a probability.

It is our own step after the model (converters of calibrated classifiers are wrong without saying
so), so the served graph and the offline evaluation read the same few numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import DeclarationError

__all__ = ["Isotonic", "Platt"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Platt:
    """Logistic calibration: 1 / (1 + exp(-(slope * score + intercept))).

    scikit-learn's `_SigmoidCalibration` has a_ = -slope and b_ = -intercept.

    >>> Platt(slope=2.0, intercept=-1.0).apply(np.array([0.5]))
    array([0.5])
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (isfinite(self.slope) and isfinite(self.intercept)):
            raise DeclarationError(
                "Platt calibration",
                f"slope {self.slope}, intercept {self.intercept}",
                "finite numbers",
                "fit it on scores that are not all alike",
            )

    def apply(self, scores: Floats) -> Floats:
        """Return the calibrated scores, float64[n]."""
        with np.errstate(over="ignore"):  # exp overflows to infinity, and 1 / infinity is right
            probability: Floats = 1.0 / (1.0 + np.exp(-(self.slope * scores + self.intercept)))
        return probability


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Piecewise linear calibration through (x, y), constant outside, as scikit-learn fits it.

    `x` rises strictly and `y` does not fall; `IsotonicRegression` keeps them as `X_thresholds_`
    and `y_thresholds_`.

    >>> Isotonic(x=(0.0, 1.0), y=(0.1, 0.3)).apply(np.array([-1.0, 0.5, 2.0]))
    array([0.1, 0.2, 0.3])
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __init__(self, x: Sequence[float], y: Sequence[float]) -> None:
        object.__setattr__(self, "x", tuple(map(float, x)))
        object.__setattr__(self, "y", tuple(map(float, y)))
        rises = all(a < b for a, b in zip(self.x, self.x[1:], strict=False))
        keeps = all(a <= b for a, b in zip(self.y, self.y[1:], strict=False))
        finite = all(map(isfinite, (*self.x, *self.y)))
        if not (0 < len(self.x) == len(self.y) and rises and keeps and finite):
            raise DeclarationError(
                "isotonic calibration",
                f"{len(self.x)} x and {len(self.y)} y in this order",
                "as many finite y as x, x rising, y not falling",
                "pass IsotonicRegression's X_thresholds_ and y_thresholds_",
            )

    def apply(self, scores: Floats) -> Floats:
        """Return the calibrated scores, float64[n]."""
        calibrated: Floats = np.interp(scores, self.x, self.y)
        return calibrated
