"""Kafka as the log: one topic per source, in which every append is one record, or a few parts.

Kafka orders records and cannot compare before it appends, so readers judge: an append counts if it
begins where the appends before it end, and its steps begin where theirs do. Every reader comes to
the same answer, because all read the same order. A writer reads its own append back; if another one
was faster, it does not count, and the writer tries again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import numpy as np
import numpy.typing as npt

from homeostat.adapters.kafka import BrokersSilent, require_client
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.ingest.log import (
    READ_BYTES,
    Advance,
    Instants,
    LogBatch,
    LogDamaged,
    LogEnd,
    PayloadTooLarge,
    PositionTaken,
    check_lengths,
)

if TYPE_CHECKING:
    from confluent_kafka import Consumer

__all__ = ["KafkaLog", "TopicShortened"]

PART_BYTES = 900_000
"""A record is at most this large, and what frames it: brokers take 1 MB unless told otherwise."""

PATIENCE_S = 30.0
WAIT_S = 1.0

_PARTITION = 0


class TopicShortened(LogDamaged):
    """The broker has deleted the beginning of a topic that is a log."""

    def __init__(self, topic: str, source: str, low: int) -> None:
        HomeostatError.__init__(
            self,
            f"log {topic}, source {source!r}: the broker deleted its first {low:,} records, "
            "whether they were folded or not; allowed: a topic that keeps everything "
            "(retention.ms=-1, retention.bytes=-1, cleanup.policy=delete); set that, and restore "
            "the topic from a copy: the lake has the events that were folded",
        )


class _Part(msgspec.Struct, array_like=True):
    """One record of the topic: a stretch of an append. The last part has the steps."""

    append: str
    first: int
    known: bytes
    ends: bytes
    body: bytes
    steps: list[tuple[str, str | None, str]]
    is_last: bool


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(_Part).decode


@dataclass
class _Source:
    """What the records of a topic say, as far as `scanner` read them; `reader` fetches single ones.

    `firsts`, `places`: the first log offset of each part that counts, and where it is in the topic.
    """

    topic: str
    scanner: Consumer
    reader: Consumer
    reader_at: int = -1
    read_to: int = 0
    next_offset: int = 0
    last_known: Micros | None = None
    positions: dict[str, str] = field(default_factory=dict)
    firsts: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    unfinished: dict[str, list[tuple[int, _Part]]] = field(default_factory=dict)
    awaited: str = ""
    has_won: bool = False
    """Whether the append that is awaited counts."""
    current: tuple[int, _Part] | None = None
    """The part that was read last, and its place: reading on often begins inside it."""

    def take(self, place: int, part: _Part) -> None:
        """Judge the next record of the topic."""
        parts = self.unfinished.setdefault(part.append, [])
        parts.append((place, part))
        if not part.is_last:
            return
        del self.unfinished[part.append]
        begins = self.next_offset
        for _, one in parts:
            if one.first != begins:
                return
            begins += len(one.known) // 8
        if any(self.positions.get(stream) != after for stream, after, _ in part.steps):
            return
        self.positions |= {stream: to for stream, _, to in part.steps}
        for at, one in parts:
            if one.known:
                self.firsts.append(one.first)
                self.places.append(at)
                self.last_known = int(np.frombuffer(one.known, dtype="<i8")[-1])
        self.next_offset = begins
        self.has_won |= part.append == self.awaited


class KafkaLog:
    """An `EventLog` in topics PREFIX-SOURCE; several processes may use it at once.

    Opening a source reads its topic once. The topics must keep their records (`retention.ms=-1`);
    they are made so if they are not there and the cluster lets us.

    Args:
        brokers: addresses to begin with.
        prefix: how the topics begin.
        client: further settings of librdkafka.
        name: gives each append a name that no other has.
    """

    def __init__(
        self,
        brokers: str,
        prefix: str,
        client: Mapping[str, str | int | float | bool] | None = None,
        name: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._client, self._brokers, self._prefix = require_client(), brokers, prefix
        self._settings = {"log_level": 2, **(client or {}), "bootstrap.servers": brokers}
        self._name, self._lock = name, RLock()
        self._sources: dict[str, _Source] = {}
        self._producer = self._client.Producer(
            {
                **self._settings,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "delivery.timeout.ms": int(PATIENCE_S * 1000),
            }
        )

    def append(
        self,
        source: str,
        known: Instants,
        payloads: Sequence[bytes],
        steps: Sequence[Advance] = (),
    ) -> int:
        """Add records and take the steps, all or nothing; return the first offset."""
        check_lengths(source, known, payloads)
        for payload in payloads:
            if len(payload) > PART_BYTES:
                raise PayloadTooLarge(source, len(payload), PART_BYTES)
        with self._lock:
            while True:
                found = self._caught_up(source)
                for step in steps:
                    stands = found.positions.get(step.stream)
                    if stands != step.after:
                        raise PositionTaken(source, step, stands)
                if not payloads and not steps:
                    return found.next_offset
                instants = np.asarray(known, dtype=np.int64)
                if found.last_known is not None:
                    instants = np.maximum(instants, found.last_known)
                first = found.next_offset
                found.awaited, found.has_won = self._name(), False
                parts = _parts(found.awaited, first, np.maximum.accumulate(instants), payloads)
                parts[-1].steps = [(step.stream, step.after, step.to) for step in steps]
                parts[-1].is_last = True
                self._caught_up(source, self._sent(found.topic, parts))
                if found.has_won:
                    return first

    def read(
        self, source: str, after: int, limit: int, known_before: Micros | None = None
    ) -> LogBatch:
        """Return at most `limit` records with a greater offset than `after`, of `READ_BYTES`."""
        start = max(after, -1) + 1
        payloads: list[bytes] = []
        known: list[npt.NDArray[np.int64]] = []
        size = 0
        with self._lock:
            found = self._caught_up(source)
            number = max(bisect_right(found.firsts, start) - 1, 0)
            while number < len(found.firsts) and len(payloads) < limit and size < READ_BYTES:
                part = self._part(found, source, found.places[number])
                instants = np.frombuffer(part.known, dtype="<i8").astype(np.int64, copy=False)
                begin = min(max(start - part.first, 0), len(instants))
                end = min(len(instants), begin + limit - len(payloads))
                if known_before is not None:
                    end = min(end, int(np.searchsorted(instants, known_before, side="left")))
                if end > begin:
                    payloads += _payloads(part, begin, end)
                    size += sum(map(len, payloads[begin - end :]))
                    known.append(instants[begin:end])
                if end < len(instants):
                    break
                number += 1
        return LogBatch(
            source,
            np.arange(start, start + len(payloads), dtype=np.int64),
            np.concatenate(known) if known else np.empty(0, dtype=np.int64),
            payloads,
        )

    def end(self, source: str) -> LogEnd:
        """Return the next offset and the last known time."""
        with self._lock:
            found = self._caught_up(source)
            return LogEnd(found.next_offset, found.last_known)

    def positions(self, source: str) -> dict[str, str]:
        """Return where the log stands in each stream that the source is read from."""
        with self._lock:
            return dict(sorted(self._caught_up(source).positions.items()))

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            for found in self._sources.values():
                found.scanner.close()
                found.reader.close()
            self._sources.clear()
            self._producer.flush(PATIENCE_S)

    def _opened(self, source: str) -> _Source:
        topic = f"{self._prefix}-{source}"
        self._make(topic)
        settings = {
            **self._settings,
            "group.id": topic,  # never joined: the client wants a name
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
        scanner, reader = (self._client.Consumer(settings) for _ in range(2))
        found = _Source(topic, scanner, reader)
        scanner.assign([self._client.TopicPartition(topic, _PARTITION, 0)])
        return found

    def _make(self, topic: str) -> None:
        """Make a topic that keeps everything, if there is none."""
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        admin = AdminClient(self._settings)
        known = self._asked(topic, lambda: admin.list_topics(topic, timeout=PATIENCE_S))
        if known.topics[topic].error is None:
            return
        keep: dict[str, Any] = {"retention.ms": "-1", "retention.bytes": "-1"}
        made = admin.create_topics([NewTopic(topic, 1, config=keep)])
        self._asked(topic, lambda: made[topic].result(timeout=PATIENCE_S))

    def _caught_up(self, source: str, at_least: int = 0) -> _Source:
        """Return a source as it stands now; read the records that came since the last look."""
        found = self._sources.get(source)
        if found is None:
            found = self._sources[source] = self._opened(source)
        partition = self._client.TopicPartition(found.topic, _PARTITION)
        low, high = self._asked(
            found.topic,
            lambda: found.scanner.get_watermark_offsets(partition, timeout=PATIENCE_S),
        )
        if low > 0:
            raise TopicShortened(found.topic, source, low)
        end, silent_s = max(high, at_least), 0.0
        while found.read_to < end:
            wanted = min(end - found.read_to, 1_000)  # more would be waited for
            messages = self._asked(found.topic, partial(found.scanner.consume, wanted, WAIT_S))
            silent_s = 0.0 if messages else silent_s + WAIT_S
            for message in messages:
                found.take(message.offset(), self._part_of(found, source, message))
                found.read_to = message.offset() + 1
            if silent_s > PATIENCE_S:
                raise BrokersSilent(found.topic, self._brokers, f"no record in {PATIENCE_S:g} s")
        return found

    def _sent(self, topic: str, parts: Sequence[_Part]) -> int:
        """Send the parts of an append; return where the topic ends after the last one."""
        places: list[int] = []
        failed: list[str] = []

        def arrived(error: Any, message: Any) -> None:
            if error is None:
                places.append(message.offset())
            else:
                failed.append(error.str())

        for part in parts:
            self._producer.produce(topic, _ENCODE(part), None, _PARTITION, arrived)
        left = self._producer.flush(PATIENCE_S)
        if left or failed:
            found = failed[0] if failed else "no answer in time"
            raise BrokersSilent(topic, self._brokers, f"{found}; the records may come later")
        return max(places) + 1

    def _part(self, found: _Source, source: str, place: int) -> _Part:
        """Fetch one record; those after it are on their way already."""
        if found.current is not None and found.current[0] == place:
            return found.current[1]
        if found.reader_at < 0 or not 0 <= place - found.reader_at < 100:
            found.reader.assign([self._client.TopicPartition(found.topic, _PARTITION, place)])
        silent_s = 0.0
        while silent_s <= PATIENCE_S:
            message = self._asked(found.topic, lambda: found.reader.poll(WAIT_S))
            if message is None:
                silent_s += WAIT_S
                continue
            part = self._part_of(found, source, message)
            found.reader_at = message.offset() + 1
            if message.offset() == place:
                found.current = place, part
                return part
        raise BrokersSilent(found.topic, self._brokers, f"no record in {PATIENCE_S:g} s")

    def _part_of(self, found: _Source, source: str, message: Any) -> _Part:
        error = message.error()
        if error is not None:
            found.reader_at = -1
            raise BrokersSilent(found.topic, self._brokers, error.str())
        try:
            return _DECODE(message.value() or b"")
        except msgspec.MsgspecError as odd:
            raise LogDamaged(found.topic, source, found.next_offset) from odd

    def _asked(self, topic: str, ask: Callable[[], Any]) -> Any:
        try:
            found = ask()
        except self._client.KafkaException as error:
            raise BrokersSilent(topic, self._brokers, str(error)) from error
        return found


def _parts(
    append: str, first: int, instants: npt.NDArray[np.int64], payloads: Sequence[bytes]
) -> list[_Part]:
    """Return an append in parts that fit a record; one without records if there are none."""
    parts: list[_Part] = []
    begin = 0
    while begin < len(payloads) or not parts:
        end, size = begin, 0
        while end < len(payloads) and (end == begin or size + len(payloads[end]) <= PART_BYTES):
            size += len(payloads[end]) + 12
            end += 1
        ends = np.cumsum([len(payload) for payload in payloads[begin:end]], dtype=np.int64)
        known = instants[begin:end].astype("<i8").tobytes()
        body = b"".join(payloads[begin:end])
        parts.append(
            _Part(append, first + begin, known, ends.astype("<u4").tobytes(), body, [], False)
        )
        begin = end
    return parts


def _payloads(part: _Part, begin: int, end: int) -> list[bytes]:
    ends = np.frombuffer(part.ends, dtype="<u4").astype(np.int64)
    cuts = ends[begin:end].tolist()
    starts = [int(ends[begin - 1]) if begin else 0, *cuts[:-1]]
    return [part.body[start:stop] for start, stop in zip(starts, cuts, strict=True)]
