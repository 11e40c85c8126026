"""The time machine: the whole system over its log, on a virtual clock.

The log holds the history with the instants at which it became known. A replay reads it up to a
clock that it moves itself, so nothing later than the clock is ever seen, and runs every stage
through the code that serves live. It can be killed at any instant and run again: it goes on with
the step that was not completed, and ends in the same journal, lake and models.
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
from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import short_digest
from homeostat.core.store import Writer
from homeostat.declare.system import System
from homeostat.runtime.engine import Engine
from homeostat.runtime.home import Home
from homeostat.runtime.loop import Intervention
from homeostat.runtime.timeline import Timeline
from homeostat.runtime.worker import Counts, Pending
from homeostat.serve.predictions import Predictions, frame_of
from homeostat.serve.predictor import Batch, Predictor

__all__ = ["Progress", "Replayed", "Schedule", "Span", "prediction_id", "replay"]


WHOLE = 2**31
"""A step takes every record of its span: its requests are asked in the order of all sources."""


@dataclass(frozen=True, slots=True)
class Span:
    """One step of time: what became known in [begin, end) is folded, and asked in order.

    With `flush` it ends in a commit of the lake; the predictions since `audit_from` are audited.
    """

    step: int
    begin: Micros
    end: Micros
    flush: bool
    audit_from: Micros | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything before `start` is history; then steps of `every` until `end`.

    The lake is committed every `flush_every` steps.
    """

    start: Micros
    end: Micros
    every: Micros
    flush_every: int = 1

    def __post_init__(self) -> None:
        if not (self.start < self.end and self.every > 0 and self.flush_every > 0):
            raise HomeostatError(
                f"replay from {self.start} to {self.end} every {self.every} microseconds; "
                "allowed: an end after the start, and a step longer than nothing; check the dates"
            )

    @property
    def steps(self) -> int:
        """The number of steps after the history."""
        return -(-(self.end - self.start) // self.every)

    def start_of(self, step: int) -> Micros:
        """Return the instant at which a step begins; step 0 ends at `start`."""
        return self.start + (step - 1) * self.every

    def span(self, step: int) -> Span:
        """Return one step of time."""
        begin = self.start_of(step)
        last = step == self.steps
        end = self.end if last else begin + self.every
        flush = last or step % self.flush_every == 0
        since = self.start_of(step - (step - 1) % self.flush_every) if flush and step else None
        return Span(step, begin, end, flush, since)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is: the instant, the steps, and what the last step did."""

    phase: str
    at: Micros
    step: int
    steps: int
    records: int
    predictions: int
    decisions: tuple[Decision, ...] = ()


@dataclass
class Replayed:
    """What this run of a replay did; the home holds the whole."""

    steps: int = 0
    predictions: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)


def replay(
    system: System,
    home: Home,
    schedule: Schedule,
    *,
    interventions: Iterable[Intervention] = (),
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Replayed:
    """Run, or go on with, the replay of a home's log.

    Args:
        system: the declarations.
        home: a home whose log holds the history with its known times.
        schedule: when the history ends, and the steps from there.
        interventions: challengers that are submitted by hand on the way.
        progress: told after each chunk of history and each step.
    """
    engine = Engine(system, home, timed=False, interventions=interventions)
    engine.resume(Timeline(schedule.start, schedule.every))
    run = _Run(engine)
    done, cursor = Replayed(), engine.cursor()
    if cursor is None:
        read = 0

        def told(records: int) -> None:
            nonlocal read
            read += records
            progress(Progress("history", schedule.start, 0, schedule.steps, read, 0))

        done.counts = run.history(schedule.start, told)
        cursor = -1
    for step in range(cursor + 1, schedule.steps + 1):
        span = schedule.span(step)
        result = run.step(span)
        done.steps += 1
        done.predictions += result.predictions
        # Served, the home lives on from where the replay has come to.
        Timeline(schedule.start, schedule.every, span.end).save(home.folder)
        for source, counts in result.counts.items():
            done.counts.setdefault(source, Counts()).add(counts)
        progress(
            Progress(
                "replay", span.end, step, schedule.steps, 0, done.predictions,
                tuple(result.decisions),
            )
        )  # fmt: skip
    return done


@dataclass
class _Done:
    predictions: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)


class _Run:
    """The steps of a replay; the store's transaction spans each (docs/decisions/0003)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # A virtual clock stands still while a request is answered, so no deadline can pass.
        self._predictors = [
            Predictor(engine.system, replace(deployment, deadline="365d"))
            for deployment in engine.system.deployments
        ]

    def history(self, until: Micros, progress: Callable[[int], None]) -> dict[str, Counts]:
        """Fold everything known before `until`, chunk by chunk; each chunk is committed."""
        engine = self._engine
        counts = {source.name: Counts() for source in engine.system.sources}
        for source in engine.system.sources:
            while True:
                with engine.home.store.writer() as writer:
                    pending = engine.worker.load(writer, source, until)
                    pending.finish(writer)
                if not len(pending.log_offsets):
                    break
                counts[source.name].add(pending.counts)
                engine.learn(pending)
                progress(len(pending.log_offsets))
            engine.worker.lake.flush()
        return counts

    def step(self, span: Span) -> _Done:
        """Run one step to its end, durably."""
        engine, done = self._engine, _Done()
        with engine.home.store.writer() as writer:
            pendings = [
                engine.worker.load(writer, source, span.end, limit=WHOLE)
                for source in engine.system.sources
            ]
            for model, frame in self._answers(writer, pendings):
                engine.home.predictions.put(model, span.step, 0, frame)
                done.predictions += frame.height
            for pending in pendings:
                pending.finish(writer)
                done.counts[pending.source.name] = pending.counts
                engine.learn(pending)
            now = engine.now(span.step, span.end, span.audit_from, writer)
            done.decisions = engine.loop.step(now)
            if span.flush:
                engine.worker.lake.flush()
                engine.flush_predictions()
            engine.complete(writer, span.step)
        return done

    def _answers(
        self, writer: Writer, pendings: Sequence[Pending]
    ) -> Iterable[tuple[str, pl.DataFrame]]:
        """Ask every request of the span at its instant, from what is known strictly before."""
        loop = self._engine.loop
        by_source = {pending.source.name: pending for pending in pendings}
        asked = [p for p in self._predictors if loop.state(p.model.name).champion is not None]
        if not asked:
            return
        streams = [by_source[p.model.label.predicts.name] for p in asked]
        instants = np.unique(np.concatenate([stream.known for stream in streams]))
        ends = [(pending, *pending.ends(instants)) for pending in pendings]
        requests = [_groups(stream, instants) for stream in streams]
        routes = [loop.route(p.model.name) for p in asked]
        answered: list[list[Predictions]] = [[] for _ in asked]
        for i, at in enumerate(instants.tolist()):
            for pending, events, records in ends:
                pending.advance(writer, int(events[i]), int(records[i]))
            for n, predictor in enumerate(asked):
                group = requests[n][i]
                if group:
                    key = predictor.model.label.predicts.event_id
                    ids = [prediction_id(predictor.model.name, str(r[key]), at) for r in group]
                    batch = Batch(group, at, ids)
                    reads = predictor.read(writer, batch, routes[n])
                    found = predictor.answers(reads, batch, routes[n])
                    answered[n] += [predictor.shadow(one, routes[n]) for one in found]
        for predictor, batches in zip(asked, answered, strict=True):
            if batches:
                yield predictor.model.name, frame_of(batches, predictor.sources)


def prediction_id(model: str, request_id: str, at: Micros) -> str:
    """Return the id of the answer to one request at one instant; the same in every run."""
    return short_digest([model, request_id, str(at)])


def _groups(pending: Pending, instants: npt.NDArray[np.int64]) -> list[list[Mapping[str, object]]]:
    """Return, per instant, the requests that became known at it."""
    fields = list(pending.source.schema.names())
    requests: list[Mapping[str, object]] = list(pending.events.select(fields).to_dicts())
    bounds = np.searchsorted(pending.known, instants, side="left").tolist()
    return [requests[a:b] for a, b in pairwise([*bounds, len(requests)])]
