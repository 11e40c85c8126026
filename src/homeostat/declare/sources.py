"""Entities and event sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from homeostat.core.durations import Micros
from homeostat.core.errors import DeclarationError, did_you_mean
from homeostat.core.hashing import SAID_OF_ITSELF, UNSET_IS_UNSAID
from homeostat.declare.feeds import Feed, Folder, Query
from homeostat.declare.mistakes import duration, identifier, require, several, span
from homeostat.declare.schema import Event, EventSchema, Field

__all__ = ["COMPATIBILITY_MODES", "Entity", "EventSource"]

COMPATIBILITY_MODES = (
    "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE",
    "NONE",
)  # fmt: skip
"""Which readers a change of the event class must not break, in Confluent's words."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing that has features; `key` names the field, or the fields, that identify it.

    >>> Entity("route", key=("origin", "dest")).keys
    ('origin', 'dest')
    """

    name: str
    key: str | tuple[str, ...]

    def __post_init__(self) -> None:
        identifier("entity", self.name)
        if not isinstance(self.key, str):
            object.__setattr__(self, "key", several(self.key))
        require(
            bool(self.keys) and len(set(self.keys)) == len(self.keys),
            f"entity {self.name!r}",
            f"key={self.key!r}",
            "one or more different field names",
            "name the field that identifies the entity",
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's field names, always as a tuple."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)


@dataclass(frozen=True, slots=True)
class EventSource:
    """A stream of events of one class, with its two clocks.

    `event_time` names the field that says when the event happened. The known time is the instant
    of receipt; for imported history it is the field `known_time`, or event time plus `delay`. An
    event that is known more than `lateness` after it happened is kept and is in no feature; one
    from at most `clock_skew` in the future is clamped to its known time.

    `compatibility` says which changes of the class may be applied: `BACKWARD` (the new class reads
    the events of the last one), `FORWARD` (the last one reads those of the new), `FULL` (both),
    each also `..._TRANSITIVE` (with every version before, not just the last), or `NONE`.

    `dedup` says for how long an event id is remembered, counted in known time from the record that
    brought it; None is for good. Within it, the same id is a duplicate or, with other content, a
    conflict. Beyond it, the same id is another event, also with the same content, and is kept once
    more. Say more than what sends records again may take (a retry, a replayed topic, a file that
    is imported anew), and at least `lateness` plus `clock_skew`: then an event that comes again
    beyond it is too late for every feature. Another value holds for records to come and refills
    nothing: a shorter one forgets, a longer one brings back nothing that was forgotten.

    `feed` says where events are fetched from while the system runs: a `Folder` or a `Query`. It is
    no part of what the events mean: another one changes no feature and needs no `apply`.
    """

    name: str
    event: type[Event] = field(compare=False)
    event_id: str
    event_time: str
    known_time: str | None = None
    delay: str | timedelta | Micros = 0
    lateness: str | timedelta | Micros = "1d"
    clock_skew: str | timedelta | Micros = "5s"
    revisions: bool = False
    compatibility: str = field(default="BACKWARD", metadata=UNSET_IS_UNSAID)
    dedup: str | timedelta | Micros | None = field(default=None, metadata=SAID_OF_ITSELF)
    feed: Feed | None = field(default=None, compare=False)
    schema: EventSchema = field(init=False)

    def __post_init__(self) -> None:
        where = f"event source {self.name!r}"
        identifier("event source", self.name)
        if not isinstance(getattr(self.event, "schema", None), EventSchema):
            raise DeclarationError(
                where,
                f"{self.event!r} is no event class",
                "a class derived from homeostat.Event, with annotated fields",
                "write class Departure(homeostat.Event): ...",
            )
        object.__setattr__(self, "schema", self.event.schema)
        for name in ("delay", "lateness", "clock_skew"):
            object.__setattr__(self, name, duration(getattr(self, name), where, name))
        if self.dedup is not None:
            object.__setattr__(self, "dedup", span(self.dedup, where, "dedup"))
        identity = self.schema.field(self.event_id, f"{where}, event_id")
        require(
            not self.schema.has(self.event_id)
            or (identity.kind in ("string", "integer") and not identity.nullable),
            where,
            f"event_id {self.event_id!r} is {_described(identity)}",
            "a string or integer that is never missing",
            "name another field, or make this one required",
        )
        for clock in filter(None, (self.event_time, self.known_time)):
            instant = self.schema.field(clock, f"{where}, clocks")
            require(
                not self.schema.has(clock)
                or (instant.kind == "timestamp" and not instant.nullable),
                where,
                f"clock {clock!r} is {_described(instant)}",
                "a Timestamp that is never missing",
                "annotate it with homeostat.Timestamp",
            )
        for name in filter(None, (self.event_id, self.event_time, self.known_time)):
            require(
                not self.schema.has(name) or self.schema.field(name, where).default is None,
                where,
                f"{name!r} has a default",
                "an id and clocks that each event brings itself",
                "drop the default",
            )
        require(
            self.feed is None or isinstance(self.feed, Folder | Query),
            where,
            f"feed={type(self.feed).__name__}",
            "homeostat.Folder or homeostat.Query",
            "write feed=homeostat.Folder('incoming', '*.csv')",
        )
        hint = did_you_mean(str(self.compatibility).upper(), COMPATIBILITY_MODES)
        require(
            self.compatibility in COMPATIBILITY_MODES,
            where,
            f"compatibility={self.compatibility!r}.{hint}",
            ", ".join(COMPATIBILITY_MODES),
            "leave it out for BACKWARD",
        )
        require(
            self.known_time is None or self.delay == 0,
            where,
            "both known_time and delay",
            "one of them",
            "drop the delay: the field known_time already says when the event was known",
        )

    @property
    def lateness_us(self) -> Micros:
        """The declared lateness in microseconds."""
        return duration(self.lateness, self.name, "lateness")

    @property
    def delay_us(self) -> Micros:
        """The declared delay of imported history in microseconds."""
        return duration(self.delay, self.name, "delay")

    @property
    def dedup_us(self) -> Micros | None:
        """For how long an id is remembered in microseconds, None for good."""
        return None if self.dedup is None else span(self.dedup, self.name, "dedup")

    @property
    def clock_skew_us(self) -> Micros:
        """The declared clock skew in microseconds."""
        return duration(self.clock_skew, self.name, "clock_skew")


def _described(found: Field) -> str:
    return f"{'an optional' if found.nullable else 'a'} {found.kind}"
