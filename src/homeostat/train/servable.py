"""A package loaded for scoring: one code path for replay, server and evaluation."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import HomeostatError
from homeostat.features.assemble import Features
from homeostat.train.openmp import wait_without_spinning
from homeostat.train.package import Package
from homeostat.train.scoring import Scorer

__all__ = ["ExplanationRefused", "Servable"]

Floats = NDArray[np.float64]


class ExplanationRefused(HomeostatError):
    """The model has no exact contributions."""


class Servable:
    """Scores features with a package's graph; a row's score does not depend on its batch."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.names = package.features
        self._inputs = package.inputs
        self._scorer = Scorer(package.graph)

    def score(self, features: Features) -> Floats:
        """Return one score per row, float64 (n,)."""
        return self._scorer.score(self._inputs.matrix(features))

    def contributions(self, features: Features) -> Floats:
        """Return what each feature added to the score's log-odds, float64 (n, F + 1).

        The last column is the base value; a row adds up to the log-odds of its score (TreeSHAP).
        Where transforms made several columns of a feature, theirs are added up.

        Raises:
            ExplanationRefused: the estimator is not LightGBM's.
        """
        matrix = self._inputs.matrix(features)
        if not len(matrix):
            return np.empty((0, len(self.names) + 1))
        found = self._booster.predict(matrix, pred_contrib=True, num_threads=1)
        return self._inputs.by_feature(np.asarray(found, np.float64))

    @property
    def explains(self) -> bool:
        """Whether its estimator has contributions at all."""
        return self.package.native is not None

    @cached_property
    def _booster(self) -> Any:
        if self.package.native is None:
            raise ExplanationRefused(
                f"model {self.package.name!r}: its estimator has no tree contributions; allowed: "
                "lightgbm estimators; declare one, or leave explain=True out of its requirements."
            )
        wait_without_spinning()
        import lightgbm

        return lightgbm.Booster(model_str=self.package.native)
