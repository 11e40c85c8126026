"""The models of one system, served in this process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Condition
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType, structs

from homeostat.core.clock import OrderedClock
from homeostat.core.errors import HomeostatError, UnknownName
from homeostat.declare.system import System
from homeostat.features.folded import read_after
from homeostat.serve.admission import Admission, Admitted
from homeostat.serve.answer import (
    Answer,
    ModelStatus,
    Place,
    Readiness,
    Recent,
    Record,
    answer_of,
    record_of,
)
from homeostat.serve.crew import Crew
from homeostat.serve.explain import Reason, reasons
from homeostat.serve.former_fields import FormerFields
from homeostat.serve.metrics import Metrics
from homeostat.serve.needs import Needs
from homeostat.serve.ports import Broken, FindsAnswers, FindsEvents, NotDurable, PredictionLog
from homeostat.serve.predictions import Predictions
from homeostat.serve.predictor import Batch, Predictor, Reads, Shed
from homeostat.serve.routing import Route
from homeostat.serve.seam import Ingested, Request, Ticket
from homeostat.train.servable import ExplanationRefused

if TYPE_CHECKING:
    from homeostat.core.store import Store

__all__ = ["LocalService", "ServiceParts"]

UNANSWERED = frozenset({"model_broken", "features_broken", "calls_held"})
"""Degradations under which a champion that was to answer did not."""

SILENT = 5
"""A champion that was asked so often in a row, and never answered, answers nothing."""

LOOKED_AT = 50
"""More answers in a row without it are not counted."""

Ingest = Callable[[str, Sequence[bytes]], Ingested]


def _no_ingest(source: str, payloads: Sequence[bytes]) -> Ingested:
    raise HomeostatError(
        f"event source {source!r}: this service takes no events; allowed: predictions only; send "
        "the events to a service that was started with a log."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParts:
    """What a `LocalService` is wired from.

    `routes` says which versions answer a model now; `ids` gives a new prediction id; `log` keeps
    every prediction, and waits for the disk only with `sync`, which lets no answer leave before it
    is durable; `ingest` appends events to the log; `answers` finds what is not among the `recent`
    ones, `events` what came under the id of a request; `former` has by model the names of request
    fields that earlier declarations had; `stands` says why no event is folded, "" if they are;
    `notes` has what else `ready` is to say.
    """

    system: System
    predictors: Mapping[str, Predictor]
    routes: Callable[[str], Route]
    store: Store | None
    clock: OrderedClock
    ids: Callable[[], str]
    log: PredictionLog
    metrics: Metrics
    ingest: Ingest = _no_ingest
    recent: Recent = field(default_factory=Recent)
    answers: FindsAnswers | None = None
    events: FindsEvents | None = None
    former: Mapping[str, Collection[str]] = field(default_factory=dict)
    max_shadows: int = 64
    sync: bool = False
    stands: Callable[[], str] = lambda: ""
    notes: Callable[[], list[str]] = list


@dataclass(frozen=True, slots=True)
class _Call:
    """Requests that are asked together, who answers them, and since when they wait."""

    requests: list[Request]
    admission: Admission
    route: Route
    began: int | None
    shed: Shed | None
    timed: bool


class LocalService:
    """Serves the models of one system in this process; safe to call from many threads.

    A shadowed challenger scores on a thread of its own after the user has the answer; where it
    cannot keep up, predictions are logged without its score, marked shadow_skipped.
    """

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._admissions = {
            name: Admission(
                parts.system,
                one,
                partial(self.needs, name),
                parts.recent,
                parts.answers,
                parts.events,
                parts.metrics.fault,
            )
            for name, one in parts.predictors.items()
        }
        self._awaited = {name: one.awaited() for name, one in parts.predictors.items()}
        self._former = {
            name: FormerFields(
                one.model.label.predicts.schema,
                parts.former.get(name, ()),
                partial(parts.metrics.former, name),
            )
            for name, one in parts.predictors.items()
        }
        self._shadows = Crew(1, "homeostat-shadow")
        self._waiting: dict[int, Predictions] = {}
        self._finishing = 0
        self._failed: dict[str, int] = {}
        self._notes: list[str] = []
        self._changed = Condition()

    def predict(
        self, model: str, requests: list[Request], reasons: bool = False,
        ticket: Ticket | None = None,
    ) -> list[Answer]:  # fmt: skip
        """Answer requests at the present instant, log them, and let the challenger shadow them.

        Without a ticket no deadline holds them.

        Args:
            model: the name of a deployed model.
            requests: fields of the label's request event; absent clocks are the present instant.
            reasons: whether to say which features moved the scores.
            ticket: the call's right to answer, where a deadline also holds it.

        Returns:
            One answer per request, in their order; empty if the ticket was claimed before.
        """
        if ticket is not None and not ticket.is_open:
            return []
        predictor, admission = self.predictor(model), self._admissions[model]
        asked = self._admit(model, requests)
        route = self._parts.routes(model)
        found: list[Predictions] = []
        if asked.rows:
            shed, began = (None, None) if ticket is None else (ticket.shed, ticket.began)
            call = _Call(asked.rows, admission, route, began, shed, ticket is not None)
            found = self._answered(predictor, call)
            late = any("overloaded" in causes for one in found for causes in one.degraded)
            if ticket is not None and ticket.divisible and late:
                return []
        if ticket is not None and not ticket.claim():
            return []
        places, own = dict(asked.before), 0
        for predictions in found:
            ours = asked.places[own : own + len(predictions)]
            recorded = asked.recorded[own : own + len(predictions)]
            own += len(predictions)
            places |= zip(ours, self._kept(predictor, predictions, recorded, route), strict=True)
        places |= {place: places[first] for place, first in asked.twin.items()}
        self._refuse_other(admission, requests, places)
        if self._parts.sync:  # an answer that is given again may be one that waits
            names = [batch.request_ids[row] for batch, row in places.values()]
            self._parts.log.require_durable(model, names)
        self._awaited[model].watch(asked.rows, route)
        self._parts.metrics.repeated(model, len(asked.before) + len(asked.twin))
        return [
            self._answer(places[i], route, reasons, asked.notes.get(i, UNSET))
            for i in range(len(requests))
        ]

    def needs(self, model: str) -> Needs:
        """Return what requests to a model must bring while the present champion answers."""
        return self.predictor(model).needs(self._parts.routes(model))

    def former(self, model: str) -> FormerFields:
        """Return what reads and counts the names that requests to a model had before."""
        self.predictor(model)
        return self._former[model]

    def check(self, model: str, requests: list[Request]) -> None:
        """Raise what `predict` would raise for requests that cannot be answered."""
        self.predictor(model)
        self._admit(model, requests)

    def _admit(self, model: str, requests: list[Request]) -> Admitted:
        return self._admissions[model].admit(requests, self._parts.clock.now(), self._parts.store)

    def _kept(
        self,
        predictor: Predictor,
        predictions: Predictions,
        recorded: list[bool],
        route: Route,
    ) -> list[Place]:
        """Keep and log the answers that are first ones; return the answer of each row."""
        same = self._admissions[predictor.model.name].same
        predictions.recorded = recorded
        keys = [same.key(request) for request in predictions.requests]
        before = self._parts.recent.keep(predictions, keys)
        firsts = [row for row in range(len(predictions)) if row not in before]
        if firsts:
            ours = predictions if not before else predictions.take(firsts)
            self._watch(ours)
            self._parts.metrics.predicted(ours)
            try:
                self._record(predictor, ours, route)
            except NotDurable as refused:
                if not refused.waits:  # nobody has it, and it will be in no log
                    self._parts.recent.forget(predictions)
                raise
        return [before.get(row, (predictions, row)) for row in range(len(predictions))]

    @staticmethod
    def _refuse_other(
        admission: Admission, requests: list[Request], places: Mapping[int, Place]
    ) -> None:
        """Refuse a request that was overtaken by another one under its id."""
        same = admission.same
        admission.same.refuse(
            requests,
            [
                (place, batch.requests[row], "was asked")
                for place, (batch, row) in places.items()
                if same.key(requests[place]) is not None
                and same.differing(batch.requests[row], requests[place])
            ],
        )

    def _answer(
        self,
        place: Place,
        route: Route,
        reasons: bool,
        note: str | UnsetType,
    ) -> Answer:
        predictions, row = place
        if not reasons:
            return answer_of(predictions, row, note=note)
        said, degraded = self._reasons(predictions, row, route)
        one = answer_of(predictions, row, said, note)
        return structs.replace(one, degraded=[*one.degraded, *degraded]) if degraded else one

    def ingest(self, source: str, payloads: Sequence[bytes]) -> Ingested:
        """Append events to the log of a declared source."""
        self._parts.system.source(source)
        return self._parts.ingest(source, payloads)

    def prediction(self, prediction_id: str) -> Record | None:
        """Return a recent prediction, its personal fields masked."""
        found = self._parts.recent.find(prediction_id)
        if found is None:
            return None
        model = self._parts.system.model(found[0].model)
        masked = {f.name: f.is_personal for f in model.label.predicts.schema.fields}
        return record_of(found, masked)

    def models(self) -> list[ModelStatus]:
        """Return which versions are in service, in order of their models' names."""
        routes = {name: self._parts.routes(name) for name in sorted(self._parts.predictors)}
        return [_status(name, route) for name, route in routes.items()]

    def ready(self) -> Readiness:
        """Return ready, with a note for everything that a fallback stands in for.

        Not ready is a service whose answers leave when they are durable, while none becomes so;
        and one whose features stand still while events wait.
        """
        notes = [
            f"{status.model}: {what}"
            for status in self.models()
            for what in (
                *(["no champion"] if status.champion is None else []),
                *(f"{role} cannot be loaded" for role in status.broken),
                *self._silent(status),
                *self._awaited[status.model].notes(self._parts.routes(status.model)),
                *self._former[status.model].notes(),
            )
        ]
        if self._parts.store is None:
            notes.append("no feature store")
        notes += [*self._notes, *self._parts.notes()]
        trouble, stands = self._parts.log.trouble(), self._parts.stands()
        notes += filter(None, (trouble, stands))
        return Readiness(not (stands or (trouble and self._parts.sync)), notes)

    def _silent(self, status: ModelStatus) -> list[str]:
        """Say that a champion answers nothing: none of the last answers were its own."""
        number = self._failed.get(status.model, 0)
        if number < SILENT:
            return []
        bound = f"(at most {LOOKED_AT} are looked at)"
        return [f"the champion gave none of the last {number} answers {bound}: its fallbacks did"]

    def _watch(self, predictions: Predictions) -> None:
        """Count the answers in a row that the champion should have given, and did not."""
        failed = self._failed.get(predictions.model, 0)
        for arm, causes in zip(predictions.arms, predictions.degraded, strict=True):
            if arm == "champion":
                failed = 0
            elif arm != "challenger" and UNANSWERED.intersection(causes):
                failed = min(failed + 1, LOOKED_AT)
        self._failed[predictions.model] = failed

    def note(self, words: str, instead_of: str = "") -> None:
        """Say something in `ready` from now on, instead of what was said before; "" for nothing."""
        kept = [note for note in self._notes if note not in (words, instead_of)]
        self._notes = [*kept, words] if words else kept

    def warm(self) -> dict[str, dict[str, bool]]:
        """Read and score once by every arm of every model; returns which arms gave a score."""
        predictors, clock = self._parts.predictors, self._parts.clock
        routes = {name: self._parts.routes(name) for name in predictors}
        if self._parts.store is None:
            return {name: one.warm(routes[name]) for name, one in predictors.items()}
        with self._parts.store.reader() as reader:
            sources = [s for name, one in predictors.items() for s in one.reads(routes[name])]
            at = clock.after(read_after(reader, sources))
            return {name: one.warm(routes[name], reader, at) for name, one in predictors.items()}

    def close(self, seconds: float = 10.0) -> None:
        """Wait so long for shadowed predictions, and log what is left without its shadow."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._finishing), seconds)
            left, self._waiting = self._waiting, {}
        for predictions in left.values():
            self._append(_skipped(predictions))
        self._shadows.close()

    def predictor(self, model: str) -> Predictor:
        """Return the predictor of a deployed model; raise `UnknownName` otherwise."""
        found = self._parts.predictors.get(model)
        if found is None:
            known = tuple(self._parts.predictors)
            raise UnknownName("deployed model", model, known, f"system {self._parts.system.name!r}")
        return found

    def _answered(self, predictor: Predictor, call: _Call) -> list[Predictions]:
        """Answer a call from one snapshot, at an instant after everything known in that."""
        store, clock, shed = self._parts.store, self._parts.clock, call.shed
        found: tuple[Batch, Reads] | None = None
        if store is not None and (shed is None or "previous" in shed.chain):
            try:
                with store.reader() as reader:
                    at = clock.after(read_after(reader, predictor.reads(call.route)))
                    batch = self._batch(predictor, call, at)
                    found = batch, predictor.read(reader, batch, call.route, shed)
            except Exception as broken:  # noqa: BLE001 - a store may fail in any way; one answer
                self._parts.metrics.fault("store", broken)
        if found is None:
            batch = self._batch(predictor, call, clock.now())
            found = batch, predictor.read(None, batch, call.route, shed)
        # The snapshot is let go by now: a call that hangs keeps no page of the store from reuse.
        return predictor.answers(found[1], found[0], call.route, shed)

    def _batch(self, predictor: Predictor, call: _Call, at: int) -> Batch:
        rows = [call.admission.completed(row, at) for row in call.requests]
        return Batch(rows, at, [self._parts.ids() for _ in rows], call.began, call.timed)

    def _reasons(
        self, predictions: Predictions, row: int, route: Route
    ) -> tuple[list[Reason], list[str]]:
        """Return what moved a score, and what failed; the version must still be loaded."""
        version = predictions.versions[row]
        if version is None:
            return [], []
        if self.predictor(predictions.model).model.requirements.explain is False:
            return [], ["reasons_not_declared"]
        try:
            arm = next(arm for arm in route.arms if arm is not None and arm.version == version)
            one = predictions.given(row).take([row]).features
            names = self.predictor(predictions.model).names_of(arm)
            return reasons(names, one, 0, arm.servable.contributions(one)), []
        except StopIteration:
            return [], ["reasons_gone"]
        except ExplanationRefused:
            return [], ["reasons_unknown"]
        except Exception as broken:  # noqa: BLE001 - an answer stands without its reasons
            self._parts.metrics.fault("reasons", broken)
            return [], ["reasons_broken"]

    @property
    def waits(self) -> bool:
        """Whether `predict` returns only when its answers are durable."""
        return self._parts.sync

    def _record(self, predictor: Predictor, predictions: Predictions, route: Route) -> None:
        if self._parts.sync or not route.shadow or route.challenger is None:
            self._append(predictor.shadow(predictions, route))
            return
        with self._changed:
            room = len(self._waiting) < self._parts.max_shadows
            if room:
                self._waiting[id(predictions)] = predictions
        if room:
            self._shadows.submit(lambda: self._shadowed(predictor, predictions, route))
        else:
            self._append(_skipped(predictions))

    def _shadowed(self, predictor: Predictor, predictions: Predictions, route: Route) -> None:
        scored = predictor.shadow(predictions, route)
        with self._changed:
            if self._waiting.pop(id(predictions), None) is None:
                return  # `close` did not wait for it, and has logged it
            self._finishing += 1
        self._append(scored)
        with self._changed:
            self._finishing -= 1
            self._changed.notify_all()

    def _append(self, predictions: Predictions) -> None:
        try:
            self._parts.log.append(predictions)
        except NotDurable:
            raise
        except Exception as broken:  # noqa: BLE001 - users are answered though the log is down
            self._parts.metrics.fault("log", broken)


def _skipped(predictions: Predictions) -> Predictions:
    marked = [[*causes, "shadow_skipped"] for causes in predictions.degraded]
    return replace(predictions, degraded=marked)


def _status(model: str, route: Route) -> ModelStatus:
    arms = {role: getattr(route, role) for role in ("champion", "challenger", "previous")}
    versions = {role: None if arm is None else arm.version for role, arm in arms.items()}
    return ModelStatus(
        model=model,
        **versions,
        share=route.share if route.challenger is not None else 0.0,
        shadow=route.shadow and route.challenger is not None,
        broken=[r for r, arm in arms.items() if arm and isinstance(arm.servable, Broken)],
    )
