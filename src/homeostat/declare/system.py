"""The whole system as one value that checks itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from homeostat.core.errors import DeclarationError, HomeostatError, SystemInvalid, UnknownName
from homeostat.core.hashing import SAYS_ALL, UNSET_IS_UNSAID, content_hash
from homeostat.declare import mistakes as collected
from homeostat.declare.aggregations import SUMMARIES, Aggregation
from homeostat.declare.deployments import Deployment
from homeostat.declare.judgeable import never_judged
from homeostat.declare.models import Model
from homeostat.declare.monitors import Drift, Freshness, Quality, Rejections, Retrain, Skew
from homeostat.declare.names import table_mistakes, twins
from homeostat.declare.policies import Access, Erasure, Retention
from homeostat.declare.sources import EventSource
from homeostat.declare.views import FeatureRef, FeatureView, OnDemand

__all__ = ["System"]

Named = TypeVar("Named", EventSource, FeatureView, Model)


@dataclass(frozen=True, slots=True)
class System:
    """Everything that is declared; ends every `system.py`.

    `kept` names on-demand features, and aggregations by summaries of one's own, that no model
    declared here uses any more: a package in service that was trained with them runs them still.

    Raises `SystemInvalid` with every mistake found between the declarations.
    """

    name: str
    sources: tuple[EventSource, ...] = field(kw_only=True, metadata=SAYS_ALL)
    views: tuple[FeatureView, ...] = field(default=(), kw_only=True)
    models: tuple[Model, ...] = field(default=(), kw_only=True)
    deployments: tuple[Deployment, ...] = field(default=(), kw_only=True)
    monitors: tuple[Freshness | Rejections | Drift | Skew | Quality, ...] = field(
        default=(), kw_only=True
    )
    retraining: tuple[Retrain, ...] = field(default=(), kw_only=True)
    policies: tuple[Retention | Erasure | Access, ...] = field(default=(), kw_only=True)
    kept: tuple[OnDemand | Aggregation, ...] = field(
        default=(), kw_only=True, metadata=UNSET_IS_UNSAID
    )

    def __post_init__(self) -> None:
        collected.identifier("system", self.name)
        for part in (
            "sources", "views", "models", "deployments", "monitors", "retraining", "policies",
            "kept",
        ):  # fmt: skip
            object.__setattr__(self, part, collected.several(getattr(self, part)))
        waiting: list[object] = [*self.kept, *(f for model in self.models for f in model.features)]
        while waiting:
            feature = waiting.pop()
            if isinstance(feature, OnDemand):
                feature.read_code()
                waiting += feature.inputs
        found = list(self._mistakes())
        if found:
            collected.report(SystemInvalid(self.name, found))

    def _mistakes(self) -> Iterator[HomeostatError]:
        yield from _names_twice("event source", [s.name for s in self.sources])
        yield from table_mistakes([s.name for s in self.sources], [m.name for m in self.models])
        yield from _names_twice("view", [v.name for v in self.views])
        yield from _names_twice("model", [m.name for m in self.models])
        features = [ref for view in self.views for ref in view.all()]
        yield from _columns_twice([(ref.name, f"{ref.view}.{ref.feature}") for ref in features])
        for view in self.views:
            yield from _declared("event source", view.source, self.sources, f"view {view.name!r}")
        for model in self.models:
            yield from self._model_mistakes(model)
        for owner, model in self._model_users():
            yield from _declared("model", model, self.models, owner)
        for owner, source in self._source_users():
            yield from _declared("event source", source, self.sources, owner)
        for one in self.kept:
            if not (isinstance(one, OnDemand) or getattr(one, "custom", None) is not None):
                yield DeclarationError(
                    f"system {self.name!r}, kept",
                    f"a {type(one).__name__}",
                    "on-demand features, and aggregations by summaries of your own",
                    "name what packages in service still run",
                )
        deployed = [d.model.name for d in self.deployments]
        yield from _names_twice("deployment of model", deployed)
        yield from _names_twice("retraining of model", [r.model.name for r in self.retraining])
        kept = [p.source.name for p in self.policies if isinstance(p, Retention)]
        yield from _names_twice("retention of source", kept)
        yield from never_judged(self.monitors, self.deployments, self.retraining)

    def _model_users(self) -> Iterator[tuple[str, Model]]:
        for deployment in self.deployments:
            yield f"deployment of {deployment.model.name!r}", deployment.model
        for monitor in self.monitors:
            if not isinstance(monitor, Freshness | Rejections):
                yield f"{type(monitor).__name__.lower()} monitor", monitor.model
        for retrain in self.retraining:
            for model in (retrain.model, *retrain.companions):
                yield f"retraining of {retrain.model.name!r}", model

    def _source_users(self) -> Iterator[tuple[str, EventSource]]:
        for monitor in self.monitors:
            if isinstance(monitor, Freshness | Rejections):
                yield f"{type(monitor).__name__.lower()} monitor", monitor.source
        for policy in self.policies:
            sources = policy.sources if isinstance(policy, Access) else (policy.source,)
            for source in sources:
                yield f"{type(policy).__name__.lower()} policy", source

    def _model_mistakes(self, model: Model) -> Iterator[HomeostatError]:
        where = f"model {model.name!r}"
        named = [(f, f"the request's {f}") for f in model.features if isinstance(f, str)]
        named += [(f.name, f"feature {f.name}") for f in model.features if not isinstance(f, str)]
        yield from _columns_twice(named, f"{where}, ")
        for name in model.label.predicts.schema.names():
            if name.casefold() in ("label", "label_known_time"):
                yield DeclarationError(
                    f"{where}, request {model.label.predicts.name!r}",
                    f"field {name!r} has the name of a column of training sets",
                    "names other than label and label_known_time",
                    f"rename the field, and read it as before: Annotated[..., Alias({name!r})]",
                )
        request = model.label.predicts
        for source in (request, model.label.outcome):
            yield from _declared("event source", source, self.sources, where)
        views = {view.name: view for view in self.views}
        for need in model_inputs(model):
            if isinstance(need, str):
                yield from _request_field_mistakes(need, model, where)
            elif need.view not in views:
                yield UnknownName("view", need.view, tuple(views), where)
            else:
                features = tuple(spec.name for spec in views[need.view].features())
                if need.feature not in features:
                    yield UnknownName("feature", need.feature, features, f"{where}, {need.view!r}")
        for view in self.views_of(model):
            yield from _view_mistakes(view, request, where)

    def source(self, name: str) -> EventSource:
        """Return a source by name; raise `UnknownName` otherwise."""
        return _find("event source", name, self.sources, self.name)

    def view(self, name: str) -> FeatureView:
        """Return a view by name; raise `UnknownName` otherwise."""
        return _find("view", name, self.views, self.name)

    def model(self, name: str) -> Model:
        """Return a model by name; raise `UnknownName` otherwise."""
        return _find("model", name, self.models, self.name)

    def deployment(self, model: str) -> Deployment:
        """Return the deployment of a model; raise `UnknownName` otherwise."""
        for deployment in self.deployments:
            if deployment.model.name == model:
                return deployment
        known = tuple(d.model.name for d in self.deployments)
        raise UnknownName("deployment", model, known, f"system {self.name!r}")

    def retrain(self, model: str) -> Retrain | None:
        """Return the retraining policy of a model, if one is declared."""
        return next((r for r in self.retraining if r.model.name == model), None)

    def retention(self, source: str) -> Retention | None:
        """Return the retention policy of a source, if one is declared."""
        kept = (p for p in self.policies if isinstance(p, Retention))
        return next((p for p in kept if p.source.name == source), None)

    def views_of(self, model: Model) -> tuple[FeatureView, ...]:
        """Return the views a model reads, in order of declaration."""
        wanted = {need.view for need in model_inputs(model) if not isinstance(need, str)}
        return tuple(view for view in self.views if view.name in wanted)

    @property
    def hash(self) -> str:
        """The content hash of all declarations."""
        return content_hash(self)


def model_inputs(model: Model) -> Iterator[FeatureRef | str]:
    """Yield every view feature and request field a model needs, on-demand inputs included."""

    def walk(feature: FeatureRef | OnDemand | str) -> Iterator[FeatureRef | str]:
        if isinstance(feature, OnDemand):
            for given in feature.inputs:
                yield from walk(given)
        else:
            yield feature

    seen: set[FeatureRef | str] = set()
    for feature in model.features:
        for need in walk(feature):
            if need not in seen:
                seen.add(need)
                yield need


def _names_twice(kind: str, names: Sequence[str]) -> Iterator[HomeostatError]:
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield DeclarationError(
            f"{kind} {name!r}", "declared twice", "one of that name", "rename one of them"
        )
    for one, other in twins(names):
        yield DeclarationError(
            f"{kind} {other!r}",
            f"it differs from {one!r} by case alone",
            "names that differ in their letters: tables, columns and files are told apart by those",
            "rename one of them",
        )


def _columns_twice(columns: Sequence[tuple[str, str]], where: str = "") -> Iterator[HomeostatError]:
    """Yield the columns of training sets and answers that would have one name; (name, what)."""
    first: dict[str, str] = {}
    for name, what in columns:
        other = first.setdefault(name.casefold(), what)
        if other != what:
            yield DeclarationError(
                f"{where}{what}",
                f"its column {name!r} is that of {other}, or differs from it by case alone",
                "features that have columns of their own (VIEW__FEATURE)",
                "rename one of the two, or its view",
            )


def _declared(
    kind: str, value: Named, known: tuple[Named, ...], where: str
) -> Iterator[HomeostatError]:
    names = tuple(k.name for k in known)
    if value.name not in names:
        yield UnknownName(kind, value.name, names, where)
    elif value not in known:
        yield DeclarationError(
            where,
            f"{kind} {value.name!r} differs from the one in the system",
            "the same value",
            f"use one variable for {value.name!r}",
        )


def _request_field_mistakes(name: str, model: Model, where: str) -> Iterator[HomeostatError]:
    """Yield what is wrong with a request field; the model has looked at its own ones already."""
    schema = model.label.predicts.schema
    if not schema.has(name):
        if name not in model.features:
            yield UnknownName("request field", name, schema.names(), where)
        return
    for feature in on_demand_features(model):
        if name in feature.inputs and schema.field(name, where).kind == "string":
            yield DeclarationError(
                f"{where}, on-demand feature {feature.name!r}",
                f"input {name!r} is a string",
                "numbers, booleans and timestamps, which arrive as float64 arrays",
                f"give {name!r} to the model itself, or put a number into the request's event",
            )


def _view_mistakes(view: FeatureView, request: EventSource, where: str) -> Iterator[HomeostatError]:
    """Yield why a request cannot look up a view."""
    missing = [key for key in view.entity.keys if not request.schema.has(key)]
    if missing:
        yield DeclarationError(
            where,
            f"view {view.name!r} is keyed by {', '.join(missing)}, which the request "
            f"{request.name!r} does not carry",
            f"keys among {', '.join(request.schema.names())}",
            "add the field to the request's event, or use another view",
        )
    yield from _own_event_mistakes(view, request, where)
    for name in view.entity.keys:
        if not (request.schema.has(name) and view.source.schema.has(name)):
            continue
        asked, held = (s.schema.field(name, where).kind for s in (request, view.source))
        if asked != held:
            yield DeclarationError(
                where,
                f"{name!r} is a {asked} in the request {request.name!r} and a {held} in "
                f"{view.source.name!r}, the source of view {view.name!r}",
                "the same kind on both sides, or nothing is ever found",
                "change one annotation",
            )


def _own_event_mistakes(
    view: FeatureView, request: EventSource, where: str
) -> Iterator[HomeostatError]:
    """Yield why a request's own event cannot be left out of a view."""
    if view.exclude_own and view.source == request and request.event_id in view.entity.keys:
        yield DeclarationError(
            where,
            f"view {view.name!r} is keyed by {request.event_id!r}, the id of the request "
            f"{request.name!r} itself, and a request's own event is not in its features: it is "
            "always empty",
            "a key that several events share, or exclude_own=False",
            "write exclude_own=False on the view if it is to find the request itself",
        )
    if view.own_field(request) is None:
        return
    merged = [
        spec.name for spec in view.features() if spec.window is None and spec.operation in SUMMARIES
    ]
    if merged:
        yield DeclarationError(
            where,
            f"view {view.name!r} summarizes the whole history ({', '.join(merged)}), out of which "
            f"the request's own event, named by {view.own_id!r}, cannot be taken again",
            "summaries over windows, or exclude_own=False; whole-history counts, sums, means, "
            "extremes, first and last values",
            "write .over('90d'), or exclude_own=False on the view if its own event may count",
        )


def on_demand_features(model: Model) -> Iterator[OnDemand]:
    """Yield the on-demand features of a model, those inside others included."""
    waiting = [feature for feature in model.features if isinstance(feature, OnDemand)]
    seen: set[OnDemand] = set()
    while waiting:
        feature = waiting.pop()
        if feature not in seen:
            seen.add(feature)
            yield feature
            waiting += [given for given in feature.inputs if isinstance(given, OnDemand)]


def _find(kind: str, name: str, known: tuple[Named, ...], system: str) -> Named:
    for value in known:
        if value.name == name:
            return value
    raise UnknownName(kind, name, tuple(k.name for k in known), f"system {system!r}")
