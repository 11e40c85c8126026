"""The records of a topic come into the log, each once, whatever happens to readers and brokers."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import numpy as np
import pytest

import homeostat as hs
from homeostat.adapters import kafka as adapter
from homeostat.adapters.avro_values import AvroDecoder
from homeostat.adapters.confluent_registry import RegistryUnreachable
from homeostat.adapters.kafka import Inlet, drain, follow, stream_name
from homeostat.adapters.protobuf_values import ProtobufDecoder
from homeostat.core.clock import ManualClock
from homeostat.core.errors import MissingExtra
from homeostat.declare.kafka import Kafka, Topic
from homeostat.ingest.log import Advance, PositionTaken
from homeostat.ingest.refusals import Refusal, refusal_of
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.testing.kafka_cluster import Cluster, MockCluster, Record, kafka_cluster

PATIENCE_S = 60.0


class Tap(hs.Event):
    tap: str
    card: str
    at: hs.Timestamp


TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at")


def tap(number: int) -> bytes:
    return json.dumps(
        {"tap": f"t{number:06d}", "card": f"c{number % 7}", "at": "2024-05-01T00:00:00Z"}
    ).encode()


def taps(numbers: range, partitions: int = 3) -> list[Record]:
    return [Record(tap(n), n % partitions, b"k%d" % n) for n in numbers]


def until(holds: Callable[[], bool]) -> None:
    began = monotonic()
    while not holds():
        assert monotonic() - began < PATIENCE_S, "it did not happen"
        sleep(0.01)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with kafka_cluster() as found:
        yield found


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    opened = SqliteLog(tmp_path / "log.db")
    yield opened
    opened.close()


def declared(cluster: Cluster, topic: str, **given: str) -> tuple[Kafka, Topic]:
    found = Topic(source="taps", topic=topic, **given)  # type: ignore[arg-type]
    timeout = 1000 if cluster.can_fail else 6000  # a real broker refuses less
    quick = {"session.timeout.ms": timeout, "heartbeat.interval.ms": 100}
    group = f"group-{topic}"
    return Kafka(brokers=cluster.brokers, topics=(found,), group=group, client=quick), found


def inlet(log: SqliteLog, **given: object) -> Inlet:
    return replace(Inlet(log, TAPS, ManualClock(5)), **given)  # type: ignore[arg-type]


def payloads(log: SqliteLog) -> list[bytes]:
    return list(log.read("taps", -1, 10**6).payloads)


class Following:
    """A reader in a thread; `said` is what it told."""

    def __init__(self, kafka: Kafka, topic: Topic, into: Inlet) -> None:
        self.said: list[str] = []
        self._stop = Event()
        told = replace(into, told=self.said.append)
        self._thread = Thread(target=follow, args=(kafka, topic, told, self._stop), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def told(self, words: str) -> bool:
        return any(words in said for said in self.said)


def test_a_drain_takes_all_partitions_and_later_goes_on(cluster: Cluster, log: SqliteLog) -> None:
    name = cluster.topic(3)
    kafka, topic = declared(cluster, name)
    cluster.send(name, taps(range(3000)))
    assert drain(kafka, topic, inlet(log)) == 3000
    assert sorted(payloads(log)) == [tap(n) for n in range(3000)]
    for partition in range(3):
        own = [p for p in payloads(log) if int(json.loads(p)["tap"][1:]) % 3 == partition]
        assert own == sorted(own), "a partition keeps its order"
    assert log.positions("taps") == {stream_name(name, p): "1000" for p in range(3)}
    assert drain(kafka, topic, inlet(log)) == 0
    cluster.send(name, taps(range(3000, 3010)))
    assert drain(kafka, topic, inlet(log)) == 10
    assert set(log.read("taps", -1, 10**6).known.tolist()) == {5}


def test_an_empty_topic_is_drained_at_once(cluster: Cluster, log: SqliteLog) -> None:
    kafka, topic = declared(cluster, cluster.topic(2))
    assert drain(kafka, topic, inlet(log)) == 0


def test_latest_begins_at_the_end_of_the_first_look(cluster: Cluster, log: SqliteLog) -> None:
    name = cluster.topic(2)
    kafka, topic = declared(cluster, name, start="latest")
    cluster.send(name, taps(range(10), 2))
    assert drain(kafka, topic, inlet(log)) == 0
    cluster.send(name, taps(range(10, 14), 2))
    assert drain(kafka, topic, inlet(log)) == 4


def test_records_without_a_value(cluster: Cluster, log: SqliteLog, tmp_path: Path) -> None:
    name = cluster.topic(1)
    cluster.send(name, [Record(None, key=b"gone"), Record(tap(1))])
    kafka, topic = declared(cluster, name)
    assert drain(kafka, topic, inlet(log)) == 2
    refusal = refusal_of(payloads(log)[0])
    assert refusal is not None
    assert (refusal.reason, refusal.received) == ("tombstone", b"gone")
    other = SqliteLog(tmp_path / "other.db")
    assert drain(kafka, replace(topic, tombstones="skip"), inlet(other)) == 1
    assert other.positions("taps") == {stream_name(name, 0): "2"}
    other.close()


def test_keys_and_headers_become_fields(cluster: Cluster, log: SqliteLog) -> None:
    name = cluster.topic(1)
    cluster.send(
        name,
        [
            Record(b'{"tap": "a"}', 0, b"c1", (("sent", b"2024-05-01T00:00:00Z"),)),
            Record(b'{"tap": "b", "card": "own"}', 0, b"c2"),
            Record(b"{}", 0, b"\xff"),
        ],
    )
    kafka, topic = declared(cluster, name)
    drain(kafka, replace(topic, key="card", headers={"at": "sent"}), inlet(log))
    assert [json.loads(p) for p in payloads(log)] == [
        {"tap": "a", "card": "c1", "at": "2024-05-01T00:00:00Z"},
        {"tap": "b", "card": "own"},
        {},
    ]


def test_a_value_that_is_too_large_blocks_nothing(
    cluster: Cluster, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "VALUE_BYTES", 500)
    name = cluster.topic(1)
    cluster.send(name, [Record(b"x" * 501), Record(tap(1))])
    assert drain(*declared(cluster, name), inlet(log)) == 2
    refusal = refusal_of(payloads(log)[0])
    assert refusal is not None
    assert refusal.reason == "too_large"


def test_two_readers_share_the_partitions_and_one_leaves(
    cluster: Cluster, log: SqliteLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "BATCH", 40)  # so that the others come in the middle
    name = cluster.topic(4)
    kafka, topic = declared(cluster, name)
    again = SqliteLog(tmp_path / "log.db")
    first = Following(kafka, topic, inlet(log))
    sent = 0

    def send(records: int) -> None:
        nonlocal sent
        cluster.send(name, taps(range(sent, sent + records), 4))
        sent += records

    send(2000)
    until(lambda: len(payloads(log)) > 200)
    second = Following(kafka, topic, inlet(again))
    send(2000)
    until(lambda: second.told("reads partition"))
    send(2000)
    until(lambda: len(payloads(log)) == sent)
    first.stop()
    send(2000)
    until(lambda: len(payloads(log)) == sent)
    second.stop()
    again.close()
    assert first.told("gives up partition")
    assert Counter(payloads(log)) == Counter(tap(n) for n in range(sent))
    assert log.positions("taps") == {stream_name(name, p): "2000" for p in range(4)}


def test_readers_that_append_at_once_to_one_log_keep_its_order(
    cluster: Cluster, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three members come, and one goes, while a clock ticks unevenly in their threads."""
    monkeypatch.setattr(adapter, "BATCH", 40)
    name, ticks = cluster.topic(4), count(1_000)

    class Uneven(ManualClock):
        def now(self) -> int:
            number = next(ticks)
            return number - 50 * (number % 3)  # who asked later may have seen less

    kafka, topic = declared(cluster, name)
    into = inlet(log, clock=Uneven(0))
    readers = [Following(kafka, topic, into)]
    for sent in range(0, 6000, 2000):
        cluster.send(name, taps(range(sent, sent + 2000), 4))
        if len(readers) < 3:
            readers.append(Following(kafka, topic, into))
            until(lambda: readers[-1].told("reads partition"))
        else:
            readers[0].stop()
        until(lambda: len(payloads(log)) == sent + 2000)  # noqa: B023 - called at once
    for reader in readers[1:]:
        reader.stop()
    found = log.read("taps", -1, 10**6)
    assert Counter(found.payloads) == Counter(tap(n) for n in range(6000))
    assert (np.diff(found.known) >= 0).all()
    for partition in range(4):
        own = [p for p in found.payloads if int(json.loads(p)["tap"][1:]) % 4 == partition]
        assert own == sorted(own), "a partition keeps its order"
    assert log.positions("taps") == {stream_name(name, p): "1500" for p in range(4)}


