"""Fits a declared estimator to encoded rows, to the same bits every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import HomeostatError, MissingExtra
from homeostat.declare.models import Estimator, Model
from homeostat.features.assemble import Features
from homeostat.train.dataset import Sample, TrainingRefused
from homeostat.train.encoding import CategoryEncoding, encode
from homeostat.train.export import export_onnx, native_scores
from homeostat.train.openmp import wait_without_spinning
from homeostat.train.scoring import Scorer, check_parity

__all__ = ["EstimatorRefused", "Fitted", "fit"]

Floats = NDArray[np.float64]

STOPPING_ROUNDS = 50
"""Boosting stops after this many rounds without a better validation loss."""

FOLDS = 5
"""A training row's category is encoded from the other folds, so its own label is not in it."""

TRAIN_SCORES = 20_000
"""At most so many training rows are scored again, to tell what was learned by heart."""

MISSING = -1.0
"""The ordinal of a missing category, before the target encoder."""


class EstimatorRefused(HomeostatError, ValueError):
    """A declared estimator that cannot be made."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A fitted model and everything that serves it.

    `pipeline` is the scikit-learn Pipeline over ordinal categories; `encodings` and `graph` do the
    same work without it. `native` is LightGBM's own text (None for other estimators), `rounds` the
    number of trees kept by early stopping, `parity` the largest difference between the graph and
    the native model on the validation rows, `importance` each feature's share of the total gain.
    `validation_scores` are the graph's; `train_scores` are its scores of the training rows
    `train_rows`, evenly spaced and encoded as they were learned from (each without its own label):
    the near side of the overfitting gap.
    """

    names: tuple[str, ...]
    encodings: Mapping[str, CategoryEncoding]
    graph: bytes
    native: str | None
    rounds: int | None
    parity: float
    importance: Mapping[str, float]
    validation_scores: Floats
    train_rows: NDArray[np.int64]
    train_scores: Floats
    pipeline: Any = field(repr=False)

    def scores(self, features: Features) -> Floats:
        """Return the graph's score of each row, float64 (n,): what serving will answer."""
        return Scorer(self.graph).score(encode(features, self.names, self.encodings))


