"""A version in service that is given up is a decision, in the journal before declarations hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeostat.core.clock import from_micros
from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError, UnknownName
from homeostat.deploy.state import RolloutState, is_given_up, replayed
from homeostat.runtime.cursor import complete, completed
from homeostat.runtime.home import Home
from homeostat.runtime.in_service import Serving

__all__ = ["GivenUpBefore", "GivingUp", "ReasonMissing", "as_decisions", "journal_given_up"]


class ReasonMissing(HomeostatError):
    """A version is given up, and nobody says why."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"apply --give-up {' '.join(names)}: no reason; allowed: one that the journal keeps; "
            'add --reason "..."'
        )


class GivenUpBefore(HomeostatError):
    """A version is given up again, for another reason than the journal has."""

    def __init__(self, name: str, before: Decision, reason: str) -> None:
        super().__init__(
            f"apply --give-up {name}: reason {reason!r}; it was given up before, at "
            f"{from_micros(before.at)} by {before.evidence.get('by')}: {before.reason!r}; allowed: "
            "once, or again for that reason; leave it out of this command, nothing was changed"
        )


@dataclass(frozen=True, slots=True)
class GivingUp:
    """Which versions ("late@1") may stop answering; who says so, when, and why."""

    versions: tuple[str, ...] = ()
    at: Micros = 0
    by: str = ""
    reason: str = ""


def as_decisions(
    home: Home, served: Sequence[Serving], asked: GivingUp, declared: str
) -> tuple[Decision, ...]:
    """Return what is to be journaled of versions that are given up.

    A version that can answer all the same is not given up, and one is only once: again for the
    same reason, nothing is journaled.

    Args:
        home: where it is journaled.
        served: the versions in service under the new declarations.
        asked: which of them may stop answering.
        declared: the hash of the new declarations.

    Raises:
        UnknownName: a version that is and was not in service.
        GivenUpBefore: a version that was given up for another reason.
    """
    decisions = home.journal.decisions()
    states = replayed(decisions)
    found = {one.name: one for one in served}
    before = {f"{d.model}@{d.version}": d for d in decisions if d.action == "give_up"}
    made = []
    for name in asked.versions:
        if name not in found and name not in before:
            raise UnknownName("version in service", name, tuple(found), "apply --give-up")
        one = found.get(name)
        state = RolloutState() if one is None else states.get(one.model, RolloutState())
        if one is None or is_given_up(state, one.version):
            if name in before and before[name].reason != asked.reason:
                raise GivenUpBefore(name, before[name], asked.reason)
            continue
        if one.problem is None:
            continue
        lost = [{"feature": lost.feature, "why": lost.why} for lost in one.lost]
        evidence = {
            "by": asked.by, "role": one.role, "lost": lost, "problem": str(one.problem),
            "declarations": declared,
        }  # fmt: skip
        at = max(asked.at, state.since)
        made.append(Decision(at, one.model, "give_up", asked.reason, one.version, evidence))
    return tuple(made)


def journal_given_up(home: Home, made: Sequence[Decision]) -> None:
    """Write decisions down in a home that no process runs, as a part of its last step.

    That step is then complete, as it is when a process opens the home.
    """
    if not made:
        return
    with home.store.writer() as writer:
        step = max(completed(writer) or 0, home.journal.last_step() or 0)
        complete(writer, step)
    for decision in made:
        home.journal.write(step, home.journal.next_place(step), decision)
