"""From samples to a judged package: fit, choose the threshold, measure, judge, pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from homeostat.declare.models import METRICS, Model
from homeostat.evaluate.gates import Judgement, Scored, judge
from homeostat.evaluate.metrics import Costs, as_json, evaluate
from homeostat.evaluate.reasons import reasons_gate
from homeostat.evaluate.threshold import choose_threshold
from homeostat.train.dataset import Sample
from homeostat.train.fit import Fitted, fit
from homeostat.train.package import Origin, Package
from homeostat.train.servable import Servable

__all__ = ["Challenger", "Origin", "Rival", "Trial", "overfitting", "train_challenger"]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The three parts a model is trained, stopped and judged on, and the test rows' slices.

    `slices` holds the test rows' values of every request field that is sliced by.
    """

    train: Sample
    validation: Sample
    test: Sample
    slices: Mapping[str, Sequence[object]]


@dataclass(frozen=True, slots=True, eq=False)
class Rival:
    """The present model, and the test rows with the features that its own package defines."""

    servable: Servable
    test: Sample


@dataclass(frozen=True, slots=True, eq=False)
class Challenger:
    """A trained package, loaded, with what the gates found."""

    package: Package
    servable: Servable
    judgement: Judgement


def overfitting(train: Mapping[str, float], validation: Mapping[str, float]) -> dict[str, float]:
    """Return how much better each metric is on the training rows than on the validation rows.

    Positive means better on the rows that were learned from; NaN where either is undefined.

    >>> overfitting({"auc": 0.75, "brier": 0.1}, {"auc": 0.5, "brier": 0.1})
    {'auc': 0.25, 'brier': 0.0}
    """
    return {
        name: (1.0 if METRICS[name] else -1.0) * (value - validation[name]) + 0.0
        for name, value in train.items()
    }


def train_challenger(
    model: Model,
    trial: Trial,
    origin: Origin,
    champion: Rival | None = None,
    *,
    threads: int = 2,
) -> Challenger:
    """Train, measure and judge a challenger; the same arguments give the same package hash.

    The threshold is chosen on the validation rows; the test rows are only judged. The champion
    takes no part in the package, only in the judgement.

    Args:
        model: the declaration.
        trial: the samples.
        origin: what the package keeps about its making.
        champion: the present model, scored on the same test rows, with features of the same
            names; None if there is none, or if its features are others.
        threads: how many threads may fit.

    Returns:
        The package with its judgement; it is not registered, whether or not it passed.
    """
    fitted = fit(model, trial.train, trial.validation, threads=threads)
    costs = Costs.of(model.requirements)
    chosen = choose_threshold(fitted.validation_scores, trial.validation.labels, costs)
    threshold = chosen.value
    scores = fitted.scores(trial.test.features)
    rival = None
    if champion is not None:
        found = champion.servable.score(champion.test.features)
        rival = Scored(found, champion.servable.package.threshold)
    judgement = judge(model, Scored(scores, threshold), trial.test.labels, trial.slices, rival)
    metrics = {
        **_metrics(fitted, trial, judgement, costs),
        "threshold": chosen.as_json(),
    }
    package = Package.of(fitted, model.name, threshold, origin, metrics)
    servable = Servable(package)
    if model.requirements.explain:
        judgement = judgement.with_gate(reasons_gate(servable, trial.test))
    return Challenger(package, servable, judgement)


def _metrics(fitted: Fitted, trial: Trial, judgement: Judgement, costs: Costs) -> dict[str, Any]:
    truths = trial.train.labels
    learned = evaluate(fitted.train_scores, truths[fitted.train_rows], judgement.threshold, costs)
    watched = evaluate(
        fitted.validation_scores, trial.validation.labels, judgement.threshold, costs
    )
    found = judgement.as_json()
    return {
        "train": as_json(learned),
        "validation": as_json(watched),
        "overfitting": as_json(overfitting(learned, watched)),
        "test": {name: found[name] for name in ("rows", "metrics", "by_slice", "reliability")},
        "rounds": fitted.rounds,
        "parity": fitted.parity,
        "base_rate": int(np.count_nonzero(truths)) / len(truths),
    }
