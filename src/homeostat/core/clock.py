"""Clocks are passed in; no stage asks the machine what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError

__all__ = [
    "Clock",
    "ManualClock",
    "OffsetClock",
    "SteadyClock",
    "SystemClock",
    "from_micros",
    "to_micros",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(instant: datetime) -> Micros:
    """Return an aware datetime as microseconds since 1970-01-01 UTC.

    >>> to_micros(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    if instant.tzinfo is None:
        raise HomeostatError(
            f"instant {instant.isoformat()} has no time zone; allowed: an aware datetime; "
            "add tzinfo=UTC"
        )
    span = instant - _EPOCH
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds


def from_micros(micros: Micros) -> datetime:
    """Return microseconds since 1970-01-01 as an aware UTC datetime.

    >>> from_micros(1_000_000).isoformat()
    '1970-01-01T00:00:01+00:00'
    """
    seconds, rest = divmod(micros, 1_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=rest)


class Clock(Protocol):
    """Tells the present instant in microseconds since 1970-01-01 UTC."""

    def now(self) -> Micros: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> Micros:
        """Return the machine's present instant."""
        return time.time_ns() // 1_000


class ManualClock:
    """A clock that stands still until it is told to move.

    >>> clock = ManualClock(5)
    >>> clock.advance_to(9)
    >>> clock.now()
    9
    """

    def __init__(self, start: Micros = 0) -> None:
        self._now = start

    def now(self) -> Micros:
        """Return the instant last set."""
        return self._now

    def advance_to(self, instant: Micros) -> None:
        """Move to `instant`; a clock never moves back."""
        if instant < self._now:
            raise HomeostatError(f"clock at {self._now} cannot move back to {instant}")
        self._now = instant


class OffsetClock:
    """Runs at the pace of another clock from a start of its own: the end of a replay, lived on."""

    def __init__(self, base: Clock, start: Micros) -> None:
        self._base, self._shift = base, start - base.now()

    def now(self) -> Micros:
        """Return the start plus the time that has passed on the base clock."""
        return self._base.now() + self._shift


class SteadyClock:
    """A clock that never goes back: where another one does, it stands until that has caught up.

    Args:
        base: the clock it follows.
        start: what it shows at least.

    >>> base = ManualClock(5)
    >>> clock = SteadyClock(base, start=7)
    >>> clock.now(), clock.behind()
    (7, 2)
    >>> base.advance_to(9)
    >>> clock.now(), clock.behind()
    (9, 0)
    """

    def __init__(self, base: Clock, start: Micros = 0) -> None:
        self.base, self._shown = base, start

    def now(self) -> Micros:
        """Return the instant of the other clock, or the latest one that was shown."""
        # Two threads may both be late here: each shows no less than what it saw.
        self._shown = shown = max(self._shown, self.base.now())
        return shown

    def behind(self) -> Micros:
        """Return how far the other clock is behind what was shown."""
        return max(0, self._shown - self.base.now())
