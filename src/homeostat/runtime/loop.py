"""The loop: observe, decide, act. Deciding is pure; only this file acts on a decision.

What is observed is read, and what is trained is trained, without a lock; decisions are journaled
one after another. So a person's rollback waits for neither an audit nor a training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock, RLock

from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import content_hash
from homeostat.declare.deployments import Deployment
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.deploy.decide import (
    decide_candidate,
    decide_return,
    decide_rollout,
)
from homeostat.deploy.guards import RolloutEvidence
from homeostat.deploy.state import RolloutState, advance, is_given_up, replayed
from homeostat.features.keys import view_stem
from homeostat.features.manifest import Bound
from homeostat.monitor.findings import Finding, decide_alerts, open_alerts
from homeostat.retrain.decide import LONGEST_REST, decide_retrain, rest_after
from homeostat.runtime.arms import Arms
from homeostat.runtime.filled import filled_stems
from homeostat.runtime.home import Home
from homeostat.runtime.in_service import in_roles, kept_views
from homeostat.runtime.judging import OF_THE_MACHINE, judged
from homeostat.runtime.observe import Now, Observer
from homeostat.runtime.restart import StartedOtherwise
from homeostat.runtime.training import Alteration, Trainer
from homeostat.runtime.trainings import Failed, Outcome, Training, carry_out, failed
from homeostat.serve.routing import Route

__all__ = ["ATTEMPTS", "Intervention", "Loop", "TrainingBusy", "WayBackBroken"]

ATTEMPTS = 3
"""A training that is cut off with its process is begun again until it was so many times."""


class TrainingBusy(HomeostatError):
    """A training is asked for while the model is trained, or a challenger is on its way."""

    retryable = True

    def __init__(self, model: str, state: RolloutState) -> None:
        found = (
            "it is being trained already"
            if state.challenger is None
            else f"version {state.challenger} is in {state.stage.replace('_', '-')}"
        )
        super().__init__(
            f"training of {model!r}: {found}; allowed: one challenger at a time; wait for its end "
            "(`homeostat status` shows it), or roll it back"
        )


@dataclass(frozen=True, slots=True)
class Intervention:
    """A challenger that a person submits past the loop: trained at `at` on altered features."""

    at: Micros
    model: str
    name: str
    alteration: Alteration


class WayBackBroken(HomeostatError):
    """A rollback to a version that cannot answer."""

    def __init__(self, model: str, version: int, why: str) -> None:
        super().__init__(
            f"rollback of {model!r}: version {version}, the way back, answers nothing: {why}; "
            "allowed: a way back that answers; put that right, or train another version with "
            f"`homeostat train {model}`"
        )


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
        self._through = () if timed else OF_THE_MACHINE
        self.arms = Arms(system, home.registry, faults, self._lacks)
        self.observer = Observer(system, self.arms, home, timed=timed, faults=faults)
        self._states: dict[str, RolloutState] = {}
        self._opened: dict[str, Decision] = {}
        self._submitted: set[str] = set()
        self._places: dict[int, int] = {}
        self._last = -1
        self._under_way: dict[str, Training] = {}
        self._acting, self._one_training = RLock(), Lock()
        self._rests = False

    def restore(self, before_step: int) -> None:
        """Take up the journal of the steps before `before_step`.

        Later entries are of a step that was cut off; running it again writes them again.
        """
        last = self._last = before_step - 1
        self._places = {last: self._home.journal.next_place(last)}
        decisions = self._home.journal.decisions(before_step)
        self._states = replayed(decisions)
        self._opened = open_alerts(decisions)
        self._submitted = {str(d.evidence.get("intervention", "")) for d in decisions}

    def state(self, model: str) -> RolloutState:
        """Return where the rollout of a model stands."""
        return self._states.get(model, RolloutState())

    def route(self, model: str) -> Route:
        """Return which versions answer a model's requests; others do not stay loaded."""
        state = self.state(model)
        self.arms.retain(model, in_roles(state))
        return self.arms.route(model, state)

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

    def step(self, now: Now, start: Callable[[Training], None] | None = None) -> list[Decision]:
        """Observe, decide and act once; return the decisions, all of them journaled.

        Args:
            now: the instant, and what the monitors of sources look at.
            start: begins a training beside the caller, which gives its outcome to `end`; None
                to train here.
        """
        made: list[Decision] = []
        if now.audit_from is not None:
            self._flush()
        findings = {d.model.name: self._findings(d.model, now) for d in self._system.deployments}
        every = [
            *self.observer.freshness(now),
            *self.observer.rejections(now),
            *(f for found in findings.values() for f in found),
            *(self._failing(d.model.name) for d in self._system.deployments),
        ]
        made += self.report(every, now)
        for deployment in self._system.deployments:
            name = deployment.model.name
            made += self._advance(deployment, findings[name], now, start)
        return made

    def _findings(self, model: Model, now: Now) -> list[Finding]:
        """Return what is found of a model; one model's failure stops no other's step."""
        state = self.state(model.name)
        return judged(
            model.name, "model", lambda: self.observer.findings(model, state, now), self._through
        )

    def report(self, findings: Iterable[Finding], now: Now) -> list[Decision]:
        """Journal the alerts that open and close on findings."""
        made: list[Decision] = []
        with self._acting:
            for decision in decide_alerts(self._opened, findings, now.at):
                self._journal(now, decision, made)
        return made

    def has_alert(self, key: str) -> bool:
        """Return whether an alert is open on a finding."""
        return key in self._opened

    @property
    def rests(self) -> bool:
        """Whether no training begins or ends: its declarations do not hold any more."""
        return self._rests

    def rest(self, rests: bool) -> None:
        """Let no training begin, nor the outcome of one be journaled, until told otherwise.

        A training under way is left as if its process ended: the next start begins it again.
        """
        with self._acting:
            self._rests = rests

    def train(
        self,
        model: str,
        reason: str,
        now: Now,
        start: Callable[[Training], None] | None = None,
    ) -> list[Decision]:
        """Train a challenger because a person asks for it.

        Returns the decisions until now: with `start`, the outcome comes later.

        Raises:
            TrainingBusy: one is made, or on its way.
            StartedOtherwise: other declarations hold than this loop has.
        """
        made: list[Decision] = []
        deployment = self._system.deployment(model)
        with self._acting:
            if self._rests:
                raise StartedOtherwise()
            state = self.state(model)
            if state.rolling or model in self._under_way:
                raise TrainingBusy(model, state)
            if state.stage == "training":
                self._journal(now, self._cut_off(model, state, now), made)
            training = self._ask(deployment, Decision(now.at, model, "train", reason), now, made)
        return made + self._carry_out(training, now, start)

    def roll_back(self, model: str, reason: str, now: Now) -> Decision | None:
        """Withdraw the challenger, else the champion, because a person asks for it."""
        with self._acting:
            state = self.state(model)
            decision = decide_return(model, state, reason, now.at)
            if decision is not None:
                back = decision.evidence["back_to"]
                if not state.rolling and not self.arms.loads(model, back):
                    raise WayBackBroken(model, back, self.arms.problem(model, back) or "")
                self._journal(now, decision, [])
        return decision

    def give_up(self, decision: Decision, now: Now) -> None:
        """Journal that a version in service may stop answering; nothing if that is so already."""
        with self._acting:
            state = self.state(decision.model)
            if not is_given_up(state, decision.version):
                self._journal(now, replace(decision, at=max(now.at, state.since)), [])

    def _is_gone(self, model: str, state: RolloutState) -> bool:
        """Whether the champion was given up, and cannot answer."""
        return state.given_up and not self.arms.loads(model, state.champion)

    def finish(self, now: Now, start: Callable[[Training], None] | None = None) -> list[Decision]:
        """Begin again the trainings that were cut off with their process; reject what was often."""
        made: list[Decision] = []
        for deployment in self._system.deployments:
            with self._acting:
                training = self._again(deployment, now, made)
            if training is not None:
                made += self._carry_out(training, now, start)
        return made

    def gather(self) -> None:
        """Bring what was folded and answered into the lake, where a training reads it."""
        self._flush()
        for deployment in self._system.deployments:
            self._home.predictions.flush(deployment.model.name)

    def run(self, training: Training) -> Outcome:
        """Carry out a training in this thread, one at a time; whatever is raised is the outcome."""
        with self._one_training:
            try:
                self.gather()
            except self._through:
                raise
            except Exception as broken:  # noqa: BLE001 - such as a full disk
                return Outcome(failed(training.deployment.model, broken))
            return carry_out(training, self._trainer, self.arms.package, self._through)

    def end(self, training: Training, outcome: Outcome, now: Now) -> list[Decision]:
        """Journal what came of a training; nothing, and return nothing, while the loop `rests`."""
        made: list[Decision] = []
        with self._acting:
            if self._rests:
                del self._under_way[training.model]
                return []
            state, found = self.state(training.model), outcome.found
            now = replace(now, at=max(now.at, state.since))
            for name, why in outcome.companions:
                more = dict(why.evidence)
                self._journal(now, Decision(now.at, name, "reject", why.reason, None, more), made)
            if isinstance(found, Failed):
                reason, more = found.reason, dict(found.evidence)
                decision = Decision(now.at, training.model, "reject", reason, None, more)
            else:
                decision = decide_candidate(
                    training.deployment, state, found, now.at,
                    champion_answers=not self._is_gone(training.model, state),
                )  # fmt: skip
            self._journal(now, decision, made)
            del self._under_way[training.model]
            return made + self.report([self._failing(training.model)], now)

    def _ask(
        self, deployment: Deployment, decision: Decision, now: Now, made: list[Decision]
    ) -> Training:
        """Journal that a model is trained; return what is to be done."""
        name = deployment.model.name
        version, retrain = self.state(name).champion, self._system.retrain(name)
        training = Training(
            deployment,
            now.at,
            version if self.arms.loads(name, version) else None,
            () if retrain is None else retrain.companions,
        )
        self._journal(now, decision, made)
        self._under_way[name] = training
        return training

    def _carry_out(
        self, training: Training, now: Now, start: Callable[[Training], None] | None
    ) -> list[Decision]:
        if start is not None:
            start(training)
            return []
        try:
            return self.end(training, self.run(training), now)
        finally:
            self._under_way.pop(training.model, None)

    def _again(self, deployment: Deployment, now: Now, made: list[Decision]) -> Training | None:
        """Journal that a training was cut off, and that it begins again, if it does."""
        if self._rests:
            return None
        name = deployment.model.name
        state = self.state(name)
        if state.stage != "training" or name in self._under_way:
            return None
        now = replace(now, at=max(now.at, state.since))
        self._journal(now, self._cut_off(name, state, now), made)
        if state.attempt >= ATTEMPTS:
            made += self.report([self._failing(name)], now)
            return None
        reason = f"the last training was cut off; attempt {state.attempt + 1} of {ATTEMPTS}"
        more = {"attempt": state.attempt + 1}
        return self._ask(deployment, Decision(now.at, name, "train", reason, None, more), now, made)

    def _cut_off(self, name: str, state: RolloutState, now: Now) -> Decision:
        reason = (
            "the process ended while it trained, or was to be started again by other "
            f"declarations, and no outcome was written down: attempt {state.attempt} of {ATTEMPTS}"
        )
        more: dict[str, object] = {"cut_off": state.attempt}
        if state.attempt >= ATTEMPTS:
            reason += (
                "; it is not begun again before the next occasion: if the memory is too small "
                "for it, shorten the history of the split, or train on another machine"
            )
            declared = content_hash(self._system.model(name))
            more["failed"] = {"type": "CutOff", "message": reason, "declared": declared}
        return Decision(max(now.at, state.since), name, "reject", reason, None, more)

    def _failing(self, name: str) -> Finding:
        state = self.state(name)
        if not state.failures:
            return Finding("training", name, "clear", "the last training did not fail")
        goes_on = (
            "no version answers yet: the fallback does"
            if state.champion is None
            else f"version {state.champion} goes on answering"
        )
        told = f"{state.failure}; {goes_on}; put the cause right, then run `homeostat train {name}`"
        return Finding("training", name, "found", told, {"failures": state.failures})

    def _journal(self, now: Now, decision: Decision, made: list[Decision]) -> None:
        """Write a decision down, and only then let it change the state."""
        state = None
        if decision.action not in ("alert", "clear"):
            state = advance(self.state(decision.model), decision)
        step = self._last = max(now.step, self._last)  # a rollback may come while a step is made
        self._home.journal.write(step, self._places.setdefault(step, 0), decision)
        self._places[step] += 1
        made.append(decision)
        if state is not None:
            self._states[decision.model] = state
        elif decision.action == "alert":
            self._opened[str(decision.evidence["key"])] = decision
        else:
            self._opened.pop(str(decision.evidence["key"]), None)

    def _advance(
        self,
        deployment: Deployment,
        findings: list[Finding],
        now: Now,
        start: Callable[[Training], None] | None,
    ) -> list[Decision]:
        made: list[Decision] = []
        name = deployment.model.name
        state, evidence = self.state(name), None
        if state.rolling:
            seen: list[RolloutEvidence] = []

            def look() -> tuple[Finding, ...]:
                seen.append(self.observer.evidence(deployment, state, now))
                return ()

            made += self.report(judged(name, "rollout", look, self._through), now)
            if not seen:
                return made  # it stays as it is
            evidence = seen[0]
        with self._acting:
            if self.state(name) != state:
                return made  # somebody decided meanwhile: the next step looks again
            training = self._decided(deployment, findings, evidence, now, made)
        return made if training is None else made + self._carry_out(training, now, start)

    def _decided(
        self,
        deployment: Deployment,
        findings: list[Finding],
        evidence: RolloutEvidence | None,
        now: Now,
        made: list[Decision],
    ) -> Training | None:
        state = self.state(deployment.model.name)
        if evidence is not None:
            decision = decide_rollout(deployment, state, evidence, now.at)
            if decision is not None:
                self._journal(now, decision, made)
            return None
        if state.stage == "training":
            return self._again(deployment, now, made)
        asked = None if self._rests else self._training_asked(deployment, findings, now)
        if asked is None:
            return None
        training = self._ask(deployment, asked[0], now, made)
        return replace(training, alteration=asked[1])

    def _training_asked(
        self, deployment: Deployment, findings: list[Finding], now: Now
    ) -> tuple[Decision, Alteration | None] | None:
        name = deployment.model.name
        state, retrain = self.state(name), self._system.retrain(name)
        if state.declared != content_hash(deployment.model):
            state = replace(state, failures=0)  # it is declared otherwise than what failed
        if state.champion is None or self._is_gone(name, state):
            # The first model is urgent: a day, where the cooldown of later ones is longer.
            cooldown = min(retrain.cooldown_us, LONGEST_REST) if retrain else 0
            wait = max(cooldown, rest_after(state.failures))
            if state.trained is not None and now.at - state.trained < wait:
                return None
            reason = "there is no model yet"
            if state.champion is not None:
                reason = f"version {state.champion} was given up, and answers nothing"
            return Decision(now.at, name, "train", reason), None
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
