"""The time machine: the whole system over its log, on a virtual clock.

The log holds the history with the instants at which it became known. A replay reads it up to a
clock that it moves itself, so nothing later than the clock is ever seen, and runs every stage
through the code that serves live. It can be killed at any instant and run again: it goes on with
the step that was not completed, and ends in the same journal, lake and models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.system import System
from homeostat.runtime.engine import Engine, Span
from homeostat.runtime.home import Home
from homeostat.runtime.loop import Intervention
from homeostat.runtime.worker import Counts

__all__ = ["Progress", "Replayed", "Schedule", "replay"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything before `start` is history; then steps of `every` until `end`.

    The lake is committed every `flush_every` steps.
    """

    start: Micros
    end: Micros
    every: Micros
    flush_every: int = 1

    def __post_init__(self) -> None:
        if not (self.start < self.end and self.every > 0 and self.flush_every > 0):
            raise HomeostatError(
                f"replay from {self.start} to {self.end} every {self.every} microseconds; "
                "allowed: an end after the start, and a step longer than nothing; check the dates"
            )

    @property
    def steps(self) -> int:
        """The number of steps after the history."""
        return -(-(self.end - self.start) // self.every)

    def start_of(self, step: int) -> Micros:
        """Return the instant at which a step begins; step 0 ends at `start`."""
        return self.start + (step - 1) * self.every

    def span(self, step: int) -> Span:
        """Return one step of time."""
        begin = self.start_of(step)
        last = step == self.steps
        end = self.end if last else begin + self.every
        return Span(step, begin, end, flush=last or step % self.flush_every == 0)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is: the instant, the steps, and what the last step did."""

    phase: str
    at: Micros
    step: int
    steps: int
    records: int
    predictions: int
    decisions: tuple[Decision, ...] = ()


@dataclass
class Replayed:
    """What this run of a replay did; the home holds the whole."""

    steps: int = 0
    predictions: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)


def replay(
    system: System,
    home: Home,
    schedule: Schedule,
    *,
    interventions: Iterable[Intervention] = (),
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Replayed:
    """Run, or go on with, the replay of a home's log.

    Args:
        system: the declarations.
        home: a home whose log holds the history with its known times.
        schedule: when the history ends, and the steps from there.
        interventions: challengers that are submitted by hand on the way.
        progress: told after each chunk of history and each step.
    """
    engine = Engine(system, home, interventions=interventions)
    engine.resume(schedule.start_of)
    done, cursor = Replayed(), engine.cursor()
    if cursor is None:
        read = 0

        def told(records: int) -> None:
            nonlocal read
            read += records
            progress(Progress("history", schedule.start, 0, schedule.steps, read, 0))

        done.counts = engine.history(schedule.start, told)
        cursor = -1
    for step in range(cursor + 1, schedule.steps + 1):
        span = schedule.span(step)
        result = engine.run(span)
        done.steps += 1
        done.predictions += result.predictions
        for source, counts in result.counts.items():
            done.counts.setdefault(source, Counts()).add(counts)
        progress(
            Progress(
                "replay", span.end, step, schedule.steps, 0, done.predictions,
                tuple(result.decisions),
            )
        )  # fmt: skip
    return done
