"""Who may see what, and how long it is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from homeostat.core.durations import Micros
from homeostat.core.hashing import UNSET_IS_UNSAID
from homeostat.declare.mistakes import duration, require, several, span
from homeostat.declare.sources import EventSource

__all__ = ["Access", "Erasure", "Retention"]


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the lake keeps the events of a source, counted from when they became known.

    Args:
        source: whose events.
        keep: older days are deleted; None keeps them for good. Days that features of now, late
            events or open labels still need stay, whatever is written here.
        hot: older days move to the cold place that the profile names; None leaves them.

    >>> from homeostat.testing.toy import toy_system
    >>> Retention(toy_system().source("payments"), "730d", hot="90d").hot_us // 86_400_000_000
    90
    """

    source: EventSource
    keep: str | timedelta | Micros | None = None
    hot: str | timedelta | Micros | None = field(default=None, metadata=UNSET_IS_UNSAID)

    def __post_init__(self) -> None:
        where = f"retention of {self.source.name!r}"
        for name in ("keep", "hot"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, span(getattr(self, name), where, name))
        require(
            self.keep is not None or self.hot is not None,
            where,
            "neither keep nor hot",
            "one of them, or both",
            "write keep='730d' to delete, hot='90d' to move",
        )
        require(
            self.keep_us is None or self.hot_us is None or self.hot_us < self.keep_us,
            where,
            "days would be deleted before they are cold",
            "hot shorter than keep",
            "drop hot, or keep the days for longer",
        )

    @property
    def keep_us(self) -> Micros | None:
        """How long events are kept, in microseconds; None for good."""
        return None if self.keep is None else duration(self.keep, self.source.name, "keep")

    @property
    def hot_us(self) -> Micros | None:
        """How long events are hot, in microseconds; None for as long as they are kept."""
        return None if self.hot is None else duration(self.hot, self.source.name, "hot")


@dataclass(frozen=True, slots=True)
class Erasure:
    """Events of a source can be erased by the person that `subject` names."""

    source: EventSource
    subject: str

    def __post_init__(self) -> None:
        where = f"erasure in {self.source.name!r}"
        found = self.source.schema.field(self.subject, where)
        require(
            not self.source.schema.has(self.subject) or found.is_personal,
            where,
            f"subject {self.subject!r} is not tagged",
            "a field tagged homeostat.Personal",
            "annotate it: Annotated[str, homeostat.Personal]",
        )


@dataclass(frozen=True, slots=True)
class Access:
    """A role may read these sources; personal fields only with `personal=True`."""

    role: str
    sources: tuple[EventSource, ...]
    personal: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", several(self.sources))
