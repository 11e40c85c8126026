"""A package's features as plain JSON, and back into declarations that compute the same values.

A manifest holds the model's features in their order, the views they come from with their sources,
and the label whose request is asked. The user's own code is named by its hash: it is looked for in
the declarations of today. What comes back has the content hashes of what was written, so a view
finds the live state of that very definition.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import canonical_json, content_hash, plain
from homeostat.declare.aggregations import Aggregation
from homeostat.declare.expressions import Expression
from homeostat.declare.models import Label, Model, Requirements
from homeostat.declare.schema import Event, EventSchema, Field
from homeostat.declare.sources import Entity, EventSource
from homeostat.declare.system import System, model_inputs
from homeostat.declare.views import FeatureRef, FeatureView, OnDemand
from homeostat.features.code import Code, CodeGone

__all__ = [
    "Bound",
    "Lost",
    "ManifestInvalid",
    "NotKept",
    "as_manifest",
    "bind",
    "manifest_of",
    "names_of",
    "same_features",
    "view_of",
    "without",
]

Manifest = Mapping[str, Any]

_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Aggregation, Entity, EventSchema, Expression, FeatureRef, FeatureView, Field, Label,
    )
}  # fmt: skip

CLOCKS = ("event_id", "event_time", "revisions")
"""What of a source says which event is which and when it was: fields that cannot be two at once."""


class ManifestInvalid(HomeostatError):
    """A manifest that does not say what was written."""

    def __init__(self, part: str, found: str) -> None:
        super().__init__(
            f"feature manifest, {part}: found {found}; allowed: what a release up to this one "
            "wrote; rebuild the model from its lineage, or go back to the release that wrote it"
        )


@dataclass(frozen=True, slots=True)
class Lost:
    """One feature that cannot be computed under the present declarations, and what to do."""

    feature: str
    why: str
    advice: str


class NotKept(HomeostatError):
    """Features of a package that the present declarations cannot compute any more."""

    def __init__(self, model: str, lost: tuple[Lost, ...]) -> None:
        self.model, self.lost = model, lost
        named = "; ".join(f"feature {one.feature!r}: {one.why}" for one in lost[:4])
        more = f"; and {len(lost) - 4} more" if len(lost) > 4 else ""
        super().__init__(
            f"model {model!r}: its package cannot be given its features: {named}{more}; allowed: "
            f"the code and fields it was trained with; {lost[0].advice}"
        )


@dataclass(frozen=True, eq=False)
class Bound:
    """The declarations that a package's features are computed by: a model, in a system of its own.

    Where they are those of today, it is the system of today.
    """

    system: System
    model: Model

    @cached_property
    def views(self) -> tuple[FeatureView, ...]:
        """The views that are read."""
        return self.system.views_of(self.model)


def as_manifest(system: System, model: Model) -> dict[str, Any]:
    """Return the features of a model as JSON values."""
    return {
        "features": plain(model.features),
        "views": plain(system.views_of(model)),
        "label": plain(model.label),
    }


def manifest_of(declared: Manifest, model: str) -> Manifest | None:
    """Return the features of a model as the JSON of a whole system has them, None without it."""
    for body in declared.get("models", ()):
        if body["name"] == model:
            made = {"features": body["features"], "label": body["label"]}
            views = [v for v in declared["views"] if _of_view(made, v)]
            return {**made, "views": views}
    return None


def names_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of a manifest's features, in their order."""
    return tuple(map(_name, manifest["features"]))


def without(manifest: Manifest, names: Collection[str]) -> Manifest:
    """Return a manifest without the features of these names, and what only they need."""
    left = [feature for feature in manifest["features"] if _name(feature) not in names]
    made = {**manifest, "features": left}
    return {**made, "views": [view for view in manifest["views"] if _of_view(made, view)]}


def same_features(manifest: Manifest, system: System, model: Model) -> bool:
    """Whether a model's features are today what a manifest says, in its order.

    The request's event may have got other fields than those that the features need.
    """
    today = as_manifest(system, model)
    same = (manifest[part] == today[part] for part in ("features", "views"))
    return all(same) and bool(manifest["label"]["predicts"] == today["label"]["predicts"])


