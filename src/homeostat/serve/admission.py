"""What a request is before it is answered: a first question, one that comes again, or none.

A request with an id is also an event of its source. So it is judged as the intake will judge it,
and nothing becomes a dead letter that the answer did not tell of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from homeostat.core.clock import from_micros, to_micros
from homeostat.core.durations import Micros, format_duration
from homeostat.declare.system import System
from homeostat.features.assemble import Features
from homeostat.ingest.push import Door
from homeostat.serve.answer import Place, Recent
from homeostat.serve.needs import Needs
from homeostat.serve.ports import Faults, FindsAnswers, FindsEvents
from homeostat.serve.predictions import Latency, Predictions
from homeostat.serve.predictor import Predictor
from homeostat.serve.repeats import Same
from homeostat.serve.requests import Problem, RequestInvalid, RequestReader

if TYPE_CHECKING:
    from homeostat.core.store import Store
    from homeostat.serve.seam import Request

__all__ = ["Admission", "Admitted"]

Row = Mapping[str, Any]
Found = tuple[Row, str]
"""What came first under an id, and how."""


@dataclass(slots=True)
class Admitted:
    """Requests of one call: the answers some got before, and what is to be asked.

    Attributes:
        before: by place, the answer that the request got before.
        twin: by place, the place of the same request in this call.
        places: of the requests to ask.
        rows: the requests to ask, their absent fields filled in where an event says them.
        recorded: of those, which become an event of the source.
        notes: by place, what the user must know.
    """

    before: dict[int, Place] = field(default_factory=dict)
    twin: dict[int, int] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)
    rows: list[Request] = field(default_factory=list)
    recorded: list[bool] = field(default_factory=list)
    notes: dict[int, str] = field(default_factory=dict)


class Admission:
    """Judges the requests of one model before they are answered.

    Args:
        system: the declarations.
        predictor: of the model.
        needs: what a request must bring now.
        recent: the last answers, of all models.
        answers: older answers, None where none are kept.
        events: the events of the request's source, None where none are kept.
        faults: told where one of them cannot be asked; the request is then taken as a first one.
    """

    def __init__(
        self,
        system: System,
        predictor: Predictor,
        needs: Callable[[], Needs],
        recent: Recent,
        answers: FindsAnswers | None,
        events: FindsEvents | None,
        faults: Faults,
    ) -> None:
        self._model, self._predictor = predictor.model, predictor
        self._source = predictor.model.label.predicts
        self.same = Same(predictor.model, needs)
        self._recent, self._answers, self._events, self._faults = recent, answers, events, faults
        self._door = Door(self._source)
        self._reader = RequestReader(system, predictor.model)
        self._encode = msgspec.json.Encoder().encode
        schema = self._source.schema
        self._texts = {f.name for f in schema.fields if f.kind == "string"}
        clocks = {self._source.event_time, self._source.known_time}
        self._clocks = tuple(name for name in clocks if name is not None)
        self._names = schema.names()
        self._optional = [f for f in schema.fields if f.default is not None]
        self._others = [
            d.model.name
            for d in system.deployments
            if d.model.label.predicts.name == self._source.name and d.model.name != self._model.name
        ]

    def admit(self, requests: Sequence[Request], at: Micros, store: Store | None) -> Admitted:
        """Return what becomes of requests at an instant.

        Raises:
            RequestConflict: an id came before with other content.
            RequestInvalid: no event of the source may say so.
        """
        made = Admitted()
        keys = [self.same.key(request) for request in requests]
        before = self.answered({key for key in keys if key is not None})
        unknown = [k for k in dict.fromkeys(keys) if k is not None and k not in before]
        events = self._recorded(unknown, at, store)
        conflicts: list[tuple[int, Row, str]] = []
        problems: list[Problem] = []
        own: dict[str | None, int] = {}
        first: Found | None
        for place, (request, key) in enumerate(zip(requests, keys, strict=True)):
            row, first = request, None
            if key in before:
                batch, asked = made.before[place] = before[key]
                first = batch.requests[asked], "was asked"
            elif key in own:
                made.twin[place] = own[key]
                first = self._whole(requests[own[key]]), "stands before"
            elif key is not None:
                own[key], first = place, events.get(key)
            if first is not None:
                if self.same.differing(first[0], request):
                    conflicts.append((place, *first))
                    continue
                row = self._taken_over(row, first[0])
            row = self._filled(row)
            if place in made.twin:
                continue
            instant = before[key][0].at if key in before else at
            problem, note = (None, None) if key is None else self._judged(row, instant)
            if note is not None:
                made.notes[place] = note
            if key in before:
                continue
            if problem is not None and first is None:
                prefix = f"requests[{place}]." if len(requests) > 1 else ""
                problems.append(replace(problem, field=prefix + problem.field))
                continue
            made.places.append(place)
            made.rows.append(row)
            is_event = note is None or not note.startswith(_NO_EVENT)
            made.recorded.append(key is not None and first is None and is_event)
        made.notes |= {p: made.notes[q] for p, q in made.twin.items() if q in made.notes}
        self.same.refuse(requests, conflicts)
        if problems:
            raise RequestInvalid(self.same.where, problems[:20])
        return made

    def answered(self, keys: set[str]) -> dict[str | None, Place]:
        """Return the first answers to the requests of these ids."""
        name = self._model.name
        found: dict[str | None, Place] = {
            key: first for key in keys if (first := self._recent.first(name, key))
        }
        older = sorted(key for key in keys if key not in found)
        if older and self._answers is not None:
            try:
                logged = self._answers.answered(name, older)
                read = {key: self._read(row) for key, row in logged.items()}
            except Exception as broken:  # noqa: BLE001 - a store may fail in any way; one answer
                self._faults("answers", broken)
            else:
                for key, one in read.items():
                    if one is not None:  # it is among the recent ones from now on
                        found[key] = self._recent.keep(one[0], [key]).get(0, one)
        return found

    def _recorded(self, keys: Sequence[str], at: Micros, store: Store | None) -> dict[str, Found]:
        """Return the events that have these ids, as far as they are known."""
        found: dict[str, Found] = {}
        for key in keys:
            for other in self._others:
                first = self._recent.first(other, key)
                if first is not None:
                    found[key] = first[0].requests[first[1]], f"was asked of {other!r}"
        left = [key for key in keys if key not in found]
        if left and store is not None and self._events is not None:
            try:
                with store.reader() as reader:
                    events = self._events.recorded(reader, self._source.name, left, at)
            except Exception as broken:  # noqa: BLE001 - a store may fail in any way; one answer
                self._faults("store", broken)
            else:
                found |= {key: (event, "came as an event") for key, event in events.items()}
        return found

    def _judged(self, row: Request, at: Micros) -> tuple[Problem | None, str | None]:
        """Return what forbids the request, and what the user must know of its event."""
        source = self._source
        said = self.completed(row, at)
        refusal = self._door.refusal(self._encode(said), at)
        if refusal is None:
            late = at - to_micros(said[source.event_time]) - source.lateness_us
            if late > 0:
                return None, (
                    f"too late: the request's event is {format_duration(late)} beyond the lateness "
                    f"of {source.name!r}, and counts in no feature"
                )
            return None, None
        reason, detail = refusal
        kind, _, name = reason.partition(":")
        if kind == "missing_field":
            return None, f"{_NO_EVENT} of {source.name!r}: {name} is missing"
        if reason == "future":
            allowed = f"at most {format_duration(source.clock_skew_us)} ahead of the present"
            return Problem(source.event_time, detail, allowed), None
        return Problem(name or "body", detail, f"an event of {source.name!r}"), None

    def _filled(self, request: Request) -> Request:
        """Return a request with the defaults of what it does not have, as its event has them.

        Null says nothing for a field that cannot be null.
        """
        absent = {
            f.name: f.filler
            for f in self._optional
            if f.name not in request or (request[f.name] is None and not f.nullable)
        }
        return {**request, **absent} if absent else request

    def _whole(self, request: Request) -> Request:
        """Return a request with every field of the event, None for what it does not say."""
        return {**dict.fromkeys(self._names), **self._filled(request)}

    def completed(self, row: Request, at: Micros) -> Request:
        """Return a request with its absent clocks at the instant at which it is asked."""
        now = from_micros(at)
        return {**row, **{name: now for name in self._clocks if row.get(name) is None}}

    def _taken_over(self, row: Request, event: Row) -> Request:
        """Return a request with what its event says and it does not."""
        return {**row, **{n: v for n, v in event.items() if row.get(n) is None}}

    def _read(self, row: Mapping[str, Any]) -> Place | None:
        """Return a logged answer as it was given; None where the request had no id."""
        request = self._reader.logged(row["request"])
        if request is None or self.same.key(request) is None:
            return None
        values = row["features"] or []
        names = tuple(row.get("names") or self._model.feature_names())
        if len(names) != len(values):
            names = ()
        categories = {name: [request.get(name)] for name in names if name in self._texts}
        logged = filter(None, str(row["degraded"] or "").split(","))
        causes = [cause for cause in logged if not cause.startswith("shadow_")]
        return Predictions(
            model=self._model.name,
            at=to_micros(row["at"]),
            ids=[row["prediction_id"]],
            request_ids=[row["request_id"]],
            requests=[self._whole(request)],
            offsets={s: row.get(f"offset_{s}") for s in self._predictor.sources},
            features=Features(np.array([values], dtype=np.float64), categories),
            definitions=row["definitions"],
            names=names,
            arms=[row["arm"]],
            versions=[row["version"]],
            scores=[row["score"]],
            thresholds=[row["threshold"]],
            degraded=[causes],
            latency=Latency(
                row["latency_features_us"], row["latency_model_us"], row["latency_total_us"]
            ),
        ), 0


_NO_EVENT = "no event"
