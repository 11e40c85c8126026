"""What several commands ask of a home they only look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from homeostat.core.clock import SystemClock
from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.models import Model
from homeostat.deploy.state import RolloutState, replayed
from homeostat.runtime.home import Home
from homeostat.runtime.reading import last_seen
from homeostat.runtime.timeline import Timeline

__all__ = ["decision_row", "predictions_of", "present", "standing"]


class NoPredictions(HomeostatError):
    """A model that has not answered yet."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"model {model!r}: no prediction is logged; allowed: a deployed model that has "
            "answered; ask it through `homeostat run`, or let it live through a `homeostat replay`"
        )


def present(home: Home) -> Micros:
    """Return the present instant of a home: the machine's, or where its own clock has come to."""
    timeline = Timeline.load(home.folder)
    if timeline is None or timeline.lived_until is None:
        return SystemClock().now()
    return max(timeline.lived_until, last_seen(home))


def standing(home: Home, model: str) -> RolloutState:
    """Return where the rollout of a model stands."""
    return replayed(home.journal.decisions()).get(model, RolloutState())


def predictions_of(home: Home, model: Model) -> pl.DataFrame:
    """Return every logged prediction of a model, oldest first."""
    frames = [frame for _, frame in home.predictions.frames(model.name, 0, 2**62)]
    if not frames:
        raise NoPredictions(model.name)
    return pl.concat(frames)


def decision_row(decision: Decision) -> Mapping[str, Any]:
    """Return a decision as a row of a table, without its evidence."""
    from homeostat.runtime.cli_output import moment

    return {
        "at": moment(decision.at),
        "model": decision.model,
        "action": decision.action.replace("_", " "),
        "version": decision.version,
        "reason": decision.reason,
    }
