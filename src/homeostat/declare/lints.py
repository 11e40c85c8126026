"""Common mistakes that are no errors: what `homeostat check` warns of, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from homeostat.core.durations import format_duration
from homeostat.declare.deployments import Canary, Deployment
from homeostat.declare.models import METRICS, Label, Model
from homeostat.declare.monitors import Drift, Freshness, Quality
from homeostat.declare.needs import needed_span
from homeostat.declare.policies import Access, Retention
from homeostat.declare.sources import EventSource
from homeostat.declare.system import System, model_inputs
from homeostat.declare.views import FeatureView

__all__ = ["Lint", "can_have_several", "lints"]


@dataclass(frozen=True, slots=True)
class Lint:
    """One warning: a rule's name, where it was met, what was found, and what to do.

    >>> str(Lint("unused-view", "view 'a'", "no model uses it", "drop it"))
    "unused-view: view 'a': no model uses it; drop it."
    """

    rule: str
    where: str
    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.found}; {self.advice}."


def lints(system: System) -> tuple[Lint, ...]:
    """Return the warnings of a system, in order of rule and declaration; errors are not here."""
    return tuple(lint for rule in _RULES for lint in rule(system))


def _own_event_leaks(system: System) -> Iterator[Lint]:
    """Views whose source can hold the request's own event, known before the request is asked."""
    for model in system.models:
        label = model.label
        for view in system.views_of(model):
            if view.own_field(label.predicts) or view.source.name == label.predicts.name:
                continue
            where = f"model {model.name!r}, view {view.name!r}"
            if view.source.name == label.outcome.name:
                if not label.completes_request:
                    continue  # what is known before the request did not happen after it
                yield Lint(
                    "own-outcome",
                    where,
                    f"it aggregates {view.source.name!r}, which also tells the label "
                    f"{label.name!r}: a row can hold its own outcome wherever that is known "
                    "before the request",
                    _own_advice(view, model),
                )
            elif label.predicts.schema.has(view.source.event_id):
                yield Lint(
                    "own-event",
                    where,
                    f"the request carries {view.source.event_id!r}, the event id of "
                    f"{view.source.name!r}, so its own event is in the view wherever that is "
                    "known before the request",
                    _own_advice(view, model),
                )


def _own_advice(view: FeatureView, model: Model) -> str:
    own, request = view.source.event_id, model.label.predicts
    if own in view.entity.keys:
        return f"key it by a field that several events share: each has its own {own!r}"
    if not request.schema.has(own):
        return (
            f"add the field {own!r} to the request {request.name!r}, so that its own event can be "
            "left out, unless no outcome is ever known before its request"
        )
    return "drop exclude_own=False from the view, unless its own event is to count"


def _personal_uses(system: System) -> Iterator[Lint]:
    """Personal fields that reach a model, a key or a table of slices."""
    for model in system.models:
        schema = model.label.predicts.schema
        slices = (*model.requirements.slices, *(s for g in model.gates for s in g.slices))
        for name in sorted({n for n in model_inputs(model) if isinstance(n, str)}):
            if schema.field(name, model.name).is_personal:
                yield Lint(
                    "personal-feature",
                    f"model {model.name!r}",
                    f"it learns from {name!r}, which is tagged Personal",
                    "leave the field out, or put what matters about it into a field of its own "
                    "that identifies nobody",
                )
        for name in sorted(set(slices)):
            if schema.field(name, model.name).is_personal:
                yield Lint(
                    "personal-slice",
                    f"model {model.name!r}",
                    f"its quality is reported by {name!r}, which is tagged Personal",
                    "slice by a group of people instead of by the person",
                )
    for view in system.views:
        yield from _personal_inputs(view)


def _personal_inputs(view: FeatureView) -> Iterator[Lint]:
    schema, where = view.source.schema, f"view {view.name!r}"
    for key in view.entity.keys:
        if schema.field(key, where).is_personal:
            yield Lint(
                "personal-key",
                where,
                f"it is keyed by {key!r}, which is tagged Personal",
                "check that an Erasure policy covers it, or key by a pseudonym",
            )
    columns = sorted({a.column for a in view.aggregations if a.column is not None})
    for column in columns:
        if schema.field(column, where).is_personal:
            yield Lint(
                "personal-feature",
                where,
                f"it aggregates {column!r}, which is tagged Personal",
                "count events instead, or aggregate a field that identifies nobody",
            )


