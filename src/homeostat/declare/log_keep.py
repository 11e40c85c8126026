"""How long the log keeps what everybody has read: said by the profile, or from Python."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from homeostat.core.durations import Micros
from homeostat.declare.mistakes import duration, require, span

__all__ = ["LogKeep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKeep:
    """Lets the log go of records that are older than `keep`, or beyond the newest `keep_bytes`.

    Both hold for each source by itself; what goes by one of them goes. A record that the online
    store or the lake has not taken yet is kept in any case. Without either, everything is kept.

    >>> LogKeep(keep="7d").keep_us == 7 * 86_400_000_000
    True
    """

    keep: str | timedelta | Micros | None = None
    keep_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.keep is not None:
            object.__setattr__(self, "keep", span(self.keep, "log", "keep"))
        require(
            self.keep_bytes is None or (type(self.keep_bytes) is int and self.keep_bytes > 0),
            "log",
            f"keep_bytes={self.keep_bytes!r}",
            "a whole number of bytes, 1 or more",
            "write keep_bytes = 10_000_000_000, or leave it out",
        )

    @property
    def keep_us(self) -> Micros | None:
        """How old a record may become, in microseconds."""
        return None if self.keep is None else duration(self.keep, "log", "keep")
