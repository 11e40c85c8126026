"""The same system from Python: for notebooks, tests and embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from functools import cache, partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import polars as pl

from homeostat.core.clock import Clock, SteadyClock, SystemClock, to_micros
from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError, UnknownName
from homeostat.declare.log_keep import LogKeep
from homeostat.declare.storage import AT_HOME, Storage
from homeostat.declare.system import System
from homeostat.features.audit import SkewAudit
from homeostat.features.folded import read_after
from homeostat.features.read import ViewReader
from homeostat.ingest.files import payloads_of
from homeostat.lake import sql as lake_sql
from homeostat.runtime.answers import Answers
from homeostat.runtime.applying import ensure_applied
from homeostat.runtime.auditing import Auditor
from homeostat.runtime.building import Builder, requests_of
from homeostat.runtime.feeding import Pulled, Puller
from homeostat.runtime.home import Home
from homeostat.runtime.lake_report import LakeReport, lake_report
from homeostat.runtime.live import Live
from homeostat.runtime.lock import HomeLock
from homeostat.runtime.one_present import require_present
from homeostat.runtime.prediction_writer import LogPredictions
from homeostat.runtime.reading import last_seen, last_step
from homeostat.runtime.receipts import Receipt, receipt
from homeostat.runtime.same_log import require_same_log
from homeostat.runtime.timeline import Timeline, latest_known, parse_step
from homeostat.runtime.training import Trainer
from homeostat.runtime.worker import Counts
from homeostat.serve.answer import Answer
from homeostat.serve.requests import RequestReader

if TYPE_CHECKING:
    from homeostat.deploy.state import RolloutState
    from homeostat.ingest.log import EventLog

__all__ = ["App", "open"]

STEP = 600_000_000
"""The loop's step where no replay has set another: ten minutes."""


def open(
    system: System,
    home: str | Path = "state",
    clock: Clock | None = None,
    log: EventLog | None = None,
    keep: LogKeep | None = None,
    storage: Storage = AT_HOME,
    log_predictions: LogPredictions = "soon",
    live: bool = False,
    step: str | None = None,
) -> App:
    """Open, or begin, the home of a system.

    A home that a replay filled has its present where that has come to, and stays there until it is
    opened `live`: from then on its present is the machine's clock, and what waits in its log is
    folded.

    Args:
        system: the declarations.
        home: the folder that holds everything the system knows.
        clock: the present; None for that of the home. Tests pass a `ManualClock`.
        log: where events are kept, always the same for a home; None for a file in the home.
        keep: how long the log keeps what was folded; None for ever.
        storage: where the lake is, always the same for a home; by default in the home.
        log_predictions: "soon" lets an answer leave at once and makes it durable within 250 ms;
            "sync" lets it leave when it is durable.
        live: live by the machine's clock from now on, as `homeostat run` does.
        step: how often the loop looks, such as "1m"; None for the home's own, or ten minutes.
    """
    return App(
        system,
        Path(home),
        clock,
        log,
        keep=keep,
        storage=storage,
        log_predictions=log_predictions,
        live=live,
        step=None if step is None else parse_step(step),
    )


