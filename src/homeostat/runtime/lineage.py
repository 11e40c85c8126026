"""What every feature is and where it comes from, read from the declarations alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from homeostat.core.durations import format_duration
from homeostat.core.errors import UnknownName
from homeostat.core.hashing import content_hash
from homeostat.declare.aggregations import FeatureSpec
from homeostat.declare.expressions import Expression
from homeostat.declare.models import Model
from homeostat.declare.system import System, model_inputs
from homeostat.declare.views import FeatureRef, FeatureView, OnDemand
from homeostat.train.lineage import definition_hashes, view_definition

__all__ = ["Definition", "definition_of", "definitions"]

SHOWN = 12
"""Letters of a definition's hash that are shown."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One feature of a view, or one computed on demand.

    `fields` are the event's or the request's that its value is made of; `keys` those that say whose
    it is. `window` is a span, "all time", or "" for what is computed on demand, which has `inputs`
    instead. `condition` is what an event must meet. `hash` changes when a value may.
    """

    feature: str
    view: str
    text: str
    source: str
    entity: str
    keys: tuple[str, ...]
    fields: tuple[str, ...]
    inputs: tuple[str, ...]
    window: str
    hop: str
    condition: str
    hash: str
    models: tuple[str, ...]


def definitions(system: System) -> tuple[Definition, ...]:
    """Return every feature of a view, and every on-demand feature of a model.

    >>> from homeostat.testing.toy import toy_system
    >>> [found.text for found in definitions(toy_system())][2:4]
    ['sum(amount) over 1d', 'mean(amount) over 1d']
    """
    users: dict[str, list[str]] = {}
    for model in system.models:
        for name in _used(model):
            users.setdefault(name, []).append(model.name)
    found = [
        _of_view(view, spec, tuple(users.get(FeatureRef(view.name, spec.name).name, ())))
        for view in system.views
        for spec in view.features()
    ]
    computed: dict[str, Definition] = {}
    for model in system.models:
        hashes = definition_hashes(system, model)
        for feature in model.features:
            if isinstance(feature, OnDemand):
                users_of = tuple(users[feature.name])
                computed[feature.name] = _on_demand(model, feature, hashes[feature.name], users_of)
    return (*found, *computed.values())


def definition_of(system: System, feature: str) -> Definition:
    """Return one feature by name; raise `UnknownName` otherwise."""
    found = {one.feature: one for one in definitions(system)}
    if feature not in found:
        raise UnknownName("feature", feature, tuple(found), f"system {system.name!r}")
    return found[feature]


def _used(model: Model) -> Iterator[str]:
    """Yield the features that a model reads, those its on-demand features are made of included."""
    named = [need.name for need in model_inputs(model) if isinstance(need, FeatureRef)]
    named += [f.name for f in model.features if isinstance(f, OnDemand)]
    yield from dict.fromkeys(named)


def _of_view(view: FeatureView, spec: FeatureSpec, models: tuple[str, ...]) -> Definition:
    conditions = [part for part in (view.condition, spec.where) if part is not None]
    fields = {name for condition in conditions for name in condition.columns()}
    fields |= {spec.column} if spec.column is not None else set()
    if spec.column is None or spec.window is not None:
        fields.add(view.source.event_time)
    return Definition(
        feature=FeatureRef(view.name, spec.name).name,
        view=view.name,
        text=_text(view, spec),
        source=view.source.name,
        entity=view.entity.name,
        keys=view.entity.keys,
        fields=tuple(sorted(fields)),
        inputs=(),
        window="all time" if spec.window is None else format_duration(spec.window),
        hop=format_duration(spec.hop) if spec.hop else "",
        condition=_bare(*conditions)
        if len(conditions) == 1
        else " and ".join(map(str, conditions)),
        hash=content_hash(view_definition(view, spec.name))[:SHOWN],
        models=models,
    )


def _text(view: FeatureView, spec: FeatureSpec) -> str:
    given = [spec.column] if spec.column is not None else []
    given += [_bare(spec.where)] if spec.where is not None else []
    given += [f"{name}={value}" for name, value in spec.options]
    over = "all time" if spec.window is None else format_duration(spec.window)
    text = f"{spec.operation}({', '.join(given)}) over {over}"
    if spec.hop:
        text += f" every {format_duration(spec.hop)}"
    if view.condition is not None:
        text += f" where {_bare(view.condition)}"
    return text + ("" if view.exclude_own else " with the request's own")


def _bare(condition: Expression) -> str:
    """Return a condition without the brackets around the whole of it."""
    text, parts = str(condition), condition.arguments
    is_pair = len(parts) == 2 and text.startswith(f"({parts[0]} ") and text.endswith(f"{parts[1]})")
    return text[1:-1] if is_pair else text


def _on_demand(model: Model, feature: OnDemand, whole: str, models: tuple[str, ...]) -> Definition:
    inputs = tuple(given if isinstance(given, str) else given.name for given in feature.inputs)
    return Definition(
        feature=feature.name,
        view="",
        text=f"on demand from {', '.join(inputs)}",
        source="request",
        entity="",
        keys=(),
        fields=tuple(sorted(_fields(feature))),
        inputs=inputs,
        window="",
        hop="",
        condition="",
        hash=whole[:SHOWN],
        models=models,
    )


def _fields(feature: OnDemand) -> set[str]:
    """Return the request fields that an on-demand feature is made of."""
    found: set[str] = set()
    for given in feature.inputs:
        if isinstance(given, str):
            found.add(given)
        elif isinstance(given, OnDemand):
            found |= _fields(given)
    return found
