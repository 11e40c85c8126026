"""Kafka as a source: the records of a topic come into the log, each exactly once.

Where a partition was read up to is kept in the log, in the transaction of its records. Kafka's own
offsets are committed too, after that, for the tools that show lag; nothing here reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from homeostat.core.clock import Clock
from homeostat.core.errors import HomeostatError, MissingExtra
from homeostat.declare.kafka import Kafka, Topic
from homeostat.declare.sources import EventSource
from homeostat.ingest.log import Advance, EventLog, PositionTaken
from homeostat.ingest.refusals import Refusal
from homeostat.ingest.wrapping import Beside

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

__all__ = [
    "BrokersSilent",
    "Inlet",
    "TopicReader",
    "drain",
    "follow",
    "require_client",
    "stream_name",
]

BATCH = 10_000
"""At most this many records are in one transaction of the log."""

WAIT_S = 0.05
"""How long a look gathers records: bounds their delay, a batch's bytes, and what a stop waits."""

BACKLOG, RELIEVED = 400_000, 200_000
"""Records that wait to be folded: from here on reading rests, until there are no more than that."""

FIRST_REST_S, LONGEST_REST_S = 0.5, 60.0
"""How long a failed reader rests before it begins again: each time twice as long."""

PATIENCE_S = 30.0
"""How long a drain waits for brokers that say nothing."""

VALUE_BYTES = 32 << 20
"""A larger value is refused, and only its beginning kept."""

Told = Callable[[str], None]


class BrokersSilent(HomeostatError, ConnectionError):
    """No broker answered in time."""

    retryable = True

    def __init__(self, topic: str, brokers: str, found: str) -> None:
        super().__init__(
            f"Kafka topic {topic!r} at {brokers}: {found}; allowed: brokers that answer and have "
            "the topic; check the addresses in homeostat.toml, the network and the broker"
        )


class _Reopen(HomeostatError):
    """The reader begins again from where the log stands."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Inlet:
    """Where the records of a topic go.

    `decode` turns a value into JSON, or into the record of a refusal; None takes values as they
    are. `waiting` says how many records of the source are not folded yet; `fares` hears why
    nothing can be read, "" while it can.
    """

    log: EventLog
    source: EventSource
    clock: Clock
    waiting: Callable[[], int] = lambda: 0
    decode: Callable[[bytes], bytes] | None = None
    told: Told = lambda words: None
    fares: Told = lambda error: None


def require_client() -> Any:
    """Return the client's module; raise `MissingExtra` if it is not installed."""
    try:
        import confluent_kafka
    except ModuleNotFoundError as missing:
        raise MissingExtra("a Kafka topic", "kafka") from missing
    return confluent_kafka


def stream_name(topic: str, partition: int) -> str:
    """Return the name under which the log keeps the position of a partition.

    >>> stream_name("payments", 3)
    'kafka/payments/3'
    """
    return f"kafka/{topic}/{partition}"


def drain(kafka: Kafka, topic: Topic, inlet: Inlet) -> int:
    """Read all partitions to their present ends; return how many records came.

    Joins no group, so that it does not disturb one. Raises `BrokersSilent`.
    """
    came = 0
    while True:
        try:
            with _opened(kafka, topic, inlet) as reader:
                reader.take_all()
                while not reader.is_at_the_end():
                    came += reader.step(WAIT_S)
                return came
        except (_Reopen, PositionTaken) as again:
            inlet.told(str(again))


def follow(kafka: Kafka, topic: Topic, inlet: Inlet, stop: Event) -> None:
    """Read as a member of the group until `stop` is set, whatever fails; failures are told."""
    rest = FIRST_REST_S
    while not stop.is_set():
        try:
            with _opened(kafka, topic, inlet) as reader:
                reader.join()
                while not stop.is_set():
                    if reader.step(WAIT_S):
                        rest = FIRST_REST_S
                    inlet.fares(reader.trouble())
        except _Reopen as again:
            inlet.told(str(again))
        except Exception as broken:  # noqa: BLE001 - reading outlives any failure
            inlet.told(f"{broken}; begins again in {rest:g} s")
            inlet.fares(str(broken))
            stop.wait(rest)
            rest = min(2 * rest, LONGEST_REST_S)


