"""Which Kafka topics events come from: said by the profile, not by the system."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from homeostat.core.errors import did_you_mean
from homeostat.declare.mistakes import require

__all__ = ["FORMATS", "STARTS", "TOMBSTONES", "Kafka", "Topic"]

FORMATS = ("json", "confluent")
"""Values are JSON as it is; or have Confluent's wire format, whose schema the registry knows."""

STARTS = ("earliest", "latest")
"""Where a home begins that has never read the topic."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")
"""What Kafka takes as the name of a topic."""

TOMBSTONES = ("quarantine", "skip")
"""What becomes of a record without a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """Brings the records of a topic into an event source.

    Args:
        source: the event source.
        topic: the topic, by default of the source's name.
        format: `json`, or `confluent` (a schema id, then Avro, Protobuf or JSON).
        start: where to begin if this home has never read the topic: `earliest` or `latest`.
        key: the field that a record's key gives, where its value does not.
        headers: by field, the header that gives it, where the value does not.
        tombstones: a record without a value is a dead letter (`quarantine`), or `skip`ped.

    >>> Topic(source="payments").topic
    'payments'
    """

    source: str
    topic: str = ""
    format: str = "json"
    start: str = "earliest"
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    tombstones: str = "quarantine"

    def __post_init__(self) -> None:
        if not self.topic:
            object.__setattr__(self, "topic", self.source)
        where = f"Kafka topic of source {self.source!r}"
        for name, known in (("format", FORMATS), ("start", STARTS), ("tombstones", TOMBSTONES)):
            given = str(getattr(self, name))
            require(
                given in known,
                where,
                f"{name}={given!r}.{did_you_mean(given, known)}",
                ", ".join(known),
                f"leave it out for {known[0]!r}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """A Kafka cluster and the topics that events come from.

    Args:
        brokers: addresses to begin with, as in "one:9092,two:9092".
        topics: one or more, at most one per source.
        group: how the consumer groups begin, GROUP-SOURCE; a home has groups of its own.
        registry: the address of a Confluent-compatible schema registry.
        client: further settings of librdkafka (security, for example), as they are.
        log: how the topics begin that the home's log is in, LOG-SOURCE; None if it is in the home.

    >>> taps = Topic(source="taps", topic="card-taps")
    >>> Kafka(brokers="localhost:9092", topics=(taps,), group="taps").of("taps").topic
    'card-taps'
    """

    brokers: str
    topics: tuple[Topic, ...]
    group: str
    registry: str | None = None
    client: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    log: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "topics", tuple(self.topics))
        sources = [topic.source for topic in self.topics]
        twice = sorted({name for name in sources if sources.count(name) > 1})
        require(
            bool(self.brokers),
            "Kafka",
            "no brokers",
            "one address or several, as in 'one:9092,two:9092'",
            "name the cluster's addresses",
        )
        require(
            not twice,
            "Kafka",
            f"two topics for source {', '.join(twice)}",
            "one topic per source",
            "declare a second source, or bring the topics together",
        )
        framed = [topic.topic for topic in self.topics if topic.format == "confluent"]
        require(
            not framed or self.registry is not None,
            "Kafka",
            f"topic {', '.join(framed)} has format 'confluent', and there is no registry",
            "the address of a schema registry",
            "name it: registry = 'http://localhost:8081'",
        )
        if self.log is not None:
            self._check_log(self.log)

    def _check_log(self, log: str) -> None:
        require(
            isinstance(log, str) and _NAME.fullmatch(log) is not None,
            "Kafka",
            f"log={log!r}",
            "letters, digits, '.', '_' and '-'",
            "write log = 'shop-log' for the topics shop-log-SOURCE, or leave it out",
        )
        taken = [topic.topic for topic in self.topics if topic.topic.startswith(f"{log}-")]
        require(
            not taken,
            "Kafka",
            f"log={log!r}, and events come from topic {', '.join(taken)}, which begins like that",
            "topics for the log in which nothing else is",
            "name another beginning, as in log = 'shop-log'",
        )

    def of(self, source: str) -> Topic | None:
        """Return the topic of a source, None if it has none."""
        return next((topic for topic in self.topics if topic.source == source), None)