def _unwatched_models(system: System) -> Iterator[Lint]:
    """Models that nobody deploys, watches or renews."""
    companions = {m.name for r in system.retraining for m in r.companions}
    watched = {
        kind: {m.model.name for m in system.monitors if isinstance(m, kind)}
        for kind in (Drift, Quality)
    }
    deployed = {d.model.name for d in system.deployments}
    for model in system.models:
        where = f"model {model.name!r}"
        if model.name in companions:
            continue
        if model.name not in deployed:
            yield Lint(
                "no-deployment",
                where,
                "no deployment serves it",
                "add a Deployment, or list it among the companions of a Retrain",
            )
            continue
        for kind, names in watched.items():
            if model.name not in names:
                yield Lint(
                    f"no-{kind.__name__.lower()}-monitor",
                    where,
                    f"it is served and no {kind.__name__} monitor watches it",
                    f"add {kind.__name__}(...) to the monitors",
                )
        if system.retrain(model.name) is None:
            yield Lint(
                "no-retraining",
                where,
                "it is served and never trained again",
                "add Retrain(...) on drift, on quality, or every so often",
            )
    yield from _dead_triggers(system, watched[Drift], watched[Quality])


def _dead_triggers(system: System, drift: set[str], quality: set[str]) -> Iterator[Lint]:
    for retrain in system.retraining:
        for trigger, names in (("drift", drift), ("quality", quality)):
            if trigger in retrain.on and retrain.model.name not in names:
                yield Lint(
                    "dead-trigger",
                    f"retraining of {retrain.model.name!r}",
                    f"it waits for {trigger}, which no monitor of the model looks for",
                    f"add {trigger.capitalize()}(...) to the monitors, or drop the trigger",
                )


def _unguarded_rollouts(system: System) -> Iterator[Lint]:
    """Rollouts that nothing could stop."""
    for deployment in system.deployments:
        where = f"deployment of {deployment.model.name!r}"
        if not deployment.guards:
            yield Lint(
                "no-guard",
                where,
                "it rolls out without a guard",
                "add guards, such as Guard('cost', within=0.05) and Guard('error_rate', at_most=0)",
            )
        elif _has_canary(deployment) and not any(g.signal in METRICS for g in deployment.guards):
            yield Lint(
                "no-labelled-guard",
                where,
                "it goes to canary and no guard looks at labels, so a model that answers fast "
                "and wrong gets through",
                "add a guard on a metric, such as Guard('cost', within=0.05)",
            )


def _has_canary(deployment: Deployment) -> bool:
    return any(isinstance(stage, Canary) for stage in deployment.rollout)


def _ungated_models(system: System) -> Iterator[Lint]:
    """Deployed models that nothing judges before they are rolled out."""
    for deployment in system.deployments:
        if not deployment.model.gates:
            yield Lint(
                "no-gate",
                f"model {deployment.model.name!r}",
                "it is deployed and has no gates, so every training that ends goes to rollout, "
                "and the first one straight to all requests",
                "add gates to its requirements, such as Gate('auc', at_least=0.7) and "
                "Gate('cost', within=0.02)",
            )


def _several_outcomes(system: System) -> Iterator[Lint]:
    """Labels of which more than one outcome can tell, and nothing says which does."""
    for model in system.models:
        label = model.label
        if label.which is None and can_have_several(label):
            yield Lint(
                "several-outcomes",
                f"label {label.name!r}",
                f"it is joined on {label.join_on!r}, which is not the id of a request, so several "
                f"outcomes of {label.outcome.name!r} can come within the delay; the first one by "
                "event time decides",
                "say so with which='first', or choose 'last', or 'any' (true where one of them is)",
            )


def can_have_several(label: Label) -> bool:
    """Return whether more than one outcome may tell one label, by its fields."""
    return label.join_on not in (label.predicts.event_id, label.outcome.event_id)


def _short_rollouts(system: System) -> Iterator[Lint]:
    """Canary steps that are over before the first label can be final."""
    for deployment in system.deployments:
        delay = deployment.model.label.delay_us
        labelled = [g.signal for g in deployment.guards if g.signal in METRICS]
        for stage in deployment.rollout:
            if isinstance(stage, Canary) and labelled and stage.every_us <= delay:
                yield Lint(
                    "canary-before-labels",
                    f"deployment of {deployment.model.name!r}",
                    f"a canary step lasts {format_duration(stage.every_us)} and labels are final "
                    f"after {format_duration(delay)}, so the guard(s) {', '.join(labelled)} see "
                    "nothing of the step they guard",
                    "lengthen the steps beyond the label's delay",
                )


