"""The live system: events are folded as they come, requests answered, and the loop kept going."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from threading import Event, RLock
from time import perf_counter

import msgspec
import polars as pl

from homeostat.core.clock import SteadyClock
from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import short_digest
from homeostat.declare.log_keep import LogKeep
from homeostat.declare.system import System
from homeostat.runtime.archiving import Archiver, archived
from homeostat.runtime.backlog import Backlog
from homeostat.runtime.engine import Engine
from homeostat.runtime.events_by_id import EventsById
from homeostat.runtime.home import Home
from homeostat.runtime.lifecycle import Lifecycle
from homeostat.runtime.loop import Loop
from homeostat.runtime.orders import Orders
from homeostat.runtime.tallies import add_refused
from homeostat.runtime.timeline import Timeline
from homeostat.runtime.trimming import LogTrimmer
from homeostat.runtime.upkeep import tidy
from homeostat.runtime.worker import Counts
from homeostat.serve.metrics import Metrics
from homeostat.serve.predictions import Predictions, frame_of
from homeostat.serve.predictor import Predictor
from homeostat.serve.routing import Route
from homeostat.serve.seam import Ingested
from homeostat.serve.service import LocalService, ServiceParts

__all__ = ["Live", "Ticked"]

FLUSH_ROWS, FLUSH_BYTES = 400_000, 64 << 20
"""The lake is committed when this many events wait, or so much text, and at every step of the loop.

What waits is in the log: after a crash it is decoded again.
"""

BUSY, OVERDUE = 10_000, 4_000_000
"""A pass that folded so many records writes no raw table, unless so many wait for that."""

TOLERATED = 1_000_000
"""A clock may be set back by so many microseconds without a word."""

LONGEST_REST_S = 60.0
"""A loop that keeps failing tries again at least this often."""


@dataclass
class Ticked:
    """What one pass did."""

    predictions: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)


class ClockWentBack(HomeostatError):
    """The machine's clock shows an earlier instant than before."""

    retryable = True

    def __init__(self, behind: Micros) -> None:
        super().__init__(
            f"clock: it went back by {behind / 1e6:,.1f} s; allowed: a clock that goes forward; "
            "time stands until it has caught up, and events are taken in meanwhile; set the "
            "machine's clock by a time service that slews"
        )