def fit(model: Model, train: Sample, validation: Sample, *, threads: int = 2) -> Fitted:
    """Fit a model's estimator; the same rows and seed give the same bits on any thread count.

    Categories become the smoothed rate of positives among the training rows that carry them
    (scikit-learn's TargetEncoder); categories never seen get the overall rate. Boosting by
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
    names = model.feature_names()
    transform = _transform(names, train.features, model.seed)
    ordinals = {name: _ordinals(given) for name, given in train.features.categories.items()}
    learned = transform.fit_transform(
        encode(train.features, names, ordinals), train.labels.astype(np.float64)
    )
    encodings = {name: _learned(name, transform, ordinals[name]) for name in ordinals}
    watched = encode(validation.features, names, encodings)
    estimator, rounds = _fit_estimator(
        model, (learned, train.labels), (watched, validation.labels), threads
    )
    graph = export_onnx(estimator)
    scorer = Scorer(graph)
    validation_scores = scorer.score(watched)
    native = native_scores(estimator, watched)
    parity = check_parity(native, validation_scores, where=f"model {model.name!r}")
    rows = np.linspace(0, len(train) - 1, min(len(train), TRAIN_SCORES), dtype=np.int64)
    from sklearn.pipeline import Pipeline

    return Fitted(
        names=names,
        encodings=encodings,
        graph=graph,
        native=_native_text(estimator),
        rounds=rounds,
        parity=parity,
        importance=_importance(estimator, names),
        validation_scores=validation_scores,
        train_rows=rows,
        train_scores=scorer.score(learned[rows]),
        pipeline=Pipeline([("categories", transform), ("estimator", estimator)]),
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


def _transform(names: Sequence[str], features: Features, seed: int) -> Any:
    """Return a ColumnTransformer that keeps the order of the columns."""
    from sklearn.compose import ColumnTransformer
    from sklearn.model_selection import KFold
    from sklearn.preprocessing import TargetEncoder

    steps: list[tuple[str, Any, list[int]]] = []
    for column, name in enumerate(names):
        if name in features.categories:
            folds = KFold(FOLDS, shuffle=True, random_state=seed)
            steps.append((name, TargetEncoder(target_type="continuous", cv=folds), [column]))
        elif steps and steps[-1][1] == "passthrough":
            steps[-1][2].append(column)
        else:
            steps.append((f"numbers_{column}", "passthrough", [column]))
    return ColumnTransformer(steps, sparse_threshold=0.0)


def _ordinals(categories: Sequence[str | None]) -> CategoryEncoding:
    seen = sorted({category for category in categories if category is not None})
    return CategoryEncoding(
        {category: float(i) for i, category in enumerate(seen)}, missing=MISSING, unseen=np.nan
    )


def _learned(name: str, transform: Any, ordinals: CategoryEncoding) -> CategoryEncoding:
    """Read one fitted TargetEncoder as plain data."""
    encoder = transform.named_transformers_[name]
    unseen = float(encoder.target_mean_)
    rates = dict(zip(encoder.categories_[0].tolist(), encoder.encodings_[0].tolist(), strict=True))
    return CategoryEncoding(
        {category: rates[ordinal] for category, ordinal in ordinals.codes.items()},
        missing=rates.get(MISSING, unseen),
        unseen=unseen,
    )


def _fit_estimator(
    model: Model,
    train: tuple[Floats, NDArray[np.bool_]],
    watched: tuple[Floats, NDArray[np.bool_]],
    threads: int,
) -> tuple[Any, int | None]:
    parameters = dict(model.estimator.parameters)
    if model.estimator.target.partition(":")[0].partition(".")[0] != "lightgbm":
        estimator = _make(model, parameters)
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=model.seed)
        return estimator.fit(*train), None
    rounds = int(str(parameters.pop("early_stopping_rounds", STOPPING_ROUNDS)))
    fixed = {
        "random_state": model.seed,
        "deterministic": True,
        "force_row_wise": True,
        "n_jobs": threads,
        "verbosity": -1,
    }
    estimator = _make(model, parameters | fixed)
    import lightgbm

    stopping = lightgbm.early_stopping(rounds, verbose=False)
    estimator.fit(*train, eval_X=watched[0], eval_y=watched[1], callbacks=[stopping])
    return estimator, int(estimator.best_iteration_ or estimator.n_estimators_)


def _make(model: Model, parameters: Mapping[str, object]) -> Any:
    estimator: Estimator = model.estimator
    module, _, name = estimator.target.partition(":")
    where = f"model {model.name!r}, estimator {estimator.target!r}"
    try:
        kind = getattr(import_module(module), name)
    except ModuleNotFoundError as missing:
        raise MissingExtra(where, module.partition(".")[0]) from missing
    except AttributeError as unknown:
        raise EstimatorRefused(
            f"{where}: module {module!r} has no {name!r}; allowed: a scikit-learn compatible "
            "class; write 'lightgbm:LGBMClassifier'."
        ) from unknown
    try:
        return kind(**parameters)
    except TypeError as wrong:
        raise EstimatorRefused(
            f"{where}: {wrong}; allowed: parameters of {name}; correct the declaration."
        ) from wrong


def _native_text(estimator: Any) -> str | None:
    """Return LightGBM's trees as text, without the parameters (they name the thread count)."""
    if not hasattr(estimator, "booster_"):
        return None
    text: str = estimator.booster_.model_to_string()
    return text.partition("\nparameters:")[0] + "\n"


def _importance(estimator: Any, names: Sequence[str]) -> dict[str, float]:
    if hasattr(estimator, "booster_"):
        gains = np.asarray(estimator.booster_.feature_importance("gain"), np.float64)
    elif hasattr(estimator, "feature_importances_"):
        gains = np.asarray(estimator.feature_importances_, np.float64)
    else:
        return {}
    total = float(gains.sum())
    return {
        name: gain / total if total else 0.0
        for name, gain in zip(names, gains.tolist(), strict=True)
    }
