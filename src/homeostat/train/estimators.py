"""Makes a declared estimator, and tells before any training what is wrong with the declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from homeostat.core.errors import HomeostatError
from homeostat.declare.models import Estimator, Model
from homeostat.train.export import ExportRefused, check_supported
from homeostat.train.overridden import overridden
from homeostat.train.parameters import EstimatorRefused, check_parameters, parameter_mistakes

__all__ = ["class_of", "estimator_mistakes", "made", "where_of"]

_DISTRIBUTIONS = {
    "sklearn": "scikit-learn", "imblearn": "imbalanced-learn", "lightgbm": "lightgbm",
    "xgboost": "xgboost", "catboost": "catboost",
}  # fmt: skip
"""What is installed under which name; of any other package only its author knows."""


def where_of(model: Model) -> str:
    """Return what errors call a model's estimator."""
    return f"model {model.name!r}, estimator {model.estimator.target!r}"


def estimator_mistakes(models: Iterable[Model]) -> Iterator[HomeostatError]:
    """Yield why estimators could not be trained and served, as far as no row is needed to tell.

    Each is imported and made. Its class must be there, its parameters among those it has and of the
    kinds it takes, and none that a training would not use. It must be one that a graph can score;
    where reasons are promised, one that has them.
    """
    for model in models:
        where = where_of(model)
        try:
            kind = class_of(model.estimator, where)
        except EstimatorRefused as refused:
            yield refused
            continue
        parameters = dict(model.estimator.parameters)
        mistakes = [
            *parameter_mistakes(kind, parameters, where),
            *overridden(kind, model, parameters, where),
        ]
        yield from mistakes
        if mistakes:
            continue
        try:
            estimator = made(model.estimator, parameters, where)
            _check_values(estimator, where)
            package = check_supported(estimator)
        except EstimatorRefused as refused:
            yield refused
            continue
        except ExportRefused as refused:
            yield EstimatorRefused(f"{where}: {refused}")
            continue
        if model.requirements.explain is True and package != "lightgbm":
            yield EstimatorRefused(
                f"{where}: explain=True, and it has no contributions of features to a score; "
                "allowed: an estimator of lightgbm, or explain=None; declare such an estimator, or "
                "leave explain out."
            )


def class_of(estimator: Estimator, where: str) -> Callable[..., Any]:
    """Return the class that an estimator names; raise `EstimatorRefused` if there is none."""
    module, _, name = estimator.target.partition(":")
    try:
        found = getattr(import_module(module), name)
    except ModuleNotFoundError as missing:
        package, asked = (missing.name or module).partition(".")[0], module.partition(".")[0]
        if missing.name != package:
            raise EstimatorRefused(
                f"{where}: no module {missing.name!r} in the package {package!r}; allowed: a "
                "module that can be imported; correct the declaration."
            ) from missing
        what = "" if package == asked else f", which {asked} imports"
        if package in _DISTRIBUTIONS:
            found, advice = "is not installed", f"pip install {_DISTRIBUTIONS[package]}"
        else:
            found = "is neither beside the system's file nor installed"
            advice = f"put {package}.py there, or install what holds it, or correct the name"
        raise EstimatorRefused(
            f"{where}: the package {package!r}{what} {found}; allowed: an estimator that can be "
            f"imported here; {advice}."
        ) from missing
    except AttributeError as unknown:
        raise EstimatorRefused(
            f"{where}: module {module!r} has no {name!r}; allowed: a scikit-learn compatible "
            "class; write 'lightgbm:LGBMClassifier'."
        ) from unknown
    if not callable(found):
        raise EstimatorRefused(
            f"{where}: it is a {type(found).__name__}; allowed: a scikit-learn compatible class; "
            "write 'lightgbm:LGBMClassifier'."
        )
    kind: Callable[..., Any] = found
    return kind


def made(estimator: Estimator, parameters: Mapping[str, object], where: str) -> Any:
    """Return an estimator of the declared class; raise `EstimatorRefused` if it takes them not."""
    kind = class_of(estimator, where)
    check_parameters(kind, parameters, where)
    try:
        return kind(**parameters)
    except (TypeError, ValueError) as wrong:
        raise EstimatorRefused(
            f"{where}: {wrong}; allowed: what {estimator.target.partition(':')[2]} takes; correct "
            "the declaration."
        ) from wrong


def _check_values(estimator: Any, where: str) -> None:
    """Raise `EstimatorRefused` for values that scikit-learn's own table of constraints refuses."""
    if not hasattr(estimator, "_parameter_constraints"):
        return
    try:
        estimator._validate_params()
    except (TypeError, ValueError) as wrong:
        raise EstimatorRefused(
            f"{where}: {wrong}; allowed: values of that kind; correct the declaration."
        ) from wrong
