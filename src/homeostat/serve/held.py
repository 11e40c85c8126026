"""Calls that were given up at their deadline and still run: how many, since when, and in what."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType

from homeostat.declare.models import Model
from homeostat.declare.system import on_demand_features
from homeostat.serve.crew import Job
from homeostat.serve.ports import Stopwatch

__all__ = ["HeldCalls", "functions_of"]

SECOND = 1_000_000_000


def functions_of(model: Model) -> dict[CodeType, str]:
    """Return the names of a model's on-demand features by the code that computes them."""
    named = {
        getattr(feature.function, "__code__", None): feature.name
        for feature in on_demand_features(model)
    }
    return {code: name for code, name in named.items() if code is not None}


@dataclass(slots=True)
class HeldCalls:
    """The calls of one model that nobody waits for any more, and that hold their threads.

    At `most` of them the model is asked no further, until one of them ends.

    Args:
        most: how many there may be.
        functions: the names of the model's on-demand features by their code.
        stopwatch: monotonic nanoseconds.
        tell: told of each change of their number.
    """

    most: int
    functions: Mapping[CodeType, str]
    stopwatch: Stopwatch
    tell: Callable[[int], None] = lambda change: None
    _since: dict[Job, int] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._since)

    @property
    def is_full(self) -> bool:
        """Whether no call may be given up any more."""
        return len(self._since) >= self.most

    def add(self, job: Job) -> None:
        """Count a call that was given up, and runs."""
        self._since[job] = self.stopwatch()
        self.tell(1)

    def discard(self, job: Job) -> None:
        """Count no more a call that has ended."""
        if self._since.pop(job, None) is not None:
            self.tell(-1)

    def __str__(self) -> str:
        """Say how many there are, since when, and where they are at this moment."""
        places: dict[str, int] = {}
        for job in list(self._since):
            where = self._where(job)
            places[where] = places.get(where, 0) + 1
        listed = "; ".join(f"{n} in {where}" for where, n in sorted(places.items()))
        longest = (self.stopwatch() - min(self._since.values())) / SECOND if self._since else 0.0
        return (
            f"{len(self._since)} calls that were given up at their deadline still run, the first "
            f"of them since {longest:.0f} s: {listed or 'nowhere'}"
        )

    def _where(self, job: Job) -> str:
        """Return the on-demand feature that a call is in, or else the innermost function."""
        ident = None if job.thread is None else job.thread.ident
        found = None if ident is None else sys._current_frames().get(ident)
        innermost = found
        while found is not None:
            name = self.functions.get(found.f_code)
            if name is not None:
                return f"on-demand feature {name!r} ({_line(found)})"
            found = found.f_back
        if innermost is None:
            return "a thread that is ending"
        return f"{innermost.f_code.co_name!r} ({_line(innermost)})"


def _line(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
