"""Clocks are passed in; no stage asks the machine what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from threading import Lock
from typing import Protocol

from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError

__all__ = [
    "Clock",
    "ManualClock",
    "OffsetClock",
    "OrderedClock",
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


class OrderedClock(Clock, Protocol):
    """A clock that orders what is asked behind what is known, also while it stands."""

    def after(self, known: Micros) -> Micros:
        """Return the present, later than `known`; nothing earlier is shown from now on."""
        ...


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

    def after(self, known: Micros) -> Micros:
        """Return the instant last set, or the first one after `known`, where it stands then."""
        self._now = max(self._now, known + 1)
        return self._now


class OffsetClock:
    """Runs at the pace of another clock from a start of its own: the end of a replay, lived on."""

    def __init__(self, base: Clock, start: Micros) -> None:
        self._base, self._shift = base, start - base.now()

    def now(self) -> Micros:
        """Return the start plus the time that has passed on the base clock."""
        return self._base.now() + self._shift


class SteadyClock:
    """A hybrid logical clock: follows another one, never goes back, and orders questions.

    Where the other clock goes back, this one stands until that has caught up. A question is asked
    `after` what it sees: if the clock stands at the known time of an event that a snapshot holds,
    the question gets the next microsecond, and what becomes known from then on is no earlier than
    that. So "known strictly before" holds for snapshots, whatever the machine's clock does. Safe to
    use from many threads.

    Args:
        base: the clock it follows.
        start: what it shows at least.

    >>> base = ManualClock(5)
    >>> clock = SteadyClock(base, start=7)
    >>> clock.now(), clock.behind()
    (7, 2)
    >>> clock.after(7), clock.after(7), clock.now()
    (8, 8, 8)
    >>> base.advance_to(9)
    >>> clock.after(7), clock.behind()
    (9, 0)
    """

    def __init__(self, base: Clock, start: Micros = 0) -> None:
        self.base, self._shown = base, start
        self._lock = Lock()

    def now(self) -> Micros:
        """Return the instant of the other clock, or the latest one that was shown."""
        return self._show(0)

    def after(self, known: Micros) -> Micros:
        """Return the present, later than `known`; nothing earlier is shown from now on."""
        return self._show(known + 1)

    def behind(self) -> Micros:
        """Return how far the other clock is behind what was shown."""
        return max(0, self._shown - self.base.now())

    def _show(self, least: Micros) -> Micros:
        # Under the lock, or a late thread would take back what another one has shown.
        with self._lock:
            self._shown = shown = max(self._shown, least, self.base.now())
        return shown
