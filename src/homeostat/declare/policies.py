"""Who may see what, and how long it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from homeostat.core.durations import Micros
from homeostat.declare.mistakes import duration, require, several, span
from homeostat.declare.sources import EventSource

__all__ = ["Access", "Erasure", "Retention"]


@dataclass(frozen=True, slots=True)
class Retention:
    """Keep the events of a source for `keep` after they became known."""

    source: EventSource
    keep: str | timedelta | Micros

    def __post_init__(self) -> None:
        where = f"retention of {self.source.name!r}"
        object.__setattr__(self, "keep", span(self.keep, where, "keep"))

    @property
    def keep_us(self) -> Micros:
        """How long events are kept, in microseconds."""
        return duration(self.keep, self.source.name, "keep")


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
