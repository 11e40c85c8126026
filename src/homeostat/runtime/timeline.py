"""The steps of a home's time: where they begin, how long they are, which clock they are on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from homeostat.core.clock import Clock, OffsetClock, SystemClock, from_micros
from homeostat.core.durations import DurationInvalid, Micros, parse_duration
from homeostat.core.errors import HomeostatError

__all__ = ["AS_STEPS", "StepInvalid", "Timeline", "latest_known", "parse_step"]

FILE = "timeline.json"

SHORTEST: Micros = 1_000_000
AS_STEPS = 'a span of at least a second, such as "1m"'


class StepInvalid(HomeostatError, ValueError):
    """A length of the loop's steps that is none."""

    def __init__(self, got: object) -> None:
        self.got = got
        super().__init__(f"step of the loop {got!r}; allowed: {AS_STEPS}; or leave it out")


@dataclass(frozen=True, slots=True)
class Timeline:
    """Step k, counted from 1, is the span of `every` microseconds that begins at `start_of(k)`.

    `lived_until` is the instant at which a replay ended: a home on a virtual clock lives on from
    there at the pace of the real one. None for a home that has only seen real time.
    """

    start: Micros
    every: Micros
    lived_until: Micros | None = None

    def start_of(self, step: int) -> Micros:
        """Return the instant at which a step begins; step 0 ends at `start`."""
        return self.start + (step - 1) * self.every

    def step_of(self, instant: Micros) -> int:
        """Return the step that an instant lies in.

        >>> Timeline(start=100, every=10).step_of(109), Timeline(start=100, every=10).step_of(110)
        (1, 2)
        """
        return (instant - self.start) // self.every + 1

    def clock(self, real: Clock) -> Clock:
        """Return the clock a home lives by."""
        return real if self.lived_until is None else OffsetClock(real, self.lived_until)

    def lived(self, until: Micros) -> Timeline:
        """Return the timeline of a home that was seen alive at an instant.

        >>> Timeline(start=100, every=10, lived_until=150).lived(170).lived_until
        170
        >>> Timeline(start=100, every=10).lived(170).lived_until is None
        True
        """
        if self.lived_until is None or until <= self.lived_until:
            return self
        return replace(self, lived_until=until)

    def stepping(self, every: Micros, now: Micros, done: int) -> Timeline:
        """Return the timeline with steps of another length from `now`, which is in `done` + 1.

        >>> timeline = Timeline(start=100, every=10).stepping(60, 9_005, done=5)
        >>> timeline.step_of(9_005), timeline.start_of(6)
        (6, 9000)
        """
        return replace(self, start=now - now % every - done * every, every=every)

    def describe(self) -> str:
        """Return one sentence on the clock, empty for the real one."""
        if self.lived_until is None:
            return ""
        then = f"{from_micros(self.lived_until):%Y-%m-%d %H:%M:%S} UTC"
        return f"the present of this home is {then}, where its replay has come to"

    def save(self, home: Path) -> None:
        """Write the timeline into a home, atomically."""
        waiting = home / f"{FILE}.new"
        waiting.write_text(json.dumps(asdict(self)))
        waiting.replace(home / FILE)

    @classmethod
    def load(cls, home: Path) -> Timeline | None:
        """Return the timeline of a home, or None if it has none yet."""
        path = home / FILE
        return cls(**json.loads(path.read_text())) if path.exists() else None


def parse_step(given: str) -> Micros:
    """Return how often the loop looks, in microseconds.

    >>> parse_step("1m")
    60000000
    """
    try:
        found = parse_duration(given)
    except DurationInvalid as wrong:
        raise StepInvalid(given) from wrong
    if found < SHORTEST:
        raise StepInvalid(given)
    return found


def latest_known(now: Micros) -> Micros:
    """Return the last instant at which anything can have become known, at a home's present.

    A replay's clock may be behind the machine's: what was known since waits for it in the log.
    """
    return max(now, SystemClock().now())
