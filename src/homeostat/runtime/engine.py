"""What a running system holds in memory, taken up from its home and kept in step with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import polars as pl

from homeostat.core.durations import Micros
from homeostat.core.store import Snapshot, Writer
from homeostat.declare.models import Label, Model
from homeostat.declare.monitors import Rejections
from homeostat.declare.system import System
from homeostat.declare.views import FeatureView
from homeostat.features.definitions import Definitions
from homeostat.features.keys import view_stem
from homeostat.features.manifest import as_manifest
from homeostat.monitor.rejections import Tally
from homeostat.runtime.cursor import complete, completed
from homeostat.runtime.filled import filled_stems, retire, sweep
from homeostat.runtime.home import Home
from homeostat.runtime.in_service import kept_views
from homeostat.runtime.loop import Intervention, Loop
from homeostat.runtime.observe import Now
from homeostat.runtime.tallies import tallies_of
from homeostat.runtime.timeline import Timeline
from homeostat.runtime.worker import FoldWorker, Pending
from homeostat.train.outcomes import outcome_columns

__all__ = ["Engine"]


class Engine:
    """The fold worker and the loop of one home, with what they have heard so far.

    Args:
        system: the declarations.
        home: where everything is kept.
        timed: whether latencies are real (False on a virtual clock).
        interventions: challengers that are submitted by hand on the way.
        faults: told of parts that fail to load.
    """

    def __init__(
        self,
        system: System,
        home: Home,
        *,
        timed: bool,
        interventions: Iterable[Intervention] = (),
        faults: Callable[[str, Exception], None] = lambda part, error: None,
    ) -> None:
        self.system, self.home = system, home
        self.worker = FoldWorker(system, home.log, home.lake, home.letters, home.schemas)
        self.loop = Loop(
            system,
            home,
            self.worker.lake.flush,
            timed=timed,
            interventions=interventions,
            faults=faults,
        )
        self._followed: tuple[bytes, ...] | None = None
        self._sweeps = False
        self.ahead: tuple[FeatureView, ...] = ()
        self.filling: set[bytes] = set()
        self._last_known: dict[str, Micros] = {}
        self._models = {d.model.name: d.model for d in system.deployments}
        for model in self._models.values():
            _keep_definitions(home, system, model)

    def cursor(self) -> int | None:
        """Return the last step that was completed, None before the first."""
        with self.home.store.reader() as reader:
            return completed(reader)

    def complete(self, writer: Writer, step: int) -> None:
        """Note in the store's transaction that a step is complete."""
        complete(writer, step)

    def resume(self, timeline: Timeline) -> None:
        """Take up what earlier processes left: buffers, journal; nothing that grows with time.

        Args:
            timeline: the steps of the home's time.
        """
        done = self.cursor()
        steps = 0 if done is None else done + 1
        with self.home.store.writer() as writer:
            self.worker.carry_over(writer)
            self.worker.resume(writer)
            for source in self.system.sources:
                self._heard(source.name, self.worker.last_known(writer, source.name))
        self.loop.restore(steps)
        self.follow()
        self.loop.observer.resume(
            timeline, self._outcomes, lambda name: self.loop.state(name).champion
        )

    def _outcomes(self, label: Label, begin: Micros, end: Micros) -> pl.DataFrame:
        """Return the outcomes that became known in [begin, end), as far as they are folded."""
        source, columns = label.outcome.name, [*outcome_columns(label), "_offset"]
        tail = self.worker.lake.tail(source)
        kept = self.home.lake.read(source, columns, end, known_from=begin)
        if tail is None:
            return kept
        at = pl.col("_known_time").dt.epoch("us")
        new = tail.select(columns).filter((at >= begin) & (at < end))
        return pl.concat([kept, new]).unique("_offset", keep="first", maintain_order=True)

    def follow(self) -> None:
        """Fold what the versions in service need beside today's views, and let the rest go.

        Versions leave service as the loop goes on; what only they needed is swept.
        """
        bounds = self.loop.bounds()
        today = set(map(view_stem, self.system.views))
        more = {view_stem(v): v for v in (*kept_views(self.system, bounds), *self.ahead)}
        kept = [view for stem, view in more.items() if stem not in today]
        if self._followed == tuple(map(view_stem, kept)):
            return
        with self.home.store.writer() as writer:
            filled = filled_stems(writer)
            there = [view for view in kept if view_stem(view) in filled]
            if filled:
                self._sweeps = retire(writer, (*self.system.views, *there), self.filling) > 0
        self.worker.follow(there)
        for bound in bounds:
            _keep_definitions(self.home, bound.system, bound.model)
        self._followed = tuple(map(view_stem, kept))

    def precede(self, views: tuple[FeatureView, ...]) -> None:
        """Fold into the views of declarations that hold from the next start on.

        The caller sees to it that their state is whole, and holds the fold's lock.
        """
        self.ahead = views
        self.follow()

    def sweep(self) -> None:
        """Delete a bite of the state that nobody needs any more."""
        if self._sweeps:
            with self.home.store.writer() as writer:
                self._sweeps = sweep(writer)

    def now(
        self,
        step: int,
        at: Micros,
        audit_from: Micros | None = None,
        writer: Writer | None = None,
    ) -> Now:
        """Return the instant of a step, with what the monitors of sources look at.

        `writer` is the transaction of the step, where one is open.
        """
        tallies: dict[str, list[Tally]] = {}
        watched = [m for m in self.system.monitors if isinstance(m, Rejections)]
        if watched:
            opened: AbstractContextManager[Snapshot] = (
                self.home.store.reader() if writer is None else nullcontext(writer)
            )
            with opened as reader:
                for monitor in watched:
                    since = at - monitor.window_us - monitor.baseline_us
                    name = monitor.source.name
                    found = tallies_of(reader, name, since)
                    tallies[name] = max(tallies.get(name, []), found, key=len)
        return Now(step, at, dict(self._last_known), audit_from, tallies)

    def learn(self, pending: Pending) -> None:
        """Note what was folded: when a source was heard of."""
        if len(pending.known):
            self._heard(pending.source.name, int(pending.known[-1]))

    def _heard(self, source: str, known: Micros | None) -> None:
        if known is not None:
            self._last_known[source] = max(known, self._last_known.get(source, known))

    def flush_predictions(self, least: int = 1) -> None:
        """Move the predictions into the lake of each model that has so many outside it."""
        for name in self._models:
            self.home.predictions.flush(name, least)

    def tidy_predictions(self, now: Micros) -> None:
        """Delete a bounded number of predictions that the lake has as well, and of old requests."""
        for name in self._models:
            self.home.predictions.tidy(name, now)


def _keep_definitions(home: Home, system: System, model: Model) -> None:
    """Keep what a model's features are, before a prediction names it."""
    home.definitions.keep(Definitions.of(system, model), as_manifest(system, model))
