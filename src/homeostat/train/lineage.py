"""Where a model came from: enough to train it again, and to say what changed if it differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any

from homeostat.core.durations import Micros
from homeostat.core.hashing import content_hash, plain
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.declare.views import FeatureRef, FeatureView, OnDemand

__all__ = ["LIBRARIES", "Lineage", "definition_hashes", "library_versions", "view_definition"]

LIBRARIES = ("homeostat", "lightgbm", "numpy", "onnx", "onnxruntime", "polars", "scikit-learn")
"""The packages whose versions can change a trained model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The declarations, data, instant and libraries of one training.

    `at` is the instant of training in microseconds, `tables` the lake version of each table read,
    `parts` describes the rows of train, validation and test.
    """

    system: str
    model: str
    at: Micros
    seed: int
    tables: Mapping[str, int]
    parts: Mapping[str, Any]
    libraries: Mapping[str, str]

    @classmethod
    def of(
        cls,
        system: System,
        model: Model,
        at: Micros,
        tables: Mapping[str, int],
        parts: Mapping[str, Any],
    ) -> Lineage:
        """Return the lineage of a model trained now from these declarations and tables."""
        return cls(
            system=system.hash,
            model=content_hash(model),
            at=at,
            seed=model.seed,
            tables=plain(tables),
            parts=plain(parts),
            libraries=library_versions(),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the lineage as JSON types."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}


def library_versions() -> dict[str, str]:
    """Return the installed version of every package that can change a trained model.

    >>> sorted(library_versions()) == sorted(LIBRARIES)
    True
    """
    return {name: version(name) for name in LIBRARIES}


def view_definition(view: FeatureView, feature: str) -> dict[str, object]:
    """Return everything that determines the values of one feature of a view."""
    return {
        "entity": view.entity,
        "source": view.source,
        "condition": view.condition,
        "exclude_own": view.exclude_own,
        "feature": next(spec for spec in view.features() if spec.name == feature),
    }


def definition_hashes(system: System, model: Model) -> dict[str, str]:
    """Return the hash of each feature's whole definition, by feature name.

    A view feature's definition is its aggregation with the view's entity, source, condition and
    own-event rule: the same hash means the same values from the same events.
    """
    request = model.label.predicts

    def definition(feature: FeatureRef | OnDemand | str) -> object:
        if isinstance(feature, str):
            return {"source": request.name, "field": request.schema.field(feature, model.name)}
        if isinstance(feature, OnDemand):
            return {"code": feature.code, "inputs": [definition(given) for given in feature.inputs]}
        return view_definition(system.view(feature.view), feature.feature)

    return {
        name: content_hash(definition(feature))
        for name, feature in zip(model.feature_names(), model.features, strict=True)
    }