def bind(manifest: Manifest, system: System, model: Model) -> Bound:
    """Return declarations that compute the features of a manifest.

    Args:
        manifest: what `as_manifest` gave.
        system: the declarations of today: their code is run, their events are read.
        model: the model of that name today.

    Raises:
        NotKept: code, a field or a source that they need is another today, or gone.
    """
    if same_features(manifest, system, model):
        return Bound(system, model)
    code, lost = Code.of(system), list[Lost]()
    views = []
    for body in manifest["views"]:
        try:
            view = _checked(_decoded(body, code), body, "view")
        except CodeGone as gone:
            lost.extend(Lost(name, gone.why, gone.advice) for name in _of_view(manifest, body))
            continue
        views.append(view)
        lost.extend(_lost_view(view, system, _of_view(manifest, body)))
    features: list[Any] = []
    for body in manifest["features"]:
        try:
            features.append(_decoded(body, code))
        except CodeGone as gone:
            lost.append(Lost(_name(body), gone.why, gone.advice))
    if lost:
        raise NotKept(model.name, tuple(lost))
    label = _checked(_decoded(manifest["label"], code), manifest["label"], "label")
    bound = _model(model, tuple(features), label)
    sources = {s.name: s for s in (label.predicts, label.outcome, *(v.source for v in views))}
    own = System(system.name, sources=tuple(sources.values()), views=tuple(views), models=(bound,))
    _as_written(features, manifest["features"])
    lost.extend(_lost_fields(Bound(own, bound), model))
    if lost:
        raise NotKept(model.name, tuple(lost))
    return Bound(own, bound)


def _as_written(features: Iterable[Any], bodies: Iterable[Any]) -> None:
    """Give features the code hashes that were written down.

    A function's file may have been changed since this process has read it; then its text, which is
    hashed whenever a feature or a system is made, is not that of the function.
    """
    for feature, body in zip(features, bodies, strict=True):
        if isinstance(feature, OnDemand):
            object.__setattr__(feature, "code", body["code"])
            _as_written(feature.inputs, body["inputs"])


def view_of(body: Manifest, code: Code) -> FeatureView:
    """Return a view from its JSON; raise `CodeGone` if a summary of its own is not there."""
    made: FeatureView = _checked(_decoded(body, code), body, "view")
    return made


def _model(today: Model, features: tuple[FeatureRef | OnDemand | str, ...], label: Label) -> Model:
    """Return a model of these features; how it is trained is not asked of it."""
    costs = today.requirements
    return replace(
        today,
        features=features,
        label=label,
        transforms=(),
        requirements=Requirements(
            false_positive_cost=costs.false_positive_cost,
            false_negative_cost=costs.false_negative_cost,
        ),
    )


def _decoded(value: Any, code: Code) -> Any:
    """Return the declaration that JSON values stand for."""
    if isinstance(value, list):
        return tuple(_decoded(inner, code) for inner in value)
    if not isinstance(value, Mapping):
        return value
    kind = value.get("type")
    body = {key: inner for key, inner in value.items() if key != "type"}
    if kind == "OnDemand":
        inputs = tuple(_decoded(given, code) for given in body["inputs"])
        return OnDemand(body["name"], inputs, code.function(body["code"]))
    if kind == "EventSource":
        schema = _decoded(body.pop("schema"), code)
        event = cast("type[Event]", type(schema.name, (), {"schema": schema}))
        return EventSource(event=event, **{k: _decoded(v, code) for k, v in body.items()})
    own = body.pop("custom", None) if kind == "Aggregation" else None
    made = {key: _decoded(inner, code) for key, inner in body.items()}
    if own is not None:
        made["custom"] = code.summary(dict(made["options"])["code"], own)
    if kind == "Field":
        made["tags"] = frozenset(made["tags"])
    if kind not in _TYPES:
        raise ManifestInvalid("declaration", f"a {kind!r}")
    try:
        return _TYPES[kind](**made)
    except TypeError as other:
        raise ManifestInvalid(f"declaration of a {kind}", str(other)) from other


