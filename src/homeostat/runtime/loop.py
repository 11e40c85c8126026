"""The loop: observe, decide, act. Deciding is pure; only this file acts on a decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.deployments import Deployment
from homeostat.declare.system import System
from homeostat.deploy.decide import (
    Candidate,
    decide_candidate,
    decide_return,
    decide_rollout,
)
from homeostat.deploy.state import RolloutState, advance, replayed
from homeostat.features.keys import view_stem
from homeostat.features.manifest import Bound
from homeostat.monitor.findings import Finding, decide_alerts, open_alerts
from homeostat.retrain.decide import decide_retrain
from homeostat.runtime.arms import Arms
from homeostat.runtime.filled import filled_stems
from homeostat.runtime.home import Home
from homeostat.runtime.in_service import in_roles, kept_views
from homeostat.runtime.observe import Now, Observer
from homeostat.runtime.training import Alteration, Trained, Trainer
from homeostat.serve.routing import Route
from homeostat.train.dataset import TrainingRefused

__all__ = ["Intervention", "Loop"]


@dataclass(frozen=True, slots=True)
class Intervention:
    """A challenger that a person submits past the loop: trained at `at` on altered features."""

    at: Micros
    model: str
    name: str
    alteration: Alteration


class Loop:
    """Runs the decisions of a system over what its home has recorded.

    Args:
        system: the declarations.
        home: where everything is kept.
        flush: brings everything folded into the lake, before a training reads it.
        timed: whether latencies are real (False on a virtual clock).
        interventions: challengers submitted by hand.
        faults: told of parts that fail to load.
    """

    def __init__(
        self,
        system: System,
        home: Home,
        flush: Callable[[], None],
        *,
        timed: bool = True,
        interventions: Iterable[Intervention] = (),
        faults: Callable[[str, Exception], None] = lambda part, error: None,
    ) -> None:
        self._system, self._home, self._flush = system, home, flush
        self._interventions = tuple(interventions)
        self._trainer = Trainer(system, home.lake, home.registry)
        self.arms = Arms(system, home.registry, faults, self._lacks)
        self.observer = Observer(system, self.arms, home, timed=timed)
        self._states: dict[str, RolloutState] = {}
        self._opened: dict[str, Decision] = {}
        self._submitted: set[str] = set()
        self._places: dict[int, int] = {}

    def restore(self, before_step: int) -> None:
        """Take up the journal of the steps before `before_step`.

        Later entries are of a step that was cut off; running it again writes them again.
        """
        last = before_step - 1
        self._places = {last: self._home.journal.next_place(last)}
        decisions = self._home.journal.decisions(before_step)
        self._states = replayed(decisions)
        self._opened = open_alerts(decisions)
        self._submitted = {str(d.evidence.get("intervention", "")) for d in decisions}

    def state(self, model: str) -> RolloutState:
        """Return where the rollout of a model stands."""
        return self._states.get(model, RolloutState())

    def route(self, model: str) -> Route:
        """Return which versions answer a model's requests now."""
        return self.arms.route(model, self.state(model))

    def bounds(self) -> tuple[Bound, ...]:
        """Return the declarations that give the versions in service their features."""
        found = []
        for deployment in self._system.deployments:
            model = deployment.model.name
            for version in in_roles(self.state(model)):
                with suppress(HomeostatError, OSError):  # its arm is broken, and says why
                    found.append(self.arms.bound(model, version))
        return tuple(found)

    def _lacks(self, bound: Bound) -> str:
        """Say which live state is not there that declarations need, "" if all is."""
        with self._home.store.reader() as reader:
            filled = filled_stems(reader)
        lacking = [
            view.name for view in kept_views(self._system, [bound]) if view_stem(view) not in filled
        ]
        named = ", ".join(map(repr, lacking))
        return f"the live features of view {named}, as it was trained with, are not kept up" * bool(
            lacking
        )

    def step(self, now: Now) -> list[Decision]:
        """Observe, decide and act once; return the decisions, all of them journaled."""
        made: list[Decision] = []
        if now.audit_from is not None:
            self._flush()
        findings = {
            d.model.name: self.observer.findings(d.model, self.state(d.model.name), now)
            for d in self._system.deployments
        }
        every = [
            *self.observer.freshness(now),
            *self.observer.rejections(now),
            *(f for found in findings.values() for f in found),
        ]
        for decision in decide_alerts(self._opened, every, now.at):
            self._journal(now, decision, made)
        for deployment in self._system.deployments:
            self._advance(deployment, findings[deployment.model.name], now, made)
        return made

    def train(self, model: str, reason: str, now: Now) -> list[Decision]:
        """Train a challenger because a person asks for it."""
        made: list[Decision] = []
        self._journal(now, Decision(now.at, model, "train", reason), made)
        self._journal(now, self._train(self._system.deployment(model), now, None), made)
        return made

    def roll_back(self, model: str, reason: str, now: Now) -> Decision | None:
        """Withdraw the challenger, else the champion, because a person asks for it."""
        decision = decide_return(model, self.state(model), reason, now.at)
        if decision is not None:
            self._journal(now, decision, [])
        return decision

    def finish(self, now: Now) -> None:
        """Carry out trainings that were journaled, and cut off before their outcome was."""
        for deployment in self._system.deployments:
            if self.state(deployment.model.name).stage == "training":
                self._journal(now, self._train(deployment, now, None), [])

    def _journal(self, now: Now, decision: Decision, made: list[Decision]) -> None:
        """Write a decision down, and only then let it change the state."""
        self._home.journal.write(now.step, self._places.setdefault(now.step, 0), decision)
        self._places[now.step] += 1
        made.append(decision)
        if decision.action == "alert":
            self._opened[str(decision.evidence["key"])] = decision
        elif decision.action == "clear":
            self._opened.pop(str(decision.evidence["key"]), None)
        else:
            self._states[decision.model] = advance(self.state(decision.model), decision)

    def _advance(
        self, deployment: Deployment, findings: list[Finding], now: Now, made: list[Decision]
    ) -> None:
        state = self.state(deployment.model.name)
        if state.rolling:
            evidence = self.observer.evidence(deployment, state, now)
            decision = decide_rollout(deployment, state, evidence, now.at)
            if decision is not None:
                self._journal(now, decision, made)
            return
        asked = self._training_asked(deployment, findings, now)
        if asked is not None:
            decision, alteration = asked
            self._journal(now, decision, made)
            self._journal(now, self._train(deployment, now, alteration), made)

    def _training_asked(
        self, deployment: Deployment, findings: list[Finding], now: Now
    ) -> tuple[Decision, Alteration | None] | None:
        name = deployment.model.name
        state, retrain = self.state(name), self._system.retrain(name)
        if state.champion is None:
            wait = retrain.cooldown_us if retrain else 0
            if state.trained is not None and now.at - state.trained < wait:
                return None
            return Decision(now.at, name, "train", "there is no model yet"), None
        for intervention in self._interventions:
            is_new = intervention.name not in self._submitted
            if intervention.model == name and is_new and now.at >= intervention.at:
                self._submitted.add(intervention.name)
                reason = f"submitted by hand: {intervention.name}"
                body = {"intervention": intervention.name}
                asked = Decision(now.at, name, "train", reason, None, body)
                return asked, intervention.alteration
        if retrain is None:
            return None
        due = decide_retrain(retrain, state, findings, now.at)
        return None if due is None else (due, None)

    def _train(self, deployment: Deployment, now: Now, alteration: Alteration | None) -> Decision:
        """Train and judge a challenger; return the decision what becomes of it."""
        name = deployment.model.name
        state, retrain = self.state(name), self._system.retrain(name)
        self._flush()
        champion = None
        if state.champion is not None and self.arms.loads(name, state.champion):
            champion = self.arms.package(name, state.champion)
        try:
            trained = self._trainer.train(deployment.model, now.at, champion, alteration)
        except TrainingRefused as refused:
            return Decision(now.at, name, "reject", str(refused))
        if alteration is None and retrain is not None:
            for companion in retrain.companions:
                self._trainer.train(companion, now.at)
        return decide_candidate(deployment, state, _candidate(trained), now.at)


def _candidate(trained: Trained) -> Candidate:
    judged = trained.judgement.as_json()
    evidence = {
        "hash": trained.package.hash,
        "threshold": judged["threshold"],
        "threshold_on_validation": trained.package.metrics["threshold"],
        "parts": trained.package.lineage.parts,
        "rows": judged["rows"],
        "metrics": judged["metrics"],
        "results": judged["gates"],
    }
    judgement = trained.judgement
    return Candidate(trained.version, judgement.passed, judgement.reason, evidence)