class App(AbstractContextManager["App"]):
    """A system with its home: ingest, read, train, predict, decide.

    One process at a time writes to a home. Frames are Polars; anything that speaks Arrow (pandas,
    pyarrow, DuckDB) is accepted.
    """

    def __init__(
        self,
        system: System,
        folder: Path,
        clock: Clock | None = None,
        log: EventLog | None = None,
        *,
        keep: LogKeep | None = None,
        storage: Storage = AT_HOME,
        finish: bool = True,
        log_predictions: LogPredictions = "soon",
        live: bool = False,
        step: Micros | None = None,
    ) -> None:
        self.system = system
        folder = folder.absolute()  # the user's code may change the process's folder
        with ExitStack() as opened:
            opened.callback(HomeLock(folder).release)
            self.home = Home(folder, system, log=log, storage=storage)
            opened.callback(self.home.close)
            require_same_log(self.home)
            ensure_applied(self.home, system)
            self.clock, self.timeline = _resumed(self.home, clock, step, live=live)
            self.timeline.save(folder)
            self.live = Live(system, self.home, self.timeline, self.clock, keep, log_predictions)
            if finish:  # trainings that were cut off with the last process
                self.live.finish()
            self._opened = opened.pop_all()
        self._pullers: dict[str, Puller] = {}
        self._readers: dict[str, RequestReader] = {}
        self._trainer = Trainer(system, self.home.lake, self.home.registry, self.home.predictions)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ingest(
        self,
        source: str,
        data: object,
        *,
        known_time: datetime | str | None = None,
        history: bool = False,
    ) -> Counts:
        """Take events in and fold them; return how many were accepted, and what became of the rest.

        The counts' `notes` say which fields no column of a table fills.

        Args:
            source: the name of an event source.
            data: a path (CSV, JSON lines, Parquet, Arrow), a frame, or a list of mappings, each an
                event of its own: one that is no event is a dead letter, and changes no other.
            known_time: one instant, or the column (the key) that says when each row became known.
                By default rows are known now.
            history: the rows are known as the source declares (its `known_time` field, or event
                time plus `delay`).
        """
        declared = self.system.source(source)
        known: int | str | None = known_time if isinstance(known_time, str) else None
        if isinstance(known_time, datetime):
            known = to_micros(known_time)
        if known is None and not history:
            known = self.clock.now()
            require_present(self.home, self.timeline, source, known)
        notes: list[str] = []
        for instants, payloads in payloads_of(
            declared, data, known, latest_known(self.clock.now()), notes.append
        ):
            self.home.log.append(source, instants, payloads)
        counts = self.live.drain()[source]
        counts.notes = tuple(notes)
        return counts

    def pull(self, source: str, *, due: bool = False) -> Pulled:
        """Fetch what a source's folder or database has, fold it, and return what became of it.

        Args:
            source: the name of an event source with a feed.
            due: fetch only what the schedule says is due now; by default, fetch in any case.
        """
        require_present(self.home, self.timeline, source, self.clock.now())
        if source not in self._pullers:
            self._pullers[source] = Puller(self.system.source(source), self.home, self.clock)
        return self._pullers[source].pull(self.live.drain, force=not due)

    def read(self, view: str, keys: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
        """Return the live features of entities, now: the key columns, then one per feature."""
        declared = self.system.view(view)
        names = declared.entity.keys
        missing = [name for name in names if name not in keys]
        if missing:
            raise UnknownName("key", missing[0], tuple(keys), f"read of view {view!r}")
        entities = list(zip(*(keys[name] for name in names), strict=True))
        with self.home.store.reader() as reader:
            at = self.clock.after(read_after(reader, [declared.source.name]))
            values = ViewReader(declared).read(reader, entities, at, None)
        frame = pl.DataFrame({name: list(keys[name]) for name in names})
        return frame.with_columns(
            pl.Series(spec.name, values[:, column])
            for column, spec in enumerate(declared.features())
        )

    def features(self, views: Sequence[str], spine: object) -> pl.DataFrame:
        """Return the features of views at the instants of a spine: one row per row, same order.

        The spine has the entity keys and `at`, the instant of each row: a frame, or a file. It is
        read from the lake in parts, as far back as the windows reach.
        """
        self.live.flush()
        return Builder(self.system, self.home.lake.events).views(views, spine)

    def model_features(self, model: str, spine: object | None = None) -> pl.DataFrame:
        """Return the features of a model, on-demand ones included, at the instants of a spine.

        The spine has the request fields and `at`; by default it is every request there was, at
        the instant at which it was answered, else at the one at which it became known.
        """
        self.live.flush()
        declared, lake = self.system.model(model), self.home.lake
        if spine is None:
            answers = Answers(self.system, lake, self.home.predictions)
            spine = requests_of(declared, lake, answers)
        return Builder(self.system, lake.events).model(declared, spine)

    def training_set(self, model: str, until: datetime | None = None) -> pl.DataFrame:
        """Return the labelled requests of a model with their features, as known at `until`.

        Rows are in the order of the requests' log; `at` is the instant at which the request was
        asked, `label` the truth. A row that was answered has its features as the answer read them.
        """
        self.live.flush()
        declared = self.system.model(model)
        instant = self.clock.now() if until is None else to_micros(until)
        return self._trainer.table(declared, instant)

    def train(self, model: str) -> list[Decision]:
        """Train a challenger now and begin its rollout; return the journaled decisions."""
        return self.live.by_hand(model, "train", "asked for by hand")

    def roll_back(self, model: str, reason: str = "asked for by hand") -> list[Decision]:
        """Withdraw the challenger, else the champion; return the decision, if there was a way."""
        return self.live.by_hand(model, "rollback", reason)

    def predict(
        self,
        model: str,
        request: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        reasons: bool = False,
    ) -> list[Answer]:
        """Answer one request or any number at the present instant, and log the predictions.

        The caller waits, so no deadline holds them: each row has the model's score, unless the
        model fails for that row.
        """
        requests = [request] if isinstance(request, Mapping) else list(request)
        if not requests:
            return []
        if model not in self._readers:
            declared = self.system.deployment(model).model
            needs = partial(self.live.service.needs, model)
            former = self.live.service.former(model)
            self._readers[model] = RequestReader(self.system, declared, needs, former)
        return self.live.service.predict(model, self._readers[model].rows(requests), reasons)

    def step(self) -> list[Decision]:
        """Fold what is waiting, then observe, decide and act now, whatever the timeline says."""
        self.live.drain()
        return self.live.step_now()

    def state(self, model: str) -> RolloutState:
        """Return where the rollout of a model stands."""
        return self.live.loop.state(model)

    def receipt(self, prediction_id: str) -> Receipt:
        """Return a prediction done again from the log, bit for bit."""
        self.live.flush()
        return receipt(self.system, self.home, prediction_id)

    def audit(self, model: str) -> SkewAudit:
        """Compute the features of every logged prediction again, and blame what differs."""
        self.live.flush()
        declared, events_of = self.system.model(model), cache(self.home.lake.read)
        auditor, found = Auditor(self.system, self.home), SkewAudit()
        logged = self.home.predictions.frames(model)
        first = next(logged, None)
        if first is None:
            raise HomeostatError(
                f"skew audit of {model!r}: no prediction is logged; allowed: a model that has "
                "answered; ask it first"
            )
        for part in chain([first], logged):
            found += auditor.audit(declared, part, events_of)
        return found

    def sql(self, query: str, parameters: Mapping[str, object] | None = None) -> pl.DataFrame:
        """Answer a query over the lake's tables; parameters are the values of `$name` in it."""
        self.live.flush()
        self.live.flush_predictions()
        return lake_sql.query(self.home.lake, query, None, parameters)

    def lake_report(self) -> LakeReport:
        """Return what the lake takes and costs, by table, tier and column, with suggestions."""
        self.live.flush()
        return lake_report(self.system, self.home, self.clock.now())

    def close(self) -> None:
        """Write down what is in memory, and close every file."""
        with self._opened:
            self.live.close()
            self.timeline.lived(self.clock.now()).save(self.home.folder)


def _resumed(
    home: Home, clock: Clock | None, every: Micros | None, *, live: bool
) -> tuple[SteadyClock, Timeline]:
    """Return the clock of a home, which never goes back, and its timeline."""
    timeline = Timeline.load(home.folder)
    if timeline is None:
        steady = SteadyClock(clock or SystemClock())
        return steady, Timeline(0, 0).stepping(every or STEP, steady.now(), 0)
    seen, done = last_seen(home), last_step(home)
    if live and timeline.lived_until is not None:
        steady = SteadyClock(clock or SystemClock(), seen - 1)
        real = Timeline(0, 0).stepping(every or STEP, steady.now(), done)
        return steady, real
    timeline = timeline.lived(seen)
    steady = SteadyClock(clock or timeline.clock(SystemClock()), seen - 1)
    if every not in (None, timeline.every):
        timeline = timeline.stepping(every, steady.now(), done)
    return steady, timeline