@contextmanager
def _opened(kafka: Kafka, topic: Topic, inlet: Inlet) -> Iterator[TopicReader]:
    reader = TopicReader(kafka, topic, inlet)
    try:
        yield reader
    finally:
        reader.close()


@dataclass
class TopicReader:
    """One consumer of one topic. What it knows is gone when it closes: the log knows the rest."""

    kafka: Kafka
    topic: Topic
    inlet: Inlet
    _next: dict[int, int | None] = field(default_factory=dict)
    """The next offset to take, by partition; None for a partition that was never read."""
    _ends: dict[int, int] = field(default_factory=dict)
    """Where the partitions of a drain end that it has not reached."""

    def __post_init__(self) -> None:
        self._client = require_client()
        self._beside = Beside(self.inlet.source.schema)
        self._is_plain = self.topic.key is None and not self.topic.headers
        self._is_resting, self._are_down, self._silent_s = False, False, 0.0
        self._is_member = False
        self._consumer: Consumer = self._client.Consumer(
            {
                "log_level": 2,  # failures come by error_cb, once each
                "queued.max.messages.kbytes": 16_384,
                "enable.partition.eof": True,
                "allow.auto.create.topics": False,
                **self.kafka.client,
                "bootstrap.servers": self.kafka.brokers,
                # One per topic, so that a reader that comes or goes disturbs no other topic.
                "group.id": f"{self.kafka.group}-{self.topic.source}",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "error_cb": self._broker_error,
            }
        )

    def trouble(self) -> str:
        """Say why nothing can be read now, "" if it can; the brokers that were lost are asked."""
        if not self._are_down:
            return ""
        try:
            self._consumer.list_topics(self.topic.topic, timeout=WAIT_S)
        except self._client.KafkaException:
            return f"no broker of {self.kafka.brokers} can be reached"
        self._back()
        return ""

    def join(self) -> None:
        """Ask the group for partitions; they come, and go, while records are read."""
        self._is_member = True
        self._consumer.subscribe(
            [self.topic.topic], on_assign=self._assigned, on_revoke=self._revoked
        )

    def take_all(self) -> None:
        """Take all partitions, whoever else reads them, and note where they end now."""
        found = self._asked(
            lambda: self._consumer.list_topics(self.topic.topic, timeout=PATIENCE_S)
        )
        known = found.topics[self.topic.topic]
        if known.error is not None:
            raise BrokersSilent(self.topic.topic, self.kafka.brokers, known.error.str())
        self._begin(sorted(known.partitions))
        for partition, stands in self._next.items():
            low, high = self._watermarks(partition)
            if stands is not None and not low <= stands <= high:
                self._not_there(partition)
            if low < high:
                self._ends[partition] = high

    def is_at_the_end(self) -> bool:
        """Return whether every partition was read to where it ended when all were taken."""
        for partition, end in list(self._ends.items()):
            if (self._next.get(partition) or 0) >= end:
                del self._ends[partition]
        return not self._ends

    def step(self, wait_s: float) -> int:
        """Bring the next records into the log; return how many, 0 if none came in time."""
        if self._is_member:
            self._rest_or_go_on()
        messages = self._consumer.consume(BATCH, wait_s)
        records = messages
        if any(message.error() for message in messages):
            records = [message for message in messages if self._is_record(message)]
        if self._ends:
            self._silent_s = 0.0 if messages else self._silent_s + wait_s
            if self._silent_s > PATIENCE_S:
                raise BrokersSilent(
                    self.topic.topic, self.kafka.brokers, f"no record in {PATIENCE_S:g} s"
                )
        return self._append(records)

    def close(self) -> None:
        """Leave the group and let go of the connections."""
        self._consumer.close()

    def _append(self, messages: Sequence[Message]) -> int:
        """Append records and positions in one transaction, then commit to Kafka for its tools."""
        after = dict(self._next)
        payloads = self._payloads(self._fresh(messages, after))
        steps = [
            self._advance(partition, self._next[partition], to)
            for partition, to in after.items()
            if to is not None and to != self._next[partition]
        ]
        if not steps:
            return 0
        inlet = self.inlet
        inlet.log.append(inlet.source.name, [inlet.clock.now()] * len(payloads), payloads, steps)
        self._next = after
        if self._are_down:
            self._back()
        if self._is_member:
            self._commit(after)
        return len(payloads)

    def _back(self) -> None:
        self._are_down = False
        self.inlet.told("the brokers are back")

    def _fresh(self, messages: Sequence[Message], after: dict[int, int | None]) -> list[Message]:
        """Return the records that the log does not have, and move the positions behind them.

        Left out are those of partitions that were given up meanwhile.
        """
        partitions = np.array([message.partition() for message in messages], np.int64)
        offsets = np.array([message.offset() for message in messages], np.int64)
        fresh = np.zeros(len(messages), np.bool_)
        for partition in np.unique(partitions).tolist():
            if partition not in after:
                continue
            mine = np.flatnonzero(partitions == partition)
            stands = np.maximum.accumulate(np.append(after[partition] or 0, offsets[mine] + 1))
            fresh[mine[offsets[mine] >= stands[:-1]]] = True
            if stands[-1] > stands[0]:
                after[partition] = int(stands[-1])
        if fresh.all():
            return list(messages)
        return [messages[place] for place in np.flatnonzero(fresh).tolist()]

    def _payloads(self, messages: Sequence[Message]) -> list[bytes]:
        """Return what goes into the log."""
        if self._is_plain and self.inlet.decode is None:
            values: list[Any] = [message.value() for message in messages]
            if None not in values and max(map(len, values), default=0) <= VALUE_BYTES:
                return values
        found = map(self._payload, messages)
        return [payload for payload in found if payload is not None]

    def _payload(self, message: Message) -> bytes | None:
        """Return what goes into the log; None for nothing."""
        value: Any = message.value()
        key: Any = message.key()
        if value is None:
            if self.topic.tombstones == "skip":
                return None
            detail = "the record has no value; its key stands here"
            return Refusal("tombstone", detail, key or b"").record()
        payload: bytes = value
        if self.inlet.decode is not None and len(value) <= VALUE_BYTES:
            payload = self.inlet.decode(value)
        size = max(len(value), len(payload))
        if size > VALUE_BYTES:
            detail = f"{size:,} bytes; at most {VALUE_BYTES:,}; its beginning stands here"
            return Refusal("too_large", detail, value[:1024]).record()
        if self._is_plain:
            return payload
        headers: dict[str, Any] = dict(message.headers() or ())
        said = [(name, headers.get(header)) for name, header in self.topic.headers.items()]
        if self.topic.key is not None:
            said.append((self.topic.key, key))
        return self._beside.add(payload, said)

    def _advance(self, partition: int, after: int | None, to: int) -> Advance:
        stands = None if after is None else str(after)
        return Advance(stream_name(self.topic.topic, partition), stands, str(to))

    def _commit(self, positions: dict[int, int | None]) -> None:
        offsets = [self._at(partition, offset) for partition, offset in positions.items() if offset]
        self._consumer.commit(offsets=offsets, asynchronous=True)

    def _at(self, partition: int, offset: int) -> TopicPartition:
        at: TopicPartition = self._client.TopicPartition(self.topic.topic, partition, offset)
        return at

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = sorted(found.partition for found in partitions)
        self._begin(numbers)
        where = ", ".join(
            f"{number} from {'its beginning' if self._next[number] is None else self._next[number]}"
            for number in numbers
        )
        self.inlet.told(f"reads partition {where}" if where else "has no partition to read")

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for found in partitions:
            self._next.pop(found.partition, None)
        numbers = ", ".join(str(found.partition) for found in partitions)
        if numbers:
            self.inlet.told(f"gives up partition {numbers}")

    def _begin(self, partitions: Sequence[int]) -> None:
        """Go on where the log stands."""
        stands = self.inlet.log.positions(self.inlet.source.name)
        self._next, self._is_resting = {}, False
        for partition in partitions:
            kept = stands.get(stream_name(self.topic.topic, partition))
            if kept is not None:
                self._next[partition] = int(kept)
            elif self.topic.start == "latest":
                self._next[partition] = self._pin(partition, None, self._watermarks(partition)[1])
            else:
                self._next[partition] = None
        self._consumer.assign(
            [
                self._at(number, self._client.OFFSET_BEGINNING if at is None else at)
                for number, at in self._next.items()
            ]
        )

    def _pin(self, partition: int, after: int | None, to: int) -> int:
        """Write a position down at once, without records."""
        step = self._advance(partition, after, to)
        self.inlet.log.append(self.inlet.source.name, [], [], [step])
        return to

    def _rest_or_go_on(self) -> None:
        """Keep the fold from falling behind without bound; a resting reader stays in the group."""
        waiting = self.inlet.waiting()
        if waiting > (RELIEVED if self._is_resting else BACKLOG):
            # Again each time: partitions that came meanwhile are not at rest yet.
            self._consumer.pause([self._at(number, 0) for number in self._next])
            if not self._is_resting:
                self.inlet.told(f"rests: {waiting:,} records wait to be folded")
            self._is_resting = True
        elif self._is_resting:
            self._consumer.resume([self._at(number, 0) for number in self._next])
            self._is_resting = False
            self.inlet.told("goes on")

    def _is_record(self, message: Message) -> bool:
        """Return whether a message is a record; act on what else it may be."""
        error = message.error()
        if error is None:
            return True
        partition = int(message.partition() or 0)
        if error.code() == self._client.KafkaError._PARTITION_EOF:
            self._ends.pop(partition, None)
            return False
        if error.code() == self._client.KafkaError._AUTO_OFFSET_RESET:
            self._not_there(partition)
        raise BrokersSilent(self.topic.topic, self.kafka.brokers, error.str())

    def _not_there(self, partition: int) -> None:
        """The broker has no record at the position: go to its first one, and say what that means.

        Records that come a second time are told by their ids, as all duplicates are.
        """
        stands = self._next.get(partition)
        low, high = self._watermarks(partition)
        if stands is None or low <= stands <= high:
            return
        if stands < low:
            words = f"{low - stands:,} records were deleted by the broker before they were read"
        else:
            words = (
                f"the broker has {high} records and the log stands at {stands}: another topic of "
                "that name, or one that lost its end; it is read again from its beginning"
            )
        self._pin(partition, stands, low)
        raise _Reopen(f"partition {partition}: {words}")

    def _watermarks(self, partition: int) -> tuple[int, int]:
        found = self._asked(
            lambda: self._consumer.get_watermark_offsets(self._at(partition, 0), timeout=PATIENCE_S)
        )
        if found is None:
            raise BrokersSilent(self.topic.topic, self.kafka.brokers, "no answer")
        low, high = found
        return int(low), int(high)

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._client.KafkaException as error:
            found = error.args[0].str() if error.args else str(error)
            raise BrokersSilent(self.topic.topic, self.kafka.brokers, found) from error

    def _broker_error(self, error: KafkaError) -> None:
        """Tell when all brokers are gone, once; the client looks for them by itself."""
        if error.code() == self._client.KafkaError._ALL_BROKERS_DOWN and not self._are_down:
            self._are_down = True
            self.inlet.told(f"no broker of {self.kafka.brokers} can be reached; waits for one")
        elif error.code() in (
            self._client.KafkaError._AUTHENTICATION,
            self._client.KafkaError._SSL,
        ):
            self.inlet.told(error.str())
