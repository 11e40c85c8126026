"""What several commands ask of a home they only look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from time import monotonic, sleep
from typing import Any, Literal

import polars as pl
from rich.console import Console

from homeostat.console.terminal import COLOURS
from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.models import Model
from homeostat.deploy.state import RolloutState, replayed
from homeostat.runtime.cli_output import moment, table
from homeostat.runtime.cli_shared import Session
from homeostat.runtime.home import Home
from homeostat.runtime.lock import HomeBusy, owner_of
from homeostat.runtime.orders import Orders

__all__ = [
    "ACTIONS",
    "by_hand",
    "decision_row",
    "predictions_of",
    "show_decisions",
    "standing",
]

ACTIONS = {action.replace("_", " "): style for action, style in COLOURS.items()}
PATIENCE_S, LOOK_S = 60.0, 0.1


class NoPredictions(HomeostatError):
    """A model that has not answered yet, or not since an instant; `last` is its last answer."""

    def __init__(self, model: str, last: datetime | None = None) -> None:
        if last is not None:
            super().__init__(
                f"model {model!r}: no prediction is that new; allowed: an instant up to its last "
                f"one, {last:%Y-%m-%dT%H:%M:%S} UTC; choose an earlier one"
            )
            return
        super().__init__(
            f"model {model!r}: no prediction is logged; allowed: a deployed model that has "
            "answered; ask it through `homeostat run`, or let it live through a `homeostat replay`"
        )


class Unanswered(HomeostatError):
    """An order that the running process did not carry out: in time, or before it ended."""

    def __init__(self, action: str, model: str, owner: str, *, is_alive: bool) -> None:
        if is_alive:
            found = "did not take it up in time, and it was withdrawn"
            advice = "look at what that process prints, and ask again"
        else:
            found = "ended before it was done"
            begun = "; a training that was cut off is begun again then" * (action == "train")
            advice = f"start `homeostat run` again{begun}; see `homeostat journal`"
        super().__init__(
            f"{action} of {model!r}: {owner}, which runs this home, {found}; allowed: a process "
            f"that is alive and carries it out; {advice}"
        )


def by_hand(
    here: Session, action: Literal["train", "rollback"], model: str, reason: str
) -> list[Decision]:
    """Train a model or roll it back: in this process, or in the one that runs the home."""
    try:
        with here.app() as app:
            return app.live.by_hand(model, action, reason)
    except HomeBusy as busy:
        if action == "train":
            _require_applied(here)
        return ordered(here, action, model, reason, busy)


def ordered(
    here: Session,
    action: Literal["train", "rollback", "apply"],
    subject: str,
    reason: str,
    busy: HomeBusy,
) -> list[Decision]:
    """Let the process that runs the home do something; return the decisions that it led to."""
    orders = Orders(here.folder / "meta.db")
    try:
        number, began = orders.place(action, subject, reason), monotonic()
        while (made := orders.outcome(number)) is None:
            # One that is taken is waited for as long as its process lives.
            is_late = monotonic() - began > PATIENCE_S and orders.withdraw(number)
            is_alive = owner_of(here.folder) is not None
            if is_late or not (is_alive or orders.outcome(number) is not None):
                raise Unanswered(action, subject, busy.owner, is_alive=is_alive) from None
            sleep(LOOK_S)
        return made
    finally:
        orders.close()


def _require_applied(here: Session) -> None:
    """Raise `NotApplied` if the process that runs the home would train by other declarations."""
    from homeostat.runtime.applying import NotApplied
    from homeostat.runtime.plan import applied, plan

    system = here.system()
    changes = plan(applied(here.folder), system)
    if changes:
        raise NotApplied(system.name, [f"{change.subject} {change.kind}" for change in changes])


def standing(home: Home, model: str) -> RolloutState:
    """Return where the rollout of a model stands."""
    return replayed(home.journal.decisions()).get(model, RolloutState())


def predictions_of(
    home: Home,
    model: Model,
    since: Micros | None = None,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return the logged predictions of a model asked at an instant or later, oldest first."""
    found = list(home.predictions.frames(model.name, since, None, columns))
    if found:
        return pl.concat(found, how="diagonal")
    last = next(home.predictions.newest_first(model.name), None)
    raise NoPredictions(model.name, None if last is None else last["at"].to_list()[-1])


def decision_row(decision: Decision) -> Mapping[str, Any]:
    """Return a decision as a row of a table, without its evidence."""
    return {
        "at": moment(decision.at),
        "model": decision.model,
        "action": decision.action.replace("_", " "),
        "version": decision.version,
        "reason": decision.reason,
    }


def show_decisions(to: Console, decisions: Sequence[Decision]) -> None:
    """Print decisions as people read them."""
    rows = [decision_row(decision) for decision in decisions]
    table(to, rows, wide=("reason",), styles={"action": ACTIONS})