def test_a_reader_that_was_thought_dead_doubles_nothing(cluster: Cluster, log: SqliteLog) -> None:
    """Two readers of the same partition: the log takes each record from the faster one."""
    name = cluster.topic(1)
    kafka, topic = declared(cluster, name)
    cluster.send(name, taps(range(50), 1))
    slow = adapter.TopicReader(kafka, topic, inlet(log))
    slow.take_all()
    assert drain(kafka, topic, inlet(log)) == 50

    def read_on() -> None:
        while not slow.is_at_the_end():
            slow.step(0.1)

    with pytest.raises(PositionTaken, match="stands at '50'"):
        read_on()
    slow.close()
    assert payloads(log) == [tap(n) for n in range(50)]


def test_brokers_go_down_and_come_back(cluster: Cluster, log: SqliteLog) -> None:
    if not cluster.can_fail:
        pytest.skip("a real cluster is not stopped")
    name = cluster.topic(2)
    kafka, topic = declared(cluster, name)
    cluster.send(name, taps(range(100), 2))
    reader = Following(kafka, topic, inlet(log))
    for turn in range(1, 4):
        until(lambda: len(payloads(log)) == 100 * turn)  # noqa: B023 - called at once
        cluster.down()
        try:
            until(lambda: reader.told("can be reached"))
        finally:
            cluster.up()
        cluster.send(name, taps(range(100 * turn, 100 * turn + 100), 2))
    until(lambda: len(payloads(log)) == 400)
    reader.stop()
    assert reader.told("the brokers are back")
    assert sorted(payloads(log)) == [tap(n) for n in range(400)]


