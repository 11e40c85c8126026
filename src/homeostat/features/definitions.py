"""What each feature of a model is: its meaning, its code, and what it is computed with.

A prediction carries the digest of these, so that an audit knows under which ones it was made. The
meaning of a feature leaves out what is judged by itself: the code of functions and summaries, the
lateness of its source, and fields of the source that it does not look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

from homeostat.core.durations import Micros
from homeostat.core.hashing import content_hash
from homeostat.declare.models import Model
from homeostat.declare.schema import EventSchema
from homeostat.declare.system import System
from homeostat.declare.views import FeatureRef, FeatureView, OnDemand

__all__ = ["LIBRARIES", "Definition", "Definitions", "views_behind"]

LIBRARIES = ("homeostat", "numba", "numpy", "polars")
"""The packages that compute features, so whose versions can change a value."""

Feature = FeatureRef | OnDemand | str


@dataclass(frozen=True, slots=True)
class Definition:
    """Hashes of what one feature means, and of the code it runs (empty: none of the user's)."""

    meaning: str
    code: str


@dataclass(frozen=True)
class Definitions:
    """The features of one model, in its order, and what their values depend on besides events.

    `lateness` is in microseconds by source, `libraries` the installed versions.
    """

    features: Mapping[str, Definition]
    lateness: Mapping[str, Micros]
    libraries: Mapping[str, str]

    @classmethod
    def of(cls, system: System, model: Model) -> Definitions:
        """Return the definitions of a model's features as they are declared and installed now."""
        return cls(
            {
                name: Definition(
                    content_hash(_meaning(system, model, feature)),
                    content_hash(code) if (code := _code(system, feature)) else "",
                )
                for name, feature in zip(model.feature_names(), model.features, strict=True)
            },
            {view.source.name: view.source.lateness_us for view in system.views_of(model)},
            {name: version(name) for name in LIBRARIES},
        )

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the definitions."""
        return content_hash(self.as_json())[:16]

    def as_json(self) -> dict[str, Any]:
        """Return the definitions as JSON types; the order of the features is part of them."""
        return {
            "features": [[name, d.meaning, d.code] for name, d in self.features.items()],
            "lateness": dict(self.lateness),
            "libraries": dict(self.libraries),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Definitions:
        """Return what `as_json` gave."""
        features = {name: Definition(meaning, code) for name, meaning, code in body["features"]}
        return cls(features, body["lateness"], body["libraries"])


def views_behind(feature: Feature) -> tuple[FeatureRef, ...]:
    """Return the view features that a feature is made of: itself, its inputs, or none."""
    return tuple(dict.fromkeys(_references(feature)))


def _references(feature: Feature) -> Iterator[FeatureRef]:
    if isinstance(feature, FeatureRef):
        yield feature
    elif isinstance(feature, OnDemand):
        for given in feature.inputs:
            yield from _references(given)


def _meaning(system: System, model: Model, feature: Feature) -> object:
    if isinstance(feature, str):
        return {"request": _field(model.label.predicts.schema, feature)}
    if isinstance(feature, OnDemand):
        return {"inputs": [_meaning(system, model, given) for given in feature.inputs]}
    return _view_meaning(system.view(feature.view), feature.feature)


def _field(schema: EventSchema, name: str) -> object:
    """Return what of a field decides values: its tags and earlier names do not."""
    found = schema.field(name, schema.name)
    return [found.name, found.kind, found.nullable, found.default]


def _view_meaning(view: FeatureView, name: str) -> object:
    spec = next(spec for spec in view.features() if spec.name == name)
    source = view.source
    fields = {*view.entity.keys, source.event_id, source.event_time, source.known_time, spec.column}
    for condition in filter(None, (view.condition, spec.where)):
        fields |= condition.columns()
    return {
        "keys": view.entity.keys,
        "source": source.name,
        "clocks": [source.event_id, source.event_time, source.known_time],
        "delay": source.delay_us,
        "clock_skew": source.clock_skew_us,
        "fields": [_field(source.schema, name) for name in sorted(filter(None, fields))],
        "condition": view.condition,
        "exclude_own": view.exclude_own,
        "feature": replace(spec, options=tuple(o for o in spec.options if o[0] != "code")),
    }


def _code(system: System, feature: Feature) -> tuple[str, ...]:
    """Return the hashes of the user's code that a feature runs, that of its inputs included."""
    if isinstance(feature, str):
        return ()
    if isinstance(feature, OnDemand):
        inner = (code for given in feature.inputs for code in _code(system, given))
        return (feature.code, *inner)
    specs = system.view(feature.view).features()
    options = next(spec for spec in specs if spec.name == feature.feature).options
    return tuple(str(value) for name, value in options if name == "code")