class Live:
    """One home, live: `tick` folds, logs and decides; `service` answers from any thread.

    Args:
        system: the declarations.
        home: where everything is kept.
        timeline: the steps of the loop.
        clock: tells the present instant.
        keep: how long the log keeps what was folded; None for ever.
    """

    def __init__(
        self,
        system: System,
        home: Home,
        timeline: Timeline,
        clock: SteadyClock,
        keep: LogKeep | None = None,
    ) -> None:
        self.system, self.home, self.timeline, self.clock = system, home, timeline, clock
        self.metrics = Metrics()
        self._engine = Engine(system, home, timed=True, faults=self.metrics.fault)
        self._orders = Orders(home.folder / "meta.db")
        self._backlog = Backlog.of(home)
        self._archiver = Archiver(home, archived(system, home.storage, keep))
        self._archiver.aim()
        self._trimmer = LogTrimmer(home, keep, self._archiver)
        self._trimmer.aim(clock.now())
        self._lifecycle = Lifecycle(system, home)
        self._asked: deque[Predictions] = deque()
        self._lock = RLock()
        self._serial = count(1)
        self._routes: dict[str, Route] = {}
        self._refused: dict[tuple[str, str], int] = {}
        self._is_behind = False
        self._events = EventsById(system, home)
        self._resume()
        self.service = LocalService(
            ServiceParts(
                system=system,
                predictors={
                    d.model.name: Predictor(system, d, faults=self.metrics.fault)
                    for d in system.deployments
                },
                routes=self.route,
                store=home.store,
                clock=clock,
                ids=self._next_id,
                log=self,
                metrics=self.metrics,
                ingest=self.ingest,
                events=self._events,
            )
        )

    @property
    def loop(self) -> Loop:
        """The loop, for its states and packages."""
        return self._engine.loop

    def _resume(self) -> None:
        """Go on after the last journaled step; finish a training that was cut off."""
        journaled = self.home.journal.last_step()
        done = self._engine.cursor()
        if journaled is not None and (done is None or journaled > done):
            with self.home.store.writer() as writer:
                self._engine.complete(writer, journaled)
        self._engine.resume(self.timeline.start_of)
        step = self._engine.cursor()
        if step is not None:
            self.loop.finish(self._engine.now(step, self.clock.now()))
        self._reroute()

    def _reroute(self) -> None:
        self._engine.follow()
        self._routes = {
            d.model.name: self.loop.route(d.model.name) for d in self.system.deployments
        }

    def route(self, model: str) -> Route:
        """Return which versions answer a model's requests now."""
        return self._routes[model]

    def _next_id(self) -> str:
        # Without the lock: a training holds it, and users are answered meanwhile.
        return short_digest([self.system.name, str(self.clock.now()), str(next(self._serial))])

    def append(self, predictions: Predictions) -> None:
        """Take predictions for the log; the next tick writes them."""
        self._asked.append(predictions)

    def ingest(self, source: str, payloads: Sequence[bytes]) -> Ingested:
        """Append events that are received now; raise `Behind` while too many wait."""
        self._backlog.admit(source)
        known = [self.clock.now()] * len(payloads)
        first = self.home.log.append(source, known, payloads)
        self._events.pushed(source, first, payloads)
        return Ingested(source, first, len(payloads))

    def tick(self) -> Ticked:
        """Write down what was answered, fold what became known, and step the loop if it is due."""
        with self._lock:
            done, now = self.fold(), self.clock.now()
            ended = self.timeline.step_of(now) - 1
            last = self._engine.cursor()
            if last is None or ended > last:
                done.decisions = self.step(ended, now)
                tidy(self.home.lake)
            done.decisions += self._carry_out()
            self._archive(sum(counts.total for counts in done.counts.values()))
            self._trimmer.bite()
            self._engine.sweep()
            return done

    def _carry_out(self) -> list[Decision]:
        """Do what was asked for by hand from another process."""
        made: list[Decision] = []
        for order in self._orders.take():
            try:
                found = self.by_hand(order.model, order.action, order.reason)
            except HomeostatError as refused:
                self._orders.finish(order.id, refused)
            else:
                self._orders.finish(order.id, found)
                made += found
        return made

    def fold(self) -> Ticked:
        """Write down what was answered, and fold what became known, up to a chunk per source."""
        with self._lock:
            done = Ticked(predictions=self._log_predictions())
            now, began = self.clock.now(), perf_counter()
            self._watch_clock()
            refused = self.metrics.refused()
            with self.home.store.writer() as writer:
                more = {key: n - self._refused.get(key, 0) for key, n in refused.items()}
                add_refused(writer, now, {key: n for key, n in more.items() if n})
                for source in self.system.sources:
                    pending = self._engine.worker.load(writer, source, now + 1)
                    pending.finish(writer)
                    self._engine.learn(pending)
                    done.counts[source.name] = pending.counts
            self._refused = refused
            for name, counts in done.counts.items():
                if counts.total:
                    self._backlog.folded(name, counts.total, perf_counter() - began)
                    self.metrics.folded(name, counts.as_json(), self._backlog.waiting(name))
            self._engine.worker.lake.flush_behind(FLUSH_ROWS, FLUSH_BYTES)
            return done

    def _watch_clock(self) -> None:
        """Say once that the machine's clock went back; time stands until it has caught up."""
        behind = self.clock.behind()
        if behind > TOLERATED and not self._is_behind:
            self.metrics.fault("clock", ClockWentBack(behind))
        self._is_behind = behind > TOLERATED

    def step(self, step: int, at: Micros) -> list[Decision]:
        """Run one step of the loop, durably."""
        with self._lock:
            since = self.timeline.start_of(step)
            self._engine.worker.lake.settle()
            decisions = self.loop.step(self._engine.now(step, at, since))
            self._engine.worker.lake.flush()
            ended = self.timeline.step_of(self.clock.now()) - 1
            self._engine.flush_predictions(min(step, ended))  # a step under way gets more
            with self.home.store.writer() as writer:
                self._engine.complete(writer, step)
            self._reroute()
            self._archiver.aim()
            self._trimmer.aim(at)
            self._let_go(at)
            return decisions

    def trim(self) -> int:
        """Let the log go of all that it need not keep; return how many records."""
        with self._lock:
            self._engine.worker.lake.flush()
            self._archiver.finish()
            self._trimmer.aim(self.clock.now())
            gone = 0
            while bite := self._trimmer.bite():
                gone += bite
            return gone

    def _archive(self, folded: int) -> None:
        """Write a batch into a raw table; what fails is tried again at the next step.

        When all is written, the log may let go of it. A pass that folded many leaves it to a later
        one, unless too many wait: then as many are written as were folded.
        """
        if folded >= BUSY and self._archiver.waiting < OVERDUE:
            return
        try:
            written = sum(self._archiver.bite().values())
            while self._archiver.waiting and written < folded:
                written += sum(self._archiver.bite().values())
            if written and not self._archiver.waiting:
                self._engine.worker.lake.settle()
                self._trimmer.aim(self.clock.now())
        except Exception as broken:  # noqa: BLE001 - events are folded though a place is down
            self.metrics.fault("raw", broken)

    def _let_go(self, at: Micros) -> None:
        """Move and delete the days whose time has come; what fails is tried at the next step."""
        try:
            self._lifecycle.step(at)
        except Exception as broken:  # noqa: BLE001 - users are answered though a place is down
            self.metrics.fault("retention", broken)

    def step_now(self) -> list[Decision]:
        """Run the loop at once, as a part of the present step."""
        with self._lock:
            now = self.clock.now()
            return self.step(max(self.timeline.step_of(now), self._last_step()), now)

    def _last_step(self) -> int:
        last = self._engine.cursor()
        return 0 if last is None else last

    def by_hand(self, model: str, action: str, reason: str) -> list[Decision]:
        """Carry out what a person asks for: "train" or "rollback"."""
        with self._lock:
            now = self._engine.now(self._last_step(), self.clock.now())
            if action == "train":
                made = self.loop.train(model, reason, now)
            else:
                back = self.loop.roll_back(model, reason, now)
                made = [] if back is None else [back]
            self._reroute()
            return made

    def flush(self) -> None:
        """Bring everything answered and folded into the prediction log and the lake."""
        with self._lock:
            self._log_predictions()
            self._engine.worker.lake.flush()

    def drain(self) -> dict[str, Counts]:
        """Fold everything that is known now; return the counts by source. The loop stands still."""
        totals = {source.name: Counts() for source in self.system.sources}
        while True:
            counts = self.fold().counts
            for name, found in counts.items():
                totals[name].add(found)
            if not any(c.total for c in counts.values()):
                break
        with self._lock:
            self._engine.worker.lake.settle()
        return totals

    def _log_predictions(self) -> int:
        """Write answered requests to the log of their own source, and to the prediction log.

        What cannot be written is kept for the next time: a request that is then in its log already
        is a duplicate there.
        """
        batches: dict[str, list[Predictions]] = {}
        while self._asked:
            predictions = self._asked.popleft()
            batches.setdefault(predictions.model, []).append(predictions)
        step = self.timeline.step_of(self.clock.now())
        rows = 0
        try:
            for name, kept in list(batches.items()):
                frame = frame_of(kept, self.service.predictor(name).sources)
                self._remember_requests(name, frame, kept)
                part = self.home.predictions.next_part(name, step)
                self.home.predictions.put(name, step, part, frame)
                del batches[name]
                self._engine.loop.observer.records[name].add_predictions(kept[0].at, frame)
                rows += frame.height
        finally:
            self._asked.extendleft(reversed([one for kept in batches.values() for one in kept]))
        return rows

    def _remember_requests(
        self, model: str, frame: pl.DataFrame, kept: Sequence[Predictions]
    ) -> None:
        """A request is an event of the label's source, unless its answer says that it is none."""
        source = self.system.model(model).label.predicts
        known: list[int] = []
        payloads: list[bytes] = []
        recorded = [is_one for p in kept for is_one in p.recorded or [True] * len(p)]
        rows = zip(frame["at"].dt.epoch("us").to_list(), frame["request"], recorded, strict=True)
        for at, text, is_one in rows:
            request = msgspec.json.decode(text)
            if is_one and request.get(source.event_id) is not None:
                known.append(at)
                payloads.append(text.encode())
        if payloads:
            self.home.log.append(source.name, known, payloads)

    def run(
        self,
        stop: Event,
        pause_s: float,
        told: Callable[[Ticked | Exception], None] = lambda done: None,
    ) -> None:
        """Tick until `stop` is set, resting `pause_s` between passes that found nothing.

        A pass that fails is counted as a fault of the loop and tried again, at longer and longer
        intervals: users are answered meanwhile. `told` hears of every pass.
        """
        rest = pause_s
        while not stop.is_set():
            try:
                done = self.tick()
            except Exception as broken:  # noqa: BLE001 - the loop outlives any failure of a pass
                self.metrics.fault("loop", broken)
                told(broken)
                rest = min(max(2 * rest, pause_s), LONGEST_REST_S)
                stop.wait(rest)
                continue
            told(done)
            rest = pause_s
            busy = done.predictions or any(c.total for c in done.counts.values())
            if not busy:
                stop.wait(pause_s)

    def close(self) -> None:
        """Write down what is still in memory."""
        self.service.close()
        self.flush()
        self._orders.close()