def test_a_topic_that_lost_its_end_is_read_again(cluster: Cluster, log: SqliteLog) -> None:
    name = cluster.topic(1)
    kafka, topic = declared(cluster, name)
    cluster.send(name, taps(range(5), 1))
    step = Advance(stream_name(name, 0), None, "900")
    log.append("taps", [1], [b"{}"], [step])
    said: list[str] = []
    assert drain(kafka, topic, inlet(log, told=said.append)) == 5
    assert log.positions("taps") == {stream_name(name, 0): "5"}
    assert "the broker has 5 records and the log stands at 900" in said[0]


def test_records_that_the_broker_deleted_are_missed_aloud(cluster: Cluster, log: SqliteLog) -> None:
    if not cluster.can_fail:
        pytest.skip("a real cluster keeps its records")
    name = cluster.topic(1)
    kafka, topic = declared(cluster, name)
    cluster.send(name, taps(range(3), 1))
    assert drain(kafka, topic, inlet(log)) == 3
    large = [Record(b"%d " % n + b"x" * 100_000) for n in range(120)]
    cluster.send(name, large)  # more than the mock keeps
    reader = Following(kafka, topic, inlet(log))
    until(lambda: payloads(log)[-1:] == [large[-1].value])
    reader.stop()
    assert reader.told("were deleted by the broker before they were read")
    kept = payloads(log)[3:]
    assert kept == [record.value for record in large[-len(kept) :]]


