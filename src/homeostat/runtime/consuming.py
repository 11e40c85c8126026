"""Topics are read while a system runs: one thread per topic, until it is told to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from threading import Event, Thread

from homeostat.adapters.confluent_registry import ConfluentClient
from homeostat.adapters.confluent_values import ConfluentValues
from homeostat.adapters.kafka import Inlet, drain, follow, require_client
from homeostat.core.clock import Clock
from homeostat.core.durations import Micros
from homeostat.core.errors import UnknownName
from homeostat.declare.kafka import Kafka, Topic
from homeostat.features.folded import folded_offset
from homeostat.runtime.home import Home

__all__ = ["Consuming", "drain_topic", "unfolded", "waiting_since"]


def unfolded(home: Home, source: str) -> int:
    """Return how many records of the log are not folded yet."""
    with home.store.reader() as reader:
        return home.log.end(source).next_offset - folded_offset(reader, source) - 1


def waiting_since(home: Home, source: str) -> Micros | None:
    """Return when the oldest record that is not folded yet was received, None if there is none."""
    with home.store.reader() as reader:
        folded = folded_offset(reader, source)
    if home.log.end(source).next_offset <= folded + 1:
        return None
    waiting = home.log.read(source, folded, 1)
    return int(waiting.known[0]) if len(waiting) else None


class Consuming:
    """Reads the topics of a cluster into a home, between `start` and `stop`.

    Args:
        kafka: the cluster and its topics.
        home: whose log takes the records.
        clock: tells when a record is received, which is when it is known.
        told: hears what happens: partitions that come and go, brokers that are lost, failures.
        fares: hears of a source whether its topic is read: how that fails, "" if it does not.
    """

    def __init__(
        self,
        kafka: Kafka,
        home: Home,
        clock: Clock,
        told: Callable[[str], None],
        fares: Callable[[str, str], None] = lambda source, error: None,
    ) -> None:
        require_client()
        self._stop = Event()
        self._threads = [
            Thread(
                target=follow,
                args=(
                    kafka,
                    topic,
                    replace(
                        _inlet(kafka, topic, home, clock, told),
                        fares=partial(fares, topic.source),
                    ),
                    self._stop,
                ),
                name=f"homeostat-kafka-{topic.source}",
            )
            for topic in kafka.topics
        ]

    def start(self) -> None:
        """Begin to read."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the records in hand, and leave the group; stopping twice changes nothing."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()


def drain_topic(
    kafka: Kafka | None, source: str, home: Home, clock: Clock, told: Callable[[str], None]
) -> int:
    """Read a source's topic to its present end; return how many records came."""
    topic = None if kafka is None else kafka.of(source)
    if kafka is None or topic is None:
        known = () if kafka is None else tuple(found.source for found in kafka.topics)
        raise UnknownName("Kafka topic of source", source, known, "homeostat.toml")
    return drain(kafka, topic, _inlet(kafka, topic, home, clock, told))


def _inlet(
    kafka: Kafka, topic: Topic, home: Home, clock: Clock, told: Callable[[str], None]
) -> Inlet:
    decode = None
    if topic.format == "confluent" and kafka.registry is not None:
        decode = ConfluentValues(ConfluentClient(kafka.registry))
    return Inlet(
        log=home.log,
        source=home.system.source(topic.source),
        clock=clock,
        waiting=partial(unfolded, home, topic.source),
        decode=decode,
        told=lambda words: told(f"{topic.source}, topic {topic.topic!r}: {words}"),
    )
