"""The live system: events are folded as they come, requests answered, and the loop kept going."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from threading import Event, RLock, Thread, current_thread
from time import perf_counter
from typing import Any

from homeostat.core.allocators import give_back
from homeostat.core.clock import SteadyClock
from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import short_digest
from homeostat.declare.log_keep import LogKeep
from homeostat.declare.system import System
from homeostat.monitor.findings import Finding
from homeostat.runtime.applying_beside import apply_beside
from homeostat.runtime.archiving import Archiver, archived
from homeostat.runtime.background import Background
from homeostat.runtime.backlog import Backlog
from homeostat.runtime.clock_watch import ClockWatch
from homeostat.runtime.engine import Engine
from homeostat.runtime.events_by_id import EventsById
from homeostat.runtime.feed_health import FeedHealth
from homeostat.runtime.fold_progress import FoldProgress
from homeostat.runtime.home import Home
from homeostat.runtime.lifecycle import Lifecycle
from homeostat.runtime.loop import Loop
from homeostat.runtime.observe import Now
from homeostat.runtime.one_present import require_present
from homeostat.runtime.orders import Order, Orders
from homeostat.runtime.own_process import LARGE, DeclaredOtherwise
from homeostat.runtime.prediction_history import FLUSH_ROWS
from homeostat.runtime.prediction_writer import LogPredictions, PredictionWriter
from homeostat.runtime.request_names import known_before
from homeostat.runtime.restart import StartedOtherwise, begun, restart_note
from homeostat.runtime.tallies import add_refused
from homeostat.runtime.timeline import Timeline
from homeostat.runtime.trainings import Outcome, Training, go_through, sentence_of
from homeostat.runtime.trimming import LogTrimmer
from homeostat.runtime.upkeep import tidy, untidy
from homeostat.runtime.upkeep_process import UpkeepProcess
from homeostat.runtime.worker import Counts
from homeostat.serve.metrics import Metrics
from homeostat.serve.predictions import Predictions
from homeostat.serve.predictor import Predictor
from homeostat.serve.routing import Route
from homeostat.serve.seam import Ingested
from homeostat.serve.service import LocalService, ServiceParts

__all__ = ["Live", "Ticked"]

FLUSH_EVENTS, FLUSH_BYTES = 400_000, 64 << 20
"""The lake is committed when this many events wait, or so much text, and at every step of the loop.