def test_a_member_of_the_group_reads_a_topic_that_lost_its_end_again(
    cluster: Cluster, log: SqliteLog
) -> None:
    name = cluster.topic(2)
    kafka, topic = declared(cluster, name)
    cluster.send(name, taps(range(10), 2))
    log.append("taps", [1], [b"{}"], [Advance(stream_name(name, 1), None, "900")])
    reader = Following(kafka, topic, inlet(log))
    until(lambda: len(payloads(log)) == 11)
    reader.stop()
    assert reader.told("another topic of that name")
    assert log.positions("taps") == {stream_name(name, p): "5" for p in range(2)}


def test_a_reader_rests_while_the_fold_is_behind(
    cluster: Cluster, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "BACKLOG", 100)
    monkeypatch.setattr(adapter, "RELIEVED", 10)
    monkeypatch.setattr(adapter, "BATCH", 50)
    name = cluster.topic(1)
    kafka, topic = declared(cluster, name)
    folded = 0
    cluster.send(name, taps(range(1000), 1))
    reader = Following(
        kafka, topic, inlet(log, waiting=lambda: log.end("taps").next_offset - folded)
    )
    until(lambda: reader.told("rests"))
    held = len(payloads(log))
    assert held <= 200
    folded = held
    until(lambda: reader.told("goes on"))
    folded = 1000
    until(lambda: len(payloads(log)) == 1000)
    reader.stop()
    assert sorted(payloads(log)) == [tap(n) for n in range(1000)]


def test_a_failure_of_the_log_is_told_and_tried_again(
    cluster: Cluster, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "FIRST_REST_S", 0.01)
    name = cluster.topic(1)
    kafka, topic = declared(cluster, name)
    cluster.send(name, taps(range(10), 1))
    failures = iter(["the disk is full"] * 2)
    real = log.append

    def append(*given: object) -> int:
        for failure in failures:
            raise OSError(failure)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "append", append)
    reader = Following(kafka, topic, inlet(log))
    until(lambda: len(payloads(log)) == 10)
    reader.stop()
    assert reader.told("the disk is full; begins again in")
    assert sorted(payloads(log)) == [tap(n) for n in range(10)]


def test_a_registry_that_is_away_holds_the_topic_back(
    cluster: Cluster, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "FIRST_REST_S", 0.01)
    monkeypatch.setattr(adapter, "BATCH", 7)
    name = cluster.topic(2)
    kafka, topic = declared(cluster, name)
    cluster.send(name, taps(range(40), 2))
    away = iter(range(30))

    def decode(value: bytes) -> bytes:
        if int(json.loads(value)["tap"][1:]) >= 20 and next(away, 30) < 3:
            raise RegistryUnreachable("http://registry", "it is away")
        return Refusal("undecodable", "odd", value).record() if value == tap(25) else value

    reader = Following(kafka, topic, inlet(log, decode=decode))
    until(lambda: len(payloads(log)) == 40)
    reader.stop()
    assert reader.told("schema registry http://registry: it is away")
    found = [(refusal.received if (refusal := refusal_of(p)) else p) for p in payloads(log)]
    assert sorted(found) == [tap(n) for n in range(40)]


def test_a_client_that_is_not_installed(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    topic = Topic(source="taps")
    kafka = Kafka(brokers="b", topics=(topic,), group="g")
    with pytest.raises(MissingExtra, match=r"homeostat\[kafka\]"):
        drain(kafka, topic, inlet(log))
    with pytest.raises(MissingExtra):
        MockCluster()
    monkeypatch.setitem(sys.modules, "fastavro", None)
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    for decoder in (AvroDecoder, ProtobufDecoder):
        with pytest.raises(MissingExtra):
            decoder("")


def test_a_topic_that_is_not_there_is_an_error_that_helps(
    cluster: Cluster, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "PATIENCE_S", 1.0)
    kafka, topic = declared(cluster, "no-such-topic")
    with pytest.raises(adapter.BrokersSilent, match=r"no-such-topic.*homeostat\.toml"):
        drain(replace(kafka, brokers="127.0.0.1:1"), topic, inlet(log))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PATIENCE_S", 10.0)
