"""A home has one present: what comes now is never behind what it knows of later.

A log is folded in its order. In a home whose replay stopped midway, what came now would wait behind
records that become known only when its own present has come that far.
"""

from __future__ import annotations

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.runtime.home import Home
from homeostat.runtime.timeline import Timeline

__all__ = ["LaterWaits", "require_one_present", "require_present"]


class LaterWaits(HomeostatError):
    """Events of now for a home whose log has events that its present has not come to."""

    def __init__(self, home: Home, source: str, last: Micros, now: Micros) -> None:
        until, then = (f"{from_micros(at):%Y-%m-%d %H:%M:%S} UTC" for at in (now, last))
        super().__init__(
            f"home {home.folder}: its present is {until}, where its replay has come to, and "
            f"records of {source!r} wait that become known up to {then}: what comes now would wait "
            "behind them; allowed: a present after all that waits; go on with `homeostat replay`, "
            "or live on by the machine's clock with `homeostat run`, which folds them at once "
            "(homeostat.open(live=True))"
        )


def require_present(home: Home, timeline: Timeline, source: str, now: Micros) -> None:
    """Raise `LaterWaits` if a source's log has records that a replay's present is not at yet."""
    last = home.log.end(source).last_known
    if timeline.lived_until is not None and last is not None and last > now:
        raise LaterWaits(home, source, last, now)


def require_one_present(home: Home, timeline: Timeline) -> None:
    """Raise `LaterWaits` if the log of any source has such records."""
    for source in home.system.sources:
        require_present(home, timeline, source.name, timeline.lived_until or 0)
