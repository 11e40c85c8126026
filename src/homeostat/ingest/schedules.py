"""When a scheduled run is due, from when the last one was planned and what time it is."""

from __future__ import annotations

from dataclasses import dataclass

from homeostat.core.clock import from_micros
from homeostat.core.cron import last_run, next_run
from homeostat.core.durations import Micros
from homeostat.declare.feeds import Schedule
from homeostat.ingest.feed import Landing
from homeostat.ingest.log import Advance

__all__ = ["SCHEDULE", "Due", "Run", "Timetable", "due"]

SCHEDULE = "schedule"
"""The stream under which the log keeps for when the last run was planned."""


@dataclass(frozen=True, slots=True)
class Due:
    """What to do now.

    Attributes:
        planned: the instant of the run that is due, None if none is.
        anchor: the instant to count from in future, None to keep the one there is.
        next: the first instant after the present one at which a run is planned.
    """

    planned: Micros | None
    anchor: Micros | None
    next: Micros


def due(schedule: Schedule, last: Micros | None, now: Micros) -> Due:
    """Return what is due at `now`, after the run planned for `last` (None: there was none).

    A source with `every` runs at once when it is new; one with `cron` waits for its first instant.
    A clock that went back past an earlier instant of the schedule was wrong before: the schedule
    goes on from the present, instead of standing still until that time comes again.

    >>> hourly = Schedule(every=60, cron=None)
    >>> due(hourly, last=None, now=130).planned, due(hourly, last=120, now=179).planned
    (120, None)
    >>> due(hourly, last=120, now=300).planned
    300
    >>> due(Schedule(every=60, cron=None, catch_up="each"), last=120, now=300).planned
    180
    >>> due(hourly, last=900, now=130).anchor
    120
    """
    following = _after(schedule, now)
    if last is None:
        if schedule.cron is not None:
            return Due(None, now, following)
        return Due(_before(schedule, now), None, following)
    if following < last:
        return Due(None, _before(schedule, now), following)
    first = _after(schedule, last)
    if first > now:
        return Due(None, None, max(first, following))
    return Due(first if schedule.catch_up == "each" else _before(schedule, now), None, following)


def _after(schedule: Schedule, instant: Micros) -> Micros:
    if schedule.cron is not None:
        return next_run(schedule.cron, instant)
    every = schedule.every or 1
    return (instant // every + 1) * every


def _before(schedule: Schedule, instant: Micros) -> Micros:
    """Return the last instant of the schedule that is not after `instant`."""
    if schedule.cron is not None:
        return last_run(schedule.cron, instant)
    every = schedule.every or 1
    return instant // every * every


@dataclass(frozen=True, slots=True)
class Run:
    """One run that is to be made: for which instant, and how the log remembers that it was.

    `done` is appended with the last records of the run, so that a run is done with all of its
    records or not at all. A run that was asked for by hand leaves the schedule as it is.
    """

    planned: Micros
    done: tuple[Advance, ...] = ()


class Timetable:
    """The runs of one source: which was the last is kept in the log, with the records it brought.

    Args:
        schedule: the declared instants.
        landing: whose log keeps when the last run was planned for.
    """

    def __init__(self, schedule: Schedule, landing: Landing) -> None:
        self._schedule, self._landing = schedule, landing

    def run(self, now: Micros, *, force: bool = False) -> Run | None:
        """Return the run that is due at `now`; with `force` one in any case."""
        if force:
            return Run(now)
        said = self._landing.position(SCHEDULE)
        last = None if said is None else int(said)
        found = due(self._schedule, last, now)
        if found.anchor is not None:
            if last is not None:
                self._landing.told(
                    f"the clock says {from_micros(now):%Y-%m-%d %H:%M} UTC, and the last run was "
                    f"planned for {from_micros(last):%Y-%m-%d %H:%M}: the schedule goes on from now"
                )
            self._landing.append([], [Advance(SCHEDULE, said, str(found.anchor))])
        if found.planned is None:
            return None
        return Run(found.planned, (Advance(SCHEDULE, said, str(found.planned)),))