def _unused_declarations(system: System) -> Iterator[Lint]:
    """Views no model reads, and sources nobody uses."""
    used = {view.name for model in system.models for view in system.views_of(model)}
    for view in system.views:
        if view.name not in used:
            yield Lint(
                "unused-view",
                f"view {view.name!r}",
                "no model uses it, and its state is kept all the same",
                "use its features, or drop it",
            )
    read = {view.source.name for view in system.views} | {
        source.name for m in system.models for source in (m.label.predicts, m.label.outcome)
    }
    for source in system.sources:
        if source.name not in read:
            yield Lint(
                "unused-source",
                f"event source {source.name!r}",
                "no view and no label reads it",
                "build something on it, or drop it",
            )


def _clock_doubts(system: System) -> Iterator[Lint]:
    """Clocks that would keep events out of every feature, or flatter history."""
    for source in system.sources:
        where = f"event source {source.name!r}"
        if source.delay_us > source.lateness_us:
            yield Lint(
                "always-too-late",
                where,
                f"imported events are known {format_duration(source.delay_us)} after they happened "
                f"and count as too late after {format_duration(source.lateness_us)}, so none is "
                "ever in a feature",
                "set lateness to more than the delay",
            )
        elif source.known_time is None and source.delay_us == 0 and _feeds(system, source):
            yield Lint(
                "instant-history",
                where,
                "imported history counts as known in the instant it happened",
                "name the field that says when it was known (known_time=), or the usual delay "
                "(delay='10m'), so that training sees no more than serving will",
            )
        counted = source.lateness_us + source.clock_skew_us
        if source.dedup_us is not None and source.dedup_us < counted:
            yield Lint(
                "short-memory",
                where,
                f"ids are forgotten after {format_duration(source.dedup_us)}, and an event that is "
                f"sent again counts twice in features up to {format_duration(counted)} after it "
                "happened",
                f"set dedup to at least lateness plus clock_skew: '{format_duration(counted)}'",
            )


def _feeds(system: System, source: EventSource) -> bool:
    return any(view.source.name == source.name for view in system.views)


def _silent_sources(system: System) -> Iterator[Lint]:
    """Sources of deployed features whose silence nobody would notice."""
    watched = {m.source.name for m in system.monitors if isinstance(m, Freshness)}
    feeding: dict[str, str] = {}
    for deployment in system.deployments:
        for view in system.views_of(deployment.model):
            feeding.setdefault(view.source.name, deployment.model.name)
    for source, model in feeding.items():
        if source not in watched:
            yield Lint(
                "no-freshness-monitor",
                f"event source {source!r}",
                f"features of {model!r} come from it and nobody would notice its silence",
                f"add Freshness({source}, within='1h') to the monitors",
            )


def _not_enforced(system: System) -> Iterator[Lint]:
    """Policies that this release checks and does not carry out yet."""
    for policy in system.policies:
        if isinstance(policy, Retention):
            continue
        kind = type(policy).__name__
        of = policy.role if isinstance(policy, Access) else policy.source.name
        yield Lint(
            "not-enforced",
            f"{kind.lower()} policy of {of!r}",
            f"{kind} is declared, and this release does not carry it out",
            "do it by other means until a release does",
        )


def _held_days(system: System) -> Iterator[Lint]:
    """Retention that would delete what features still need; those days stay."""
    for policy in system.policies:
        if not isinstance(policy, Retention) or policy.keep_us is None:
            continue
        need = needed_span(system, policy.source.name)
        if need.span is not None and need.span <= policy.keep_us:
            continue
        span = "the whole history" if need.span is None else format_duration(need.span)
        yield Lint(
            "retention-held",
            f"retention policy of {policy.source.name!r}",
            f"it keeps {format_duration(policy.keep_us)}, and {need.why} needs {span}: days stay "
            "for as long as that",
            "keep them for longer, or give the feature a shorter window",
        )


_RULES: tuple[Callable[[System], Iterator[Lint]], ...] = (
    _own_event_leaks,
    _held_days,
    _personal_uses,
    _unguarded_rollouts,
    _ungated_models,
    _several_outcomes,
    _short_rollouts,
    _clock_doubts,
    _unwatched_models,
    _silent_sources,
    _unused_declarations,
    _not_enforced,
)
