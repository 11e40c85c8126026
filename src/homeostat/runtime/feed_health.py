"""How the feeds and topics of a running home fare: what fails, since when, and when it last went.

It is written into the home as it changes, so that commands of other processes can tell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock

from homeostat.core.clock import Clock, from_micros
from homeostat.core.durations import Micros

__all__ = ["FeedHealth", "FeedState", "feed_states"]

FILE = "feeds.json"

NOTED: Micros = 60_000_000
"""That a feed goes well is written down again after so many microseconds."""

Fares = Mapping[str, "FeedState"]


@dataclass(frozen=True, slots=True)
class FeedState:
    """Of the feed of one source, or its topic: instants in microseconds, None for never.

    >>> print(FeedState(None, 60_000_000, "OSError: no route to host").told)
    fetching fails since 1970-01-01 00:01:00 UTC, and never went well: OSError: no route to host
    """

    well_at: Micros | None = None
    failing_since: Micros | None = None
    error: str = ""

    @property
    def told(self) -> str:
        """What fails, in a sentence; "" while nothing does."""
        if self.failing_since is None:
            return ""
        well = "never went well" if self.well_at is None else f"went well at {_at(self.well_at)}"
        return f"fetching fails since {_at(self.failing_since)}, and {well}: {self.error}"


class FeedHealth:
    """Notes how feeds fare, from any thread.

    Args:
        folder: of the home.
        clock: the present.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path, self._clock, self._lock = folder / FILE, clock, Lock()
        self._states: dict[str, FeedState] = {}
        self._written: Micros | None = None

    def fares(self, source: str, error: str = "") -> None:
        """Note that the feed of a source went well, or how it failed."""
        now = self._clock.now()
        with self._lock:
            before = self._states.get(source, FeedState())
            if error:
                since = now if before.failing_since is None else before.failing_since
                after = replace(before, failing_since=since, error=error)
            else:
                after = FeedState(now)
            self._states[source] = after
            is_news = after.told != before.told or before.well_at is None
            if is_news or self._written is None or now - self._written > NOTED:
                self._written = now
                self._write()

    def troubles(self) -> dict[str, str]:
        """Return what fails of each source, "" for nothing."""
        with self._lock:
            return {source: state.told for source, state in self._states.items()}

    def notes(self) -> list[str]:
        """Return what `/ready` says of feeds."""
        return [f"feed of {source}: {told}" for source, told in self.troubles().items() if told]

    def _write(self) -> None:
        waiting = self._path.with_suffix(".new")
        waiting.write_text(json.dumps({name: asdict(one) for name, one in self._states.items()}))
        waiting.replace(self._path)


def feed_states(folder: Path) -> Fares:
    """Return how the feeds of a home fared when a process last noted it."""
    path = folder / FILE
    if not path.exists():
        return {}
    said = json.loads(path.read_text(encoding="utf-8"))
    return {name: FeedState(**state) for name, state in said.items()}


def _at(instant: Micros) -> str:
    return f"{from_micros(instant):%Y-%m-%d %H:%M:%S} UTC"
