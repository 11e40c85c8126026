"""The gate of promised reasons: contributions of features add up to the scores they explain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from homeostat.evaluate.gates import GateResult
from homeostat.train.dataset import Sample
from homeostat.train.servable import Servable

__all__ = ["reasons_gate"]

ROWS = 100
"""At most so many of the first test rows are explained."""

TOLERANCE = 1e-6
"""Allowed difference between a score and what its contributions add up to."""


def reasons_gate(servable: Servable, test: Sample) -> GateResult:
    """Return whether each row has finite contributions whose sum is the log-odds of its score.

    Args:
        servable: the candidate, loaded as it would serve.
        test: the test rows.
    """
    texts = {name: values[:ROWS] for name, values in test.features.categories.items()}
    few = replace(test.features, matrix=test.features.matrix[:ROWS], categories=texts)
    rows = len(few.matrix)
    if not servable.explains:
        said = "explain=True, and the estimator has no contributions of features to a score"
        return _result(rows, None, f"{said}; declare one of lightgbm, or leave explain out")
    totals = servable.contributions(few).sum(axis=1)
    with np.errstate(over="ignore"):  # a score of 0
        apart = np.abs(1 / (1 + np.exp(-totals)) - servable.score(few))
    worst = float(np.max(apart, initial=0.0))
    said = f"explain=True: what features add is apart from the score by {worst:.3g} at most"
    found = worst if np.isfinite(worst) else None
    return _result(rows, found, f"{said}, over {rows} rows; {TOLERANCE:g} is allowed")


def _result(rows: int, found: float | None, sentence: str) -> GateResult:
    return GateResult(
        metric="reasons",
        comparison="at most",
        bound=TOLERANCE,
        found=found,
        champion=None,
        slice="",
        rows=rows,
        passed=found is not None and found <= TOLERANCE,
        skipped=False,
        sentence=sentence,
    )
