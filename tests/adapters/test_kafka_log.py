"""Kafka as the log keeps the laws of the log, whoever else writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from threading import Thread

import numpy as np
import pytest

from homeostat.adapters import kafka_log
from homeostat.adapters.kafka_log import KafkaLog, TopicShortened
from homeostat.core.errors import HomeostatError
from homeostat.ingest.log import Advance, LogDamaged, LogEnd, PayloadTooLarge, PositionTaken
from homeostat.testing.kafka_cluster import Cluster, Record, kafka_cluster
from homeostat.testing.log_checks import event_log_checks

NAMES = [name for name, _ in event_log_checks(lambda name: KafkaLog("nowhere", name))]
RUNS = count(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with kafka_cluster() as found:
        yield found


@pytest.fixture
def prefix(cluster: Cluster) -> str:
    return f"log-{cluster.topic(1)}-{next(RUNS)}"


def opened(cluster: Cluster, prefix: str) -> KafkaLog:
    # The mock answers a look at the end of a topic after that time, a real broker at once.
    return KafkaLog(cluster.brokers, prefix, {"fetch.wait.max.ms": 5})


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_law(name: str, cluster: Cluster, prefix: str) -> None:
    checks = dict(event_log_checks(lambda log: opened(cluster, f"{prefix}-{log}")))
    checks[name]()


def test_appends_in_parts_and_reads_that_begin_anywhere(
    cluster: Cluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_log, "PART_BYTES", 200)
    log = opened(cluster, prefix)
    payloads = [b"%d" % n * (n % 7) for n in range(500)]
    for begin in range(0, 500, 90):
        part = payloads[begin : begin + 90]
        assert log.append("a", range(begin, begin + len(part)), part) == begin
    assert len(log._sources["a"].firsts) > 20
    for after in (-1, 89, 90, 3, 250, 498, 499, 1000):
        found = log.read("a", after, 60)
        assert list(found.payloads) == payloads[max(after, -1) + 1 :][:60], after
        assert found.known.tolist() == list(range(500))[max(after, -1) + 1 :][:60]
    log.close()
    again = opened(cluster, prefix)
    assert list(again.read("a", -1, 10_000).payloads) == payloads
    again.close()


def test_writers_at_once_lose_and_double_nothing(cluster: Cluster, prefix: str) -> None:
    logs = [opened(cluster, prefix) for _ in range(3)]
    firsts: list[int] = []

    def write(number: int) -> None:
        for turn in range(8):
            known = [100 * turn + number] * 5
            payloads = [b"%d-%d-%d" % (number, turn, i) for i in range(5)]
            firsts.append(logs[number].append("a", known, payloads))

    threads = [Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(firsts) == list(range(0, 120, 5))
    found = [log.read("a", -1, 1000) for log in logs]
    for one in found:
        assert one.payloads == found[0].payloads
        assert one.known.tolist() == found[0].known.tolist()
        assert (np.diff(one.known) >= 0).all()
    assert len(set(found[0].payloads)) == len(found[0]) == 120
    for log in logs:
        log.close()


def test_of_two_readers_of_a_stream_one_wins(cluster: Cluster, prefix: str) -> None:
    logs = [opened(cluster, prefix) for _ in range(2)]
    won = [0, 0]

    def write(number: int) -> None:
        log, at = logs[number], 0
        while at < 30:
            try:
                step = Advance("s", str(at) if at else None, str(at + 1))
                log.append("a", [1], [b"%d" % at], [step])
                won[number] += 1
            except PositionTaken:
                pass
            at = int(log.positions("a")["s"])

    threads = [Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(won) == 30
    assert list(logs[0].read("a", -1, 100).payloads) == [b"%d" % n for n in range(30)]
    for log in logs:
        log.close()


def test_an_append_that_was_cut_off_does_not_count(cluster: Cluster, prefix: str) -> None:
    log = opened(cluster, prefix)
    log.append("a", [1], [b"x"])
    parts = kafka_log._parts("cut off", 1, np.array([2]), [b"y"])
    log._sent(f"{prefix}-a", parts)  # its last part never comes
    assert log.end("a") == LogEnd(1, 1)
    assert log.append("a", [3], [b"z"]) == 1
    assert list(log.read("a", -1, 9).payloads) == [b"x", b"z"]
    log.close()


def test_mistakes_are_refused(cluster: Cluster, prefix: str) -> None:
    log = opened(cluster, prefix)
    with pytest.raises(HomeostatError, match="2 known times for 1 payloads"):
        log.append("a", [1, 2], [b"x"])
    with pytest.raises(PayloadTooLarge, match="at most 900,000"):
        log.append("a", [1], [b"x" * 900_001])
    log.append("a", [1], [b"x" * 900_000])
    cluster.send(f"{prefix}-a", [Record(b"not ours")])
    with pytest.raises(LogDamaged, match="from offset 1"):
        log.read("a", -1, 1)
    log.close()


def test_records_that_the_broker_deleted_are_said_to_be_lost(cluster: Cluster, prefix: str) -> None:
    log = opened(cluster, prefix)
    said = r"deleted its first [1-9] records.*retention\.ms=-1"

    def fill() -> None:
        for _ in range(20):  # the mock forgets what is beyond 5 MB in a partition
            log.append("a", [1], [b"x" * 800_000])

    with pytest.raises(TopicShortened, match=said):
        fill()
    log.close()
    again = opened(cluster, prefix)
    with pytest.raises(TopicShortened, match=said):
        again.read("a", -1, 9)
    again.close()
