"""Whether the fold goes on: records that wait, while none is folded, are told of."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic

from homeostat.core.clock import Clock, from_micros
from homeostat.features.folded import folded_offset
from homeostat.runtime.home import Home

__all__ = ["FoldProgress"]

LOOK_S, STANDS_S = 1.0, 30.0
"""The rest between two looks, and how long records may wait while none is folded."""


class FoldProgress:
    """Looks whether the records that wait become fewer, from any thread.

    Args:
        home: whose log is folded.
        clock: the home's present.
        fault: tells of the last failure of a pass, None if there was none.
        seconds: a stopwatch.
    """

    def __init__(
        self,
        home: Home,
        clock: Clock,
        fault: Callable[[], str | None],
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self._home, self._clock, self._fault, self._seconds = home, clock, fault, seconds
        self._lock, self._looked, self._said = Lock(), seconds() - LOOK_S, ""
        self._reached: dict[str, tuple[int, float]] = {}

    def stands(self) -> str:
        """Say which records wait, and why as far as it is known; "" while the fold goes on."""
        with self._lock:
            now = self._seconds()
            if now - self._looked >= LOOK_S:
                self._looked = now
                self._said = "; ".join(filter(None, map(self._look, self._sources())))
            return self._said

    def _sources(self) -> list[str]:
        return [source.name for source in self._home.system.sources]

    def _look(self, source: str) -> str:
        now = self._seconds()
        with self._home.store.reader() as reader:
            folded = folded_offset(reader, source)
        waiting = self._home.log.end(source).next_offset - folded - 1
        before, since = self._reached.get(source, (folded, now))
        if waiting <= 0 or folded != before:
            since = now
        self._reached[source] = folded, since
        if now - since < STANDS_S:
            return ""
        return (
            f"{waiting:,} records of {source!r} wait, and none was folded for {now - since:,.0f} s"
            f"{self._why(source, folded)}"
        )

    def _why(self, source: str, folded: int) -> str:
        first = self._home.log.read(source, folded, 1)
        if len(first) and int(first.known[0]) > self._clock.now():
            known = from_micros(int(first.known[0]))
            return f": the next becomes known at {known:%Y-%m-%d %H:%M:%S} UTC, which is to come"
        fault = self._fault()
        return "" if fault is None else f": {fault}"
