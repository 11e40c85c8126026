"""The models of one system, served in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Condition
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from homeostat.core.clock import OrderedClock, from_micros
from homeostat.core.errors import HomeostatError, UnknownName
from homeostat.declare.system import System
from homeostat.features.folded import read_after
from homeostat.serve.answer import (
    Answer,
    ModelStatus,
    Readiness,
    Recent,
    Record,
    answer_of,
    record_of,
)
from homeostat.serve.crew import Crew
from homeostat.serve.explain import Reason, reasons
from homeostat.serve.metrics import Metrics
from homeostat.serve.ports import Broken, PredictionLog
from homeostat.serve.predictions import Predictions
from homeostat.serve.predictor import Batch, Predictor, Shed
from homeostat.serve.routing import Arm, Route
from homeostat.serve.seam import Ingested, Request, Ticket

if TYPE_CHECKING:
    from homeostat.core.store import Store

__all__ = ["LocalService", "ServiceParts"]

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
    every prediction and must not wait for slow disks; `ingest` appends events to the log.
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
    max_shadows: int = 64


@dataclass(frozen=True, slots=True)
class _Call:
    """Requests that are asked together, who answers them, and since when they wait."""

    requests: list[Request]
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
        self._shadows = Crew(1, "homeostat-shadow")
        self._waiting: dict[int, Predictions] = {}
        self._finishing = 0
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
        parts = self._parts
        if ticket is not None and not ticket.is_open:
            return []
        predictor = self.predictor(model)
        shed = None if ticket is None else ticket.shed
        route = parts.routes(model)
        began = None if ticket is None else ticket.began
        found = self._answered(predictor, _Call(requests, route, began, shed, ticket is not None))
        if ticket is not None:
            late = any("overloaded" in causes for one in found for causes in one.degraded)
            if (ticket.divisible and late) or not ticket.claim():
                return []
        answers: list[Answer] = []
        for predictions in found:
            said: list[list[Reason] | UnsetType] = [UNSET] * len(predictions)
            if reasons:
                said = [*self._reasons(predictor, predictions, route)]
            parts.recent.keep(predictions)
            parts.metrics.predicted(predictions)
            answers += [answer_of(predictions, row, why) for row, why in enumerate(said)]
            self._record(predictor, predictions, route)
        return answers

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
        """Return ready, with a note for everything that a fallback stands in for."""
        notes = [
            f"{status.model}: {what}"
            for status in self.models()
            for what in (
                *(["no champion"] if status.champion is None else []),
                *(f"{role} cannot be loaded" for role in status.broken),
            )
        ]
        if self._parts.store is None:
            notes.append("no feature store")
        return Readiness(True, notes)

    def warm(self) -> dict[str, dict[str, bool]]:
        """Score one row by every arm of every model; returns which arms gave a score."""
        predictors = self._parts.predictors
        return {m: p.warm(self._parts.routes(m)) for m, p in predictors.items()}

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

    def _completed(self, predictor: Predictor, requests: list[Request], at: int) -> list[Request]:
        source = predictor.model.label.predicts
        now = from_micros(at)
        clocks = [c for c in (source.event_time, source.known_time) if c is not None]
        absent = dict.fromkeys(clocks, now)
        return [
            {**request, **{c: now for c in absent if request.get(c) is None}}
            for request in requests
        ]

    def _answered(self, predictor: Predictor, call: _Call) -> list[Predictions]:
        """Answer a call from one snapshot, at an instant after everything known in that."""
        store, clock, shed = self._parts.store, self._parts.clock, call.shed
        if store is not None and (shed is None or "previous" in shed.chain):
            try:
                with store.reader() as reader:
                    at = clock.after(read_after(reader, predictor.reads(call.route)))
                    batch = self._batch(predictor, call, at)
                    return predictor.answers(reader, batch, call.route, shed)
            except Exception as broken:  # noqa: BLE001 - a store may fail in any way; one answer
                self._parts.metrics.fault("store", broken)
        batch = self._batch(predictor, call, clock.now())
        return predictor.answers(None, batch, call.route, shed)

    def _batch(self, predictor: Predictor, call: _Call, at: int) -> Batch:
        rows = self._completed(predictor, call.requests, at)
        return Batch(rows, at, [self._parts.ids() for _ in rows], call.began, call.timed)

    def _reasons(
        self, predictor: Predictor, predictions: Predictions, route: Route
    ) -> list[list[Reason]]:
        said: list[list[Reason]] = [[] for _ in predictions.arms]
        for role in sorted(set(predictions.arms) - {"score"}):
            rows = [row for row, arm in enumerate(predictions.arms) if arm == role]
            arm: Arm = getattr(route, role)
            given = predictions.given(rows[0])
            try:
                parts = arm.servable.contributions(given.features)
                for row in rows:
                    said[row] = reasons(given.names, given.features, row, parts)
            except Exception as broken:  # noqa: BLE001 - an answer stands without its reasons
                self._parts.metrics.fault("reasons", broken)
                for row in rows:
                    predictions.degraded[row].append("reasons_broken")
        return said

    def _record(self, predictor: Predictor, predictions: Predictions, route: Route) -> None:
        if not route.shadow or route.challenger is None:
            self._append(predictions)
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
