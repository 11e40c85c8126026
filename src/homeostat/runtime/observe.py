"""What the loop looks at before it decides: findings of the monitors, evidence of a rollout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import nan

import polars as pl

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros, format_duration
from homeostat.core.errors import HomeostatError
from homeostat.declare.deployments import Deployment
from homeostat.declare.models import Label, Model
from homeostat.declare.monitors import Drift, Freshness, Quality, Rejections, Skew
from homeostat.declare.system import System
from homeostat.deploy.evidence import Observed, arm_evidence
from homeostat.deploy.guards import RolloutEvidence
from homeostat.deploy.state import RolloutState
from homeostat.features.audit import SkewAudit
from homeostat.features.draw import drawn
from homeostat.monitor.drift import drift_report, judge_drift
from homeostat.monitor.findings import Finding
from homeostat.monitor.freshness import judge_freshness
from homeostat.monitor.promises import (
    LATENCY_WINDOW,
    judge_latency,
    judge_reasons,
    judge_waiting,
)
from homeostat.monitor.quality import judge_quality
from homeostat.monitor.rejections import HOUR, Tally, judge_rejections
from homeostat.monitor.sketch import Sketch
from homeostat.monitor.skew import judge_skew
from homeostat.runtime.arms import Arms
from homeostat.runtime.auditing import Auditor
from homeostat.runtime.consuming import waiting_since
from homeostat.runtime.drift_sketches import DriftSketches, Reference
from homeostat.runtime.home import Home
from homeostat.runtime.in_service import bound_package
from homeostat.runtime.judging import OF_THE_MACHINE, judged
from homeostat.runtime.own_process import LARGE, DeclaredOtherwise
from homeostat.runtime.record import JUDGED, ModelRecord, OutcomesOf
from homeostat.runtime.service_health import made_from, silent
from homeostat.runtime.timeline import Timeline
from homeostat.runtime.upkeep_process import UpkeepProcess
from homeostat.serve.predictions import prediction_schema
from homeostat.train.package import Package

__all__ = ["Now", "Observer"]

_ROLLOUT = (*JUDGED, "shadow_version", "shadow_score", "latency_total_us")
"""What the evidence of a rollout is made of."""


@dataclass(frozen=True, slots=True)
class Now:
    """The step that is run, its instant, and when each source was last heard of.

    `tallies` has the records by hour of the sources whose rejections are watched.
    `audit_from` is set where the lake holds everything: predictions from then on are audited.
    """

    step: int
    at: Micros
    last_known: Mapping[str, Micros]
    audit_from: Micros | None = None
    tallies: Mapping[str, Sequence[Tally]] = field(default_factory=dict)


class Observer:
    """Reads the records of what was predicted and what came of it.

    Args:
        system: the declarations.
        arms: the versions in service.
        home: whose records.
        timed: whether latencies are real.
        faults: told of an audit that could not be done apart.

    Attributes:
        apart: does long audits; None to do them here.
    """

    def __init__(
        self,
        system: System,
        arms: Arms,
        home: Home,
        *,
        timed: bool,
        faults: Callable[[str, Exception], None],
    ) -> None:
        self._system, self._arms, self._timed = system, arms, timed
        self._home, self._faults = home, faults
        self._letters, self._definitions = home.letters, home.definitions
        self._auditor = Auditor(system, home)
        self._history = home.predictions
        self.records: dict[str, ModelRecord] = {}
        self.apart: UpkeepProcess | None = None

    def resume(
        self, timeline: Timeline, outcomes: OutcomesOf, champion: Callable[[str], int | None]
    ) -> None:
        """Take up the predictions of a home, sketched by the steps of its timeline."""

        def begin_of(instant: Micros) -> Micros:
            return timeline.start_of(timeline.step_of(instant))

        self._sketches = DriftSketches(self._history, begin_of, timeline.every)
        for deployment in self._system.deployments:
            model = deployment.model
            self.records[model.name] = ModelRecord(
                model, self._history, outcomes, begin_of, self._folded_to
            )
            version = champion(model.name)
            if version is not None and self._arms.loads(model.name, version):
                self._follow(model.name, self._arms.package(model.name, version))

    def _folded_to(self, label: Label, now: Micros) -> Micros:
        """Return up to when the outcomes of a label are folded; a replay folds all before `now`."""
        waiting = waiting_since(self._home, label.outcome.name) if self._timed else None
        return now if waiting is None else min(now, waiting)

    def _follow(self, model: str, package: Package) -> None:
        """Sketch what the lake takes in the bins of a package that can be given its features."""
        try:
            reference = self._reference(package)
        except HomeostatError:  # it answers nothing, which is said elsewhere: there is no drift
            return
        for monitor in self._system.monitors:
            if isinstance(monitor, Drift) and monitor.model.name == model:
                self._sketches.follow(model, monitor.window_us, reference)

    def freshness(self, now: Now) -> list[Finding]:
        """Return what the freshness monitors find."""
        found = []
        for monitor in self._system.monitors:
            if isinstance(monitor, Freshness):
                found += self._judged(monitor.source.name, monitor, partial(_fresh, monitor, now))
        return found

    def rejections(self, now: Now) -> list[Finding]:
        """Return what the monitors of rejected records find."""
        found = []
        for monitor in self._system.monitors:
            if isinstance(monitor, Rejections):
                judge = partial(self._rejected, monitor, now)
                found += self._judged(monitor.source.name, monitor, judge)
        return found

    def _rejected(self, monitor: Rejections, now: Now) -> list[Finding]:
        name = monitor.source.name
        begin = (now.at - monitor.window_us) // HOUR * HOUR
        reasons = self._letters.reasons(name, begin, now.at + 1)
        return [judge_rejections(monitor, now.tallies[name], reasons, now.at)]

    def _judged(
        self,
        subject: str,
        monitor: object,
        judge: Callable[[], Iterable[Finding]],
    ) -> list[Finding]:
        parts = (type(monitor).__name__.lower(), getattr(monitor, "metric", ""))
        window = getattr(monitor, "window_us", None)
        words = [*filter(None, parts), *([] if window is None else [format_duration(window)])]
        return judged(subject, " ".join(words), judge, () if self._timed else OF_THE_MACHINE)

    def findings(self, model: Model, state: RolloutState, now: Now) -> list[Finding]:
        """Return what the drift and quality monitors of a deployed model find."""
        if state.champion is None:
            return []
        said = f"version {state.champion}"
        if not self._arms.loads(model.name, state.champion):
            why = self._arms.problem(model.name, state.champion)
            told = f"{said} answers nothing, its fallbacks do: {why}; run `homeostat doctor`"
            return [Finding("package", model.name, "found", told, {"version": state.champion})]
        package = self._arms.package(model.name, state.champion)
        unanswered = silent(self._history, model.name, state.champion, now.at)
        if unanswered:
            told = (
                f"{said} gave none of the last {unanswered} answers: its fallbacks did, since its "
                "features or its score failed, or calls that hang hold all its workers "
                "(`calls_held`); /ready and /metrics say which; run `homeostat doctor`"
            )
            found = [Finding("package", model.name, "found", told, {"version": state.champion})]
        else:
            found = [Finding("package", model.name, "clear", f"{said} loads")]
        explains = package.native is not None
        found.append(judge_reasons(model, state.champion, explains=explains))
        if self._timed:
            found += judged(model.name, "latency", partial(self._latency, model, now))
            found += judged(model.name, "freshness", partial(self._waiting, model, now))
        for monitor in self._system.monitors:
            if isinstance(monitor, Drift) and monitor.model.name == model.name:
                judge = partial(self._drift, monitor, package, now)
            elif isinstance(monitor, Quality) and monitor.model.name == model.name:
                judge = partial(self._quality, monitor, package, state.champion, now)
            elif isinstance(monitor, Skew) and monitor.model.name == model.name:
                judge = partial(self._skew, monitor, now)
            else:
                continue
            found += self._judged(model.name, monitor, judge)
        return found

    def _latency(self, model: Model, now: Now) -> list[Finding]:
        columns = ["at", "latency_total_us"]
        asked = self.records[model.name].predictions_since(now.at - LATENCY_WINDOW, columns)
        times = pl.Series([], dtype=pl.Float64) if asked is None else asked["latency_total_us"]
        return [judge_latency(model, times.cast(pl.Float64).fill_null(nan).to_numpy())]

    def _waiting(self, model: Model, now: Now) -> list[Finding]:
        sources = {view.source.name for view in self._system.views_of(model)}
        since = {name: waiting_since(self._home, name) for name in sorted(sources)}
        return [judge_waiting(model, since, now.at)]

    def _drift(self, monitor: Drift, package: Package, now: Now) -> list[Finding]:
        begin, model = now.at - monitor.window_us, monitor.model.name
        if not self.records[model].reaches(begin):
            return []  # part of a window is another distribution: its first days, not its span
        reference = self._reference(package)
        current = self._sketches.window(model, monitor.window_us, begin, reference)
        if not self.records[model].answered_since(begin):
            return []
        return [judge_drift(monitor, drift_report(reference.sketch, current))]

    def _reference(self, package: Package) -> Reference:
        """Return what predictions are compared with that were given this package's features."""
        bound = bound_package(self._system, package)
        return Reference(
            package.hash,
            tuple(package.features),
            tuple(package.encodings),
            Sketch.from_json(package.reference),
            partial(made_from, bound=bound, kept=self._definitions),
        )

    def _quality(self, monitor: Quality, package: Package, version: int, now: Now) -> list[Finding]:
        record = self.records[monitor.model.name]
        begin = now.at - monitor.window_us - monitor.model.label.delay_us
        labelled = record.labelled_since(begin, now.at)
        if labelled is None:
            return []
        baseline = _at_the_gates(package, monitor.metric)
        return [judge_quality(monitor, labelled, version, baseline, now.at)]

    def _skew(self, monitor: Skew, now: Now) -> list[Finding]:
        """Audit the predictions since the last audit, or as many as the monitor's budget allows.

        What is answered while the step runs may have seen events that the lake does not have yet;
        the next step audits it.
        """
        if now.audit_from is None:
            return []
        model = monitor.model
        record = self.records[model.name]
        since = record.predictions_since(now.audit_from, ["prediction_id", "at"])
        if since is None:
            return []
        asked = since.filter(pl.col("at") <= from_micros(now.at))
        ids = drawn(asked, monitor.at_most, monitor.share)
        if not ids.height:
            return []
        sample = record.some_since(now.audit_from, ids)
        return [judge_skew(monitor, self._audited(model, sample), asked.height)]

    def _audited(self, model: Model, sample: pl.DataFrame) -> SkewAudit:
        """Audit predictions, in a process of its own if there is one and it is long."""
        if self.apart is not None and self._auditor.reads(model, sample) > LARGE:
            try:
                return self.apart.audit(model.name, sample)
            except DeclaredOtherwise as unlike:
                self._faults("audit", unlike)
        return self._auditor.sampled(model, sample)

    def evidence(self, deployment: Deployment, state: RolloutState, now: Now) -> RolloutEvidence:
        """Return what champion and challenger did since the present step of a rollout began."""
        name = deployment.model.name
        record = self.records[name]
        asked = record.predictions_since(state.since, _ROLLOUT)
        if asked is None:
            asked = pl.DataFrame(schema=prediction_schema(())).select(_ROLLOUT)
        challenger = self._arms.arm(name, state.challenger)
        observed = Observed(
            predictions=asked,
            labels=record.labels(asked, now.at),
            threshold=0.5 if challenger is None else challenger.threshold,
            timed=self._timed,
            way_back_ready=self._arms.loads(name, state.champion),
        )
        return arm_evidence(deployment, state, observed)


def _fresh(monitor: Freshness, now: Now) -> list[Finding]:
    return [judge_freshness(monitor, now.last_known.get(monitor.source.name), now.at)]


def _at_the_gates(package: Package, metric: str) -> float | None:
    found = package.metrics["test"]["metrics"].get(metric)  # an older package may lack it
    return None if found is None else float(found)
