"""Fits a declared estimator to encoded rows, to the same bits every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostat.declare.models import Model
from homeostat.features.assemble import Features
from homeostat.train.dataset import Sample, TrainingRefused
from homeostat.train.estimators import class_of, made, where_of
from homeostat.train.export import export_onnx, native_scores
from homeostat.train.inputs import Inputs
from homeostat.train.learn import learn
from homeostat.train.openmp import wait_without_spinning
from homeostat.train.overridden import SET
from homeostat.train.parameters import EstimatorRefused, check_parameters, lightgbm_names
from homeostat.train.scoring import Scorer, check_parity
from homeostat.train.target_rates import FOLDS

__all__ = ["EstimatorRefused", "Fitted", "fit"]

Floats = NDArray[np.float64]

STOPPING_ROUNDS = 50
"""Boosting stops after this many rounds without a better validation loss."""

TRAIN_SCORES = 20_000
"""At most so many training rows are scored again, to tell what was learned by heart."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A fitted model and everything that serves it.

    `inputs` turn features into the columns that `estimator` learned from; `graph` scores them
    without it. `native` is LightGBM's own text (None for other estimators), `rounds` the number of
    trees kept by early stopping, `parity` the largest difference between the graph and the native
    model on the validation rows, `importance` each feature's share of the total gain.
    `validation_scores` are the graph's; `train_scores` are its scores of the training rows
    `train_rows`, evenly spaced and encoded as they were learned from (each without its own label):
    the near side of the overfitting gap.
    """

    inputs: Inputs
    graph: bytes
    native: str | None
    rounds: int | None
    parity: float
    importance: Mapping[str, float]
    validation_scores: Floats
    train_rows: NDArray[np.int64]
    train_scores: Floats
    estimator: Any = field(repr=False)

    def scores(self, features: Features) -> Floats:
        """Return the graph's score of each row, float64 (n,): what serving will answer."""
        return Scorer(self.graph).score(self.inputs.matrix(features))


def fit(model: Model, train: Sample, validation: Sample, *, threads: int = 2) -> Fitted:
    """Fit a model's estimator; the same rows and seed give the same bits on any thread count.

    The model's transforms are learned from the training rows; a text without one becomes the
    smoothed rate of positives among the training rows that carry it. Boosting by
    LightGBM stops early on the validation rows, which nothing else learns from.

    Args:
        model: the declaration; its estimator, parameters and seed.
        train: the training rows.
        validation: the rows that stop the training.
        threads: how many threads may fit.

    Returns:
        The fitted model, exported and compared with its export on the validation rows.

    Raises:
        TrainingRefused: too few rows, or rows of one class only.
        EstimatorRefused: the estimator cannot be made as declared.
        ExportRefused, ParityFailed: the graph cannot score as the model does.
    """
    _check_rows(model, train, validation)
    wait_without_spinning()
    learned = learn(model, train)
    watched = learned.inputs.matrix(validation.features)
    estimator, rounds = _fit_estimator(
        model, (learned.matrix, train.labels), (watched, validation.labels), threads
    )
    graph = export_onnx(estimator)
    scorer = Scorer(graph)
    validation_scores = scorer.score(watched)
    native = native_scores(estimator, watched)
    parity = check_parity(native, validation_scores, where=f"model {model.name!r}")
    rows = np.linspace(0, len(train) - 1, min(len(train), TRAIN_SCORES), dtype=np.int64)
    return Fitted(
        inputs=learned.inputs,
        graph=graph,
        native=_native_text(estimator),
        rounds=rounds,
        parity=parity,
        importance=_importance(estimator, learned.inputs),
        validation_scores=validation_scores,
        train_rows=rows,
        train_scores=scorer.score(learned.matrix[rows]),
        estimator=estimator,
    )


def _check_rows(model: Model, train: Sample, validation: Sample) -> None:
    for part, sample, least in (("training", train, FOLDS), ("validation", validation, 1)):
        if len(sample) < least:
            raise TrainingRefused(
                f"model {model.name!r}",
                f"{len(sample)} {part} rows",
                f"at least {least}",
                "wait for more labelled rows, or shorten the spans of the split",
            )
    positives = int(train.labels.sum())
    if positives in (0, len(train)):
        raise TrainingRefused(
            f"model {model.name!r}",
            f"{positives} of {len(train)} training rows are positive",
            "both classes",
            "wait for more labelled rows, or check the label's value and when_absent",
        )


def _fit_estimator(
    model: Model,
    train: tuple[Floats, NDArray[np.bool_]],
    watched: tuple[Floats, NDArray[np.bool_]],
    threads: int,
) -> tuple[Any, int | None]:
    parameters, where = dict(model.estimator.parameters), where_of(model)
    if model.estimator.package != "lightgbm":
        estimator = made(model.estimator, parameters, where)
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=model.seed)
        return estimator.fit(*train), None
    kind = class_of(model.estimator, where)
    check_parameters(kind, parameters, where)
    given = lightgbm_names(kind, parameters)
    rounds = int(str(given.pop("early_stopping_round", STOPPING_ROUNDS)))
    fixed = {"random_state": model.seed, "n_jobs": threads, **SET}
    estimator = made(model.estimator, given | fixed, where)
    import lightgbm

    stopping = lightgbm.early_stopping(
        rounds,
        first_metric_only=bool(given.get("first_metric_only", False)),
        min_delta=float(str(given.get("early_stopping_min_delta", 0.0))),
        verbose=False,
    )
    estimator.fit(*train, eval_X=watched[0], eval_y=watched[1], callbacks=[stopping])
    return estimator, int(estimator.best_iteration_ or estimator.n_estimators_)


def _native_text(estimator: Any) -> str | None:
    """Return LightGBM's trees as text, without the parameters (they name the thread count)."""
    if not hasattr(estimator, "booster_"):
        return None
    text: str = estimator.booster_.model_to_string()
    return text.partition("\nparameters:")[0] + "\n"


def _importance(estimator: Any, inputs: Inputs) -> dict[str, float]:
    if hasattr(estimator, "booster_"):
        gains = np.asarray(estimator.booster_.feature_importance("gain"), np.float64)
    elif hasattr(estimator, "feature_importances_"):
        gains = np.asarray(estimator.feature_importances_, np.float64)
    else:
        return {}
    total = float(gains.sum())
    by_feature = inputs.by_feature(gains[None, :])[0].tolist()
    return {
        name: gain / total if total else 0.0
        for name, gain in zip(inputs.names, by_feature, strict=True)
    }