What waits is in the log: after a crash it is decoded again.
"""

BUSY, OVERDUE = 10_000, 4_000_000
"""A pass that folded so many records writes no raw table, unless so many wait for that."""

LONGEST_REST_S = 60.0
"""A loop that keeps failing tries again at least this often."""


@dataclass
class Ticked:
    """What one pass did."""

    predictions: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)


class Live:
    """One home, live: `tick` folds, logs and decides; `service` answers from any thread.

    Args:
        system: the declarations.
        home: where everything is kept.
        timeline: the steps of the loop.
        clock: tells the present instant.
        keep: how long the log keeps what was folded; None for ever.
        log_predictions: "sync" lets an answer leave when it is durable; "soon" before.
    """

    def __init__(
        self,
        system: System,
        home: Home,
        timeline: Timeline,
        clock: SteadyClock,
        keep: LogKeep | None = None,
        log_predictions: LogPredictions = "soon",
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
        # Held by the fold alone, and never for long. Whoever holds `_stepping` (a step, upkeep) may
        # take it, and the loop's own lock; never the other way round.
        self._lock, self._stepping = RLock(), RLock()
        self._background: Background | None = None
        self._told: deque[Decision] = deque()
        self._ordering = RLock()
        self._waiting_orders: dict[str, tuple[int, list[Decision]]] = {}
        self._loop_threads: set[Thread] = set()
        self._trainer: Callable[[Training, Event], Outcome | None] | None = None
        self._records, self._has_finished = 0, False
        self._serial, self._stop = count(1), Event()
        self._stopped, self._applying = Event(), list[Thread]()
        self._routes: dict[str, Route] = {}
        self._refused: dict[tuple[str, str], int] = {}
        self._clock_watch = ClockWatch(clock)
        self.feeds = FeedHealth(home.folder, clock)
        self._progress = FoldProgress(home, clock, lambda: self.metrics.last_faults.get("loop"))
        self._restart = ""
        begun(home.folder, system)
        home.predictions.index([model.name for model in system.models], clock.now())
        self._events = EventsById(system, home, self._engine.worker)
        self._resume()
        self._writer = PredictionWriter(
            system,
            home.predictions.store,
            home.log,
            step=lambda: timeline.step_of(clock.now()),
            sources=lambda name: self.service.predictor(name).sources,
            faults=self.metrics.fault,
            log_predictions=log_predictions,
        )
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
                answers=self,
                former=known_before(system, home.schemas, self.loop.state, self.loop.arms.package),
                sync=log_predictions == "sync",
                stands=self._progress.stands,
                notes=self.feeds.notes,
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
        self._engine.resume(self.timeline)
        self._reroute()

    def finish(self) -> list[Decision]:
        """Begin again the trainings that were cut off; reject those that were too often."""
        made = self.loop.finish(self._now(), self._start())
        self._reroute()
        return made

    def _now(self) -> Now:
        """Return the present instant, as a part of the last step."""
        return self._engine.now(self._last_step(), self.clock.now())

    def _start(self) -> Callable[[Training], None] | None:
        """Return what begins a training in the background; None where the caller trains."""
        if self._background is None or current_thread() not in self._loop_threads:
            return None
        return self._background.start

    def _reroute(self) -> None:
        routes = {d.model.name: self.loop.route(d.model.name) for d in self.system.deployments}
        with self._lock:  # what is folded changes between two batches
            self._engine.follow()
            self._routes = routes

    def route(self, model: str) -> Route:
        """Return which versions answer a model's requests now."""
        return self._routes[model]

    def _next_id(self) -> str:
        # Without the lock: a training holds it, and users are answered meanwhile.
        return short_digest([self.system.name, str(self.clock.now()), str(next(self._serial))])

    def append(self, predictions: Predictions) -> None:
        """Take predictions for the log; they are durable within `BOUND_S`."""
        self._writer.append(predictions)

    def require_durable(self, model: str, request_ids: Sequence[str]) -> None:
        """Return when earlier answers to these requests are durable, or raise `NotDurable`."""
        self._writer.require_durable(model, request_ids)

    def trouble(self) -> str:
        """Say what answers cannot be written now, and why; "" if all can."""
        return self._writer.trouble()

    def ingest(self, source: str, payloads: Sequence[bytes]) -> Ingested:
        """Append events that are received now; raise `Behind` while too many wait."""
        self._backlog.admit(source)
        if self.timeline.lived_until is not None:
            require_present(self.home, self.timeline, source, self.clock.now())
        known = [self.clock.now()] * len(payloads)
        first = self.home.log.append(source, known, payloads)
        self._events.pushed(source, first, payloads)
        return Ingested(source, first, len(payloads))

    def tick(self) -> Ticked:
        """Write down what was answered, fold what became known, and do what is due beside it."""
        done = self.fold()
        done.decisions = self._carry_out()
        done.decisions += self.keep_up(sum(counts.total for counts in done.counts.values()))
        return done

    def keep_up(self, folded: int = 0) -> list[Decision]:
        """Step the loop if it is due, and do a piece of the upkeep; the fold goes on meanwhile.

        `folded` records were folded since the last time.
        """
        made: list[Decision] = []
        with self._stepping:
            now = self.clock.now()
            ended = self.timeline.step_of(now) - 1
            last = self._engine.cursor()
            if last is None or ended > last:
                made += self.step(ended, now)
                made += self._attempt("compaction", self._tidy)
                give_back()  # what a step needs is much, and is needed for its time alone
            made += self._watch("fold", self._progress.stands())
            for source, trouble in self.feeds.troubles().items():
                self.metrics.feed(source, bool(trouble))
                made += self._watch(f"feed of {source}", trouble)
            made += self._watch("training", self._restart if self.loop.rests else "")
            made += self._attempt("predictions", lambda: self._engine.flush_predictions(FLUSH_ROWS))
            made += self._attempt("raw", lambda: self._archive(folded))
            made += self._attempt("trimming", self._trimmer.bite)
            self._engine.sweep()
        return made

    def _tidy(self) -> None:
        """Compact a piece of the lake, in a process of its own if there is one and it is long."""
        apart = self.loop.observer.apart
        if apart is not None and untidy(self.home.lake) > LARGE:
            try:
                apart.compact(self._stop)
            except DeclaredOtherwise as unlike:
                self.metrics.fault("compaction", unlike)
            else:
                return
        tidy(self.home.lake)

    def _attempt(self, part: str, act: Callable[[], object]) -> list[Decision]:
        """Do a piece of upkeep; a failure opens an alert, and is tried again later."""
        try:
            act()
        except Exception as broken:  # noqa: BLE001 - events are folded though a place is down
            self.metrics.fault(part, broken)
            return self._watch(
                part, f"{sentence_of(broken)}; it is tried again; see `homeostat doctor`"
            )
        return self._watch(part, "")

    def _watch(self, part: str, trouble: str) -> list[Decision]:
        """Open an alert on the trouble of a part, or close it where there is none."""
        if trouble:
            finding = Finding("upkeep", part, "found", trouble)
        else:
            finding = Finding("upkeep", part, "clear", "it works again")
            if not self.loop.has_alert(finding.key):
                return []
        return self.loop.report([finding], self._now())

    def _carry_out(self) -> list[Decision]:
        """Do what was asked for by hand from another process."""
        made: list[Decision] = []
        for order in self._orders.take():
            with self._ordering:  # a training may end before it is noted who waits for it
                made += self._carried_out(order)
        return made

    def _apply(self, order: Order) -> None:
        """Apply declarations beside the fold, and tell who asked what came of it."""
        try:
            made = apply_beside(
                self.home, self._engine, self._lock, self._stopped, order.reason, self._now()
            )
            self._reroute()
        except HomeostatError as refused:
            self._orders.finish(order.id, refused)
        except Exception as broken:  # noqa: BLE001 - whoever asked is told, whatever it is
            self.metrics.fault("apply", broken)
            told = f"apply: {sentence_of(broken)}; see `homeostat doctor`, and try again"
            self._orders.finish(order.id, HomeostatError(told))
        else:
            before, self._restart = self._restart, restart_note(self.home.folder)
            self.service.note(self._restart, instead_of=before)
            self._orders.finish(order.id, made)

    def _carried_out(self, order: Order) -> list[Decision]:
        if order.action == "apply":
            thread = Thread(target=self._apply, args=(order,), name="homeostat-apply", daemon=True)
            self._applying.append(thread)
            thread.start()
            return []
        try:
            found = self.by_hand(order.model, order.action, order.reason)
        except HomeostatError as refused:
            self._orders.finish(order.id, refused)
            return []
        if order.action == "train" and found[-1].action == "train":  # its outcome comes later
            self._waiting_orders[order.model] = order.id, found
        else:
            self._orders.finish(order.id, found)
        return found

    def fold(self) -> Ticked:
        """Fold what became known, up to a chunk per source, with all that was answered before."""
        self._writer.settle()
        return self._fold()

    def _fold(self) -> Ticked:
        with self._lock:
            done = Ticked(predictions=self._writer.counted())
            now, began = self.clock.now(), perf_counter()
            back = self._clock_watch.look()
            if back is not None:
                self.metrics.fault("clock", back)
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
            self._engine.worker.lake.flush_behind(FLUSH_EVENTS, FLUSH_BYTES)
            return done

    def step(self, step: int, at: Micros) -> list[Decision]:
        """Run one step of the loop, durably; the fold goes on meanwhile."""
        with self._stepping:
            since = self.timeline.start_of(step)
            self._writer.settle()
            decisions = self.loop.step(self._engine.now(step, at, since), self._start())
            self._engine.worker.lake.flush()
            decisions += self._attempt("predictions", lambda: self._take_over(at))
            with self.home.store.writer() as writer:
                self._engine.complete(writer, step)
            self._reroute()
            decisions += self._attempt("raw", self._archiver.aim)
            decisions += self._attempt("trimming", lambda: self._trimmer.aim(at))
            decisions += self._attempt("retention", lambda: self._lifecycle.step(at))
            return decisions

    def flush_predictions(self) -> None:
        """Let the lake take over all predictions that are durable."""
        self._engine.flush_predictions()

    def _take_over(self, at: Micros) -> None:
        """Let the lake take the predictions over, and delete what it has."""
        self._engine.flush_predictions()
        self._engine.tidy_predictions(at)

    def trim(self) -> int:
        """Let the log go of all that it need not keep; return how many records."""
        with self._stepping:
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
        written = sum(self._archiver.bite().values())
        while self._archiver.waiting and written < folded:
            written += sum(self._archiver.bite().values())
        if written and not self._archiver.waiting:
            self._engine.worker.lake.settle()
            self._trimmer.aim(self.clock.now())

    def step_now(self) -> list[Decision]:
        """Run the loop at once, as a part of the present step."""
        with self._stepping:
            now = self.clock.now()
            return self.step(max(self.timeline.step_of(now), self._last_step()), now)

    def _last_step(self) -> int:
        return self._engine.cursor() or 0

    def answered(self, model: str, request_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the first answer of each request that was answered in the last 24 hours."""
        waiting = {name: self._writer.answered(model, name) for name in request_ids}
        found = {name: row for name, row in waiting.items() if row is not None}
        found |= self.home.predictions.answered(model, request_ids)
        return {name: {**row, "names": self._names(row)} for name, row in found.items()}

    def _names(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the features that a logged answer was made from, empty if nothing says them."""
        digest = row["definitions"]
        known = None if digest is None else self.home.definitions.find(digest)
        return () if known is None else tuple(known.features)

    def by_hand(self, model: str, action: str, reason: str) -> list[Decision]:
        """Carry out what a person asks for: "train" or "rollback"; neither waits for a step.

        In the threads of `run` a training goes on in the background, and its outcome comes later.
        """
        now = self._now()
        if action == "train":
            self._writer.settle()
            made = self.loop.train(model, reason, now, self._start())
        else:
            back = self.loop.roll_back(model, reason, now)
            made = [] if back is None else [back]
        self._reroute()
        return made

    def flush(self) -> bool:
        """Bring everything answered and folded into the prediction log and the lake.

        Returns:
            Whether all answers are there; a disk that takes longer than a moment is not waited for.
        """
        settled = self._writer.settle()
        self._engine.worker.lake.flush()
        return settled

    def waiting(self) -> dict[str, int]:
        """Return how many records of each source's log are not folded yet."""
        return {source.name: self._backlog.waiting(source.name) for source in self.system.sources}

    def drain(self, told: Callable[[int], None] = lambda folded: None) -> dict[str, Counts]:
        """Fold everything that is known now; return the counts by source. The loop stands still.

        `told` hears after each pass how many records were folded.
        """
        totals = {source.name: Counts() for source in self.system.sources}
        while True:
            counts = self.fold().counts
            for name, found in counts.items():
                totals[name].add(found)
            if not any(c.total for c in counts.values()):
                break
            told(sum(found.total for found in totals.values()))
        self._engine.worker.lake.settle()
        return totals

    def run(
        self,
        stop: Event,
        pause_s: float,
        told: Callable[[Ticked | Exception], None] = lambda done: None,
        trainer: Callable[[Training, Event], Outcome | None] | None = None,
        apart: UpkeepProcess | None = None,
    ) -> None:
        """Fold until `stop` is set, resting `pause_s` between passes that found nothing.

        A second thread steps the loop and keeps the lake; trainings run beside both, by `trainer`
        if one is given, and are left at a stop; what is long of audits and compaction is done by
        `apart` if that is given. A pass that fails is counted as a fault of the loop
        and tried again, at longer and longer intervals: users are answered meanwhile. `told` hears
        of every pass.
        """
        self._trainer, self._stop = trainer, stop
        self.loop.observer.apart = apart
        self._background = Background(self._train, self._end, self.metrics.fault)
        beside = Thread(
            target=self._repeat, args=(stop, pause_s, told, self._kept_up), name="homeostat-upkeep"
        )
        self._loop_threads = {beside, current_thread()}
        beside.start()
        try:
            self._repeat(stop, pause_s, told, self._folded)
        finally:
            stop.set()
            self._background.stop()
            beside.join()
            self.loop.observer.apart = None
            self._background = None

    def _repeat(
        self,
        stop: Event,
        pause_s: float,
        told: Callable[[Ticked | Exception], None],
        act: Callable[[], Ticked],
    ) -> None:
        rest = pause_s
        while not stop.is_set():
            try:
                done = act()
            except BaseException as broken:  # noqa: BLE001 - it outlives any failure of a pass
                go_through(broken)
                problem = broken if isinstance(broken, Exception) else RuntimeError(str(broken))
                self.metrics.fault("loop", problem)
                told(problem)
                rest = min(max(2 * rest, pause_s), LONGEST_REST_S)
                stop.wait(rest)
                continue
            told(done)
            rest = pause_s
            busy = done.predictions or any(c.total for c in done.counts.values())
            if not busy:
                stop.wait(pause_s)

    def _folded(self) -> Ticked:
        done = self._fold()
        self._records += sum(counts.total for counts in done.counts.values())
        done.decisions = self._carry_out()  # here, for a rollback waits for no step
        return done

    def _kept_up(self) -> Ticked:
        made = [] if self._has_finished else self.finish()
        self._has_finished = True
        folded, self._records = self._records, 0
        made += self.keep_up(folded)
        while self._told:
            made.append(self._told.popleft())
        return Ticked(decisions=made)

    def _train(self, training: Training, stopped: Event) -> Outcome | None:
        """Carry out a training, in the way that `run` was given if it can be done so."""
        self._writer.settle()  # its rows stand at the instants of answers
        if self._trainer is not None:
            self.loop.gather()
            try:
                return self._trainer(training, stopped)
            except DeclaredOtherwise as unlike:
                self.metrics.fault("training", unlike)
        return self.loop.run(training)

    def _end(self, training: Training, outcome: Outcome) -> None:
        """Journal what came of a training in the background, and answer who asked for it."""
        made = self.loop.end(training, outcome, self._now())
        self._reroute()
        self._told.extend(made)
        with self._ordering:
            order = self._waiting_orders.pop(training.model, None)
        if order is not None:
            self._orders.finish(order[0], [*order[1], *made] if made else StartedOtherwise())

    def close(self) -> None:
        """Write down what is still in memory."""
        self._stopped.set()
        for thread in self._applying:
            thread.join()
        self.service.close()
        self._writer.close()
        self.flush()
        self._orders.close()
