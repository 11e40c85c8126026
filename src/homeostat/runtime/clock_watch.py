"""Tells once that the machine's clock went back."""

from __future__ import annotations

from homeostat.core.clock import SteadyClock
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError

__all__ = ["ClockWatch", "ClockWentBack"]

TOLERATED = 1_000_000
"""A clock may be set back by so many microseconds without a word."""


class ClockWentBack(HomeostatError):
    """The machine's clock shows an earlier instant than before."""

    retryable = True

    def __init__(self, behind: Micros) -> None:
        super().__init__(
            f"clock: it went back by {behind / 1e6:,.1f} s; allowed: a clock that goes forward; "
            "time stands until it has caught up, and events are taken in meanwhile; set the "
            "machine's clock by a time service that slews"
        )


class ClockWatch:
    """Looks how far a clock is behind what it has shown.

    >>> from homeostat.core.clock import ManualClock
    >>> watch = ClockWatch(SteadyClock(ManualClock(0), start=5_000_000))
    >>> isinstance(watch.look(), ClockWentBack), watch.look()
    (True, None)
    """

    def __init__(self, clock: SteadyClock) -> None:
        self._clock, self._is_behind = clock, False

    def look(self) -> ClockWentBack | None:
        """Return the problem when it begins; time stands until the clock has caught up."""
        behind, was_behind = self._clock.behind(), self._is_behind
        self._is_behind = behind > TOLERATED
        return ClockWentBack(behind) if self._is_behind and not was_behind else None
