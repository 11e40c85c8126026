"""How far the fold is behind the log, and how long who pushes has to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from threading import Lock

from homeostat.runtime.consuming import unfolded
from homeostat.runtime.home import Home
from homeostat.serve.seam import Behind

__all__ = ["Backlog"]

ALLOWED = 200_000
"""So many records of a source may wait: what feeds rest at, too."""

WEIGHT = 0.3
"""How much the last pass counts in the rate of folding."""

LONGEST_S = 60


class Backlog:
    """Admits events while fewer than `allowed` records of their source wait to be folded.

    Args:
        waiting: tells how many records of a source wait.
        allowed: how many may.
    """

    def __init__(self, waiting: Callable[[str], int], allowed: int = ALLOWED) -> None:
        self._waiting, self._allowed = waiting, allowed
        self._rates: dict[str, float] = {}
        self._lock = Lock()

    @classmethod
    def of(cls, home: Home) -> Backlog:
        """Return the backlog of a home."""
        return cls(lambda source: unfolded(home, source))

    def waiting(self, source: str) -> int:
        """Return how many records of a source wait to be folded."""
        return self._waiting(source)

    def folded(self, source: str, records: int, seconds: float) -> None:
        """Note that a pass folded so many records of a source in so many seconds."""
        if records <= 0 or seconds <= 0:
            return
        with self._lock:
            before = self._rates.get(source, records / seconds)
            self._rates[source] = before + WEIGHT * (records / seconds - before)

    def admit(self, source: str) -> None:
        """Raise `Behind` if too many records wait; it says when half of them will be folded.

        >>> backlog = Backlog(lambda source: 900, allowed=400)
        >>> backlog.folded("taps", 700, seconds=2.0)
        >>> try:
        ...     backlog.admit("taps")
        ... except Behind as behind:
        ...     behind.retry_after_s  # 900 to 200, at 350 a second
        2
        """
        waiting = self._waiting(source)
        if waiting < self._allowed:
            return
        rate = self._rates.get(source, 0.0)
        ahead = waiting - self._allowed // 2
        seconds = LONGEST_S if rate <= 0 else min(max(ceil(ahead / rate), 1), LONGEST_S)
        raise Behind(source, waiting, self._allowed, seconds)
