"""One step of the running system: fold what became known, answer what was asked, then the loop.

The online store's transaction spans the step and commits last (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.core.hashing import short_digest
from homeostat.core.store import Writer
from homeostat.declare.system import System
from homeostat.runtime.home import Home
from homeostat.runtime.loop import Intervention, Loop
from homeostat.runtime.observe import Now
from homeostat.runtime.worker import Counts, FoldWorker, Pending
from homeostat.serve.predictions import Predictions, frame_of
from homeostat.serve.predictor import Predictor

__all__ = ["Engine", "Span", "StepDone"]

CURSOR = b"step"
WHOLE = 2**31
"""A step takes every record of its span: its requests are asked in the order of all sources."""


@dataclass(frozen=True, slots=True)
class Span:
    """One step of time: what became known in [begin, end) is folded, and asked in order."""

    step: int
    begin: Micros
    end: Micros
    flush: bool


@dataclass
class StepDone:
    """What one step did."""

    predictions: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)


class Engine:
    """Drives worker, predictors and loop through steps of a virtual clock.

    Args:
        system: the declarations.
        home: where everything is kept.
        interventions: challengers that are submitted by hand on the way.
    """

    def __init__(
        self,
        system: System,
        home: Home,
        *,
        interventions: Iterable[Intervention] = (),
    ) -> None:
        self._system, self._home = system, home
        self.worker = FoldWorker(system, home.log, home.lake, home.letters)
        self.loop = Loop(system, home, self._flush, timed=False, interventions=interventions)
        # A virtual clock stands still while a request is answered, so no deadline can pass.
        self._predictors = [
            Predictor(system, replace(deployment, deadline="365d"))
            for deployment in system.deployments
        ]
        self._unflushed: dict[str, int] = {}
        self._last_known: dict[str, Micros] = {}
        self._outcomes = {d.model.name: d.model.label.outcome.name for d in system.deployments}

    def cursor(self) -> int | None:
        """Return the last step that was completed, None before the first."""
        with self._home.store.reader() as reader:
            raw = reader.get(CURSOR)
        return None if raw is None else int.from_bytes(raw, "big", signed=True)

    def resume(self, start_of: Callable[[int], Micros]) -> None:
        """Take up what earlier processes left: buffers, journal, predictions, outcomes."""
        done = self.cursor()
        if done is None:
            self.loop.restore(0)
            return
        with self._home.store.writer() as writer:
            self.worker.resume(writer)
        self.loop.restore(done + 1)
        for predictor in self._predictors:
            name = predictor.model.name
            record = self.loop.observer.records[name]
            for step, frame in self._home.predictions.frames(name, 0, done + 1):
                record.add_predictions(start_of(step), frame)
            for events in self._known_outcomes(self._outcomes[name]):
                record.add_outcomes(events)
            self._unflushed[name] = (
                self._home.lake.application_version(_table(name), f"log/{name}") + 1
            )
        with self._home.store.reader() as reader:
            for source in self._system.sources:
                self._heard(source.name, self.worker.last_known(reader, source.name))

    def _known_outcomes(self, source: str) -> Iterable[pl.DataFrame]:
        yield self._home.lake.read(source)
        tail = self.worker.tail(source)
        if tail is not None:
            yield tail

    def history(self, until: Micros, progress: Callable[[int], None]) -> dict[str, Counts]:
        """Fold everything known before `until`, chunk by chunk; each chunk is committed."""
        counts = {source.name: Counts() for source in self._system.sources}
        for source in self._system.sources:
            while True:
                with self._home.store.writer() as writer:
                    pending = self.worker.load(writer, source, until)
                    pending.finish(writer)
                if not len(pending.log_offsets):
                    break
                counts[source.name].add(pending.counts)
                self._learn(pending)
                progress(len(pending.log_offsets))
        return counts

    def run(self, span: Span) -> StepDone:
        """Run one step to its end, durably."""
        done = StepDone()
        with self._home.store.writer() as writer:
            pendings = [
                self.worker.load(writer, source, span.end, limit=WHOLE)
                for source in self._system.sources
            ]
            for model, frame in self._answers(writer, pendings):
                self._home.predictions.put(model, span.step, 0, frame)
                self.loop.observer.records[model].add_predictions(span.begin, frame)
                done.predictions += frame.height
            for pending in pendings:
                pending.finish(writer)
                done.counts[pending.source.name] = pending.counts
                self._learn(pending)
            now = Now(span.step, span.end, self._last_known)
            done.decisions = self.loop.step(now)
            if span.flush:
                self._flush()
                self._flush_predictions(span.step)
            writer.put(CURSOR, span.step.to_bytes(8, "big", signed=True))
        return done

    def _answers(
        self, writer: Writer, pendings: Sequence[Pending]
    ) -> Iterable[tuple[str, pl.DataFrame]]:
        """Ask every request of the span at its instant, from what is known strictly before."""
        by_source = {pending.source.name: pending for pending in pendings}
        asked = [
            (p, by_source[p.model.label.predicts.name])
            for p in self._predictors
            if self.loop.state(p.model.name).champion is not None
        ]
        instants = np.unique(np.concatenate([p.known for _, p in asked] or [np.empty(0, np.int64)]))
        ends = [(pending, *pending.ends(instants)) for pending in pendings]
        rows = {p.model.name: _groups(pending, instants) for p, pending in asked}
        answered: dict[str, list[Predictions]] = {p.model.name: [] for p, _ in asked}
        routes = {p.model.name: self.loop.route(p.model.name) for p, _ in asked}
        for i, at in enumerate(instants.tolist()):
            for pending, events, records in ends:
                pending.advance(writer, int(events[i]), int(records[i]))
            for predictor, _ in asked:
                name = predictor.model.name
                requests = rows[name][i]
                if requests:
                    key = predictor.model.label.predicts.event_id
                    ids = [short_digest([name, str(r[key]), str(at)]) for r in requests]
                    answered[name].append(
                        predictor.predict(writer, requests, at, routes[name], ids)
                    )
        for predictor, _ in asked:
            name = predictor.model.name
            if answered[name]:
                yield name, frame_of(answered[name], predictor.sources)

    def _learn(self, pending: Pending) -> None:
        """Note what was folded: when a source was heard of, and the outcomes of labels."""
        if len(pending.known):
            self._heard(pending.source.name, int(pending.known[-1]))
        for model, outcome in self._outcomes.items():
            if outcome == pending.source.name:
                self.loop.observer.records[model].add_outcomes(pending.events)

    def _heard(self, source: str, known: Micros | None) -> None:
        if known is not None:
            self._last_known[source] = max(known, self._last_known.get(source, known))

    def _flush(self) -> None:
        self.worker.flush()

    def _flush_predictions(self, step: int) -> None:
        """Commit the predictions of the steps since the last flush to the lake."""
        for predictor in self._predictors:
            name = predictor.model.name
            first = self._unflushed.get(name, 0)
            frames = [f for _, f in self._home.predictions.frames(name, first, step + 1)]
            if frames:
                self._home.lake.append(
                    _table(name), pl.concat(frames), f"log/{name}", step, day="at"
                )
            self._unflushed[name] = step + 1


def _table(model: str) -> str:
    return f"predictions_{model}"


def _groups(pending: Pending, instants: npt.NDArray[np.int64]) -> list[list[Mapping[str, object]]]:
    """Return, per instant, the requests that became known at it."""
    fields = list(pending.source.schema.names())
    requests: list[Mapping[str, object]] = list(pending.events.select(fields).to_dicts())
    bounds = np.searchsorted(pending.known, instants, side="left").tolist()
    return [requests[a:b] for a, b in pairwise([*bounds, len(requests)])]