def _checked(made: Any, body: Any, part: str) -> Any:
    """Return a declaration that has the hash of what was written, or raise `ManifestInvalid`."""
    if canonical_json(made) != canonical_json(body):
        raise ManifestInvalid(
            f"{part} {made.name!r}", f"hash {content_hash(made)[:12]} for {content_hash(body)[:12]}"
        )
    return made


def _name(feature: Any) -> str:
    """Return the name of a feature of a manifest."""
    if isinstance(feature, str):
        return feature
    is_ref = feature["type"] == "FeatureRef"
    return f"{feature['view']}__{feature['feature']}" if is_ref else str(feature["name"])


def _of_view(manifest: Manifest, view: Any) -> list[str]:
    """Return the features that are made of a view."""

    def refers(feature: Any) -> bool:
        if isinstance(feature, str):
            return False
        if feature["type"] == "FeatureRef":
            return bool(feature["view"] == view["name"])
        return any(map(refers, feature["inputs"]))

    return [_name(feature) for feature in manifest["features"] if refers(feature)]


def _lost_view(view: FeatureView, system: System, features: list[str]) -> Iterator[Lost]:
    """Yield what of a view's source is not what it was."""
    today = next((s for s in system.sources if s.name == view.source.name), None)
    where = f"event source {view.source.name!r}"
    if today is None:
        for name in features:
            yield Lost(name, f"{where} is gone", f"declare {where} again")
        return
    changed = [
        f"{clock} was {getattr(view.source, clock)!r}"
        for clock in CLOCKS
        if getattr(view.source, clock) != getattr(today, clock)
    ]
    needed = {*view.entity.keys, view.source.event_id, view.source.event_time}
    conditions = filter(None, (view.condition, *(a.where for a in view.aggregations)))
    needed |= {name for condition in conditions for name in condition.columns()}
    needed |= {a.column for a in view.aggregations if a.column is not None}
    fields = _changed_fields(view.source.schema, today.schema, needed)
    advice = f"leave {where} as it was, and declare another one beside it"
    if not changed:
        advice = _leave_field(where)
    if changed or fields:
        for name in features:
            yield Lost(name, f"of {where}, {', '.join([*changed, *fields])}", advice)


def _changed_fields(then: EventSchema, now: EventSchema, needed: set[str]) -> list[str]:
    """Return what fields were that are another today; one that may be missing now is no other."""
    found = []
    for name in sorted(needed):
        before = then.field(name, then.name)
        after = now.field(name, now.name) if now.has(name) else None
        if after is None:
            found.append(f"field {name!r} is gone")
        elif (before.kind, before.default) != (after.kind, after.default):
            default = "" if before.default == after.default else _with_default(before)
            found.append(f"field {name!r} was a {before.kind}{default}")
    return found


def _leave_field(where: str) -> str:
    return (
        f"leave the field as it was in the event of {where} while a version in service reads it; "
        "new features may use another field beside it"
    )


def _with_default(field: Field) -> str:
    return " without default" if field.default is None else f" with default {field.default!r}"


def _lost_fields(bound: Bound, today: Model) -> Iterator[Lost]:
    """Yield what a request does not bring any more."""
    then, now = bound.model.label.predicts, today.label.predicts
    where = f"the request's event source {now.name!r}"
    for feature, name in zip(bound.model.features, bound.model.feature_names(), strict=True):
        one = replace(bound.model, features=(feature,))
        needed = {need for need in model_inputs(one) if isinstance(need, str)}
        for view in bound.system.views_of(one):
            needed |= {*view.entity.keys, *filter(None, [view.own_field(one.label.predicts)])}
        changed = _changed_fields(then.schema, now.schema, needed)
        if changed:
            yield Lost(name, f"of {where}, {', '.join(changed)}", _leave_field(where))
