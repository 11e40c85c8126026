"""A reader of a topic that is killed at any instant and run again ends like one left alone."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from homeostat.testing.kafka_cluster import Cluster, Record, kafka_cluster
from homeostat.testing.toy_kafka import PARTITIONS, toy_records

Digest = dict[str, str]


@dataclass(frozen=True)
class Sent:
    """A topic with the toy's records."""

    brokers: str
    topic: str
    records: list[Record]
    log_in_kafka: bool = False

    def run(self, home: Path, kill_after_s: float | None = None) -> Digest | None:
        """Read the topic into `home`; None if the process was killed before it was done."""
        words = [str(home), self.brokers, self.topic, str(len(self.records))]
        if self.log_in_kafka:
            words.append(f"{self.topic}-{home.name}")
        command = [sys.executable, "-m", "homeostat.testing.toy_kafka", *words]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            if kill_after_s is not None:
                time.sleep(kill_after_s)
                process.send_signal(signal.SIGKILL)
            rest, said = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), said
        found: Digest | None = json.loads(rest) if process.returncode == 0 else None
        return found


def send(cluster: Cluster, records: int, seed: int, log_in_kafka: bool = False) -> Sent:
    topic = cluster.topic(PARTITIONS)
    sent = Sent(cluster.brokers, topic, toy_records(records, seed), log_in_kafka)
    cluster.send(sent.topic, sent.records)
    return sent


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with kafka_cluster() as found:
        if not found.can_fail:
            pytest.skip("killed members would be waited for too long: session.timeout.ms")
        yield found


def kill_and_compare(
    cluster: Cluster, folder: Path, kills: int, seed: int, log_in_kafka: bool = False
) -> int:
    """Kill `kills` times at random instants; every home that gets done is like an undisturbed one.

    A home that gets done before it is killed is followed by a new one.
    """
    sent = send(cluster, 10_000, seed, log_in_kafka)
    began = time.monotonic()
    undisturbed = sent.run(folder / "undisturbed")
    lasted = time.monotonic() - began
    assert undisturbed is not None
    ids = {json.loads(v)["tap"] for v in valid(sent)}
    assert undisturbed["ids"] == undisturbed["lake"].split()[0] == str(len(ids))
    draw, struck, done = random.Random(seed), 0, 0
    while struck < kills:
        began = time.monotonic()
        ended = sent.run(folder / f"killed-{done}", draw.uniform(0, lasted))
        if ended is not None:  # the machine was busier at first
            lasted = min(lasted, time.monotonic() - began)
        struck += ended is None
        done += ended is not None
        assert ended in (None, undisturbed)
        assert done <= 2 * kills + 10, "it is done before it can be killed"
    assert sent.run(folder / f"killed-{done}") == undisturbed
    return struck


def valid(sent: Sent) -> Iterator[bytes]:
    """Yield the values that the toy's source accepts."""
    for record in sent.records:
        value = record.value
        if value is not None and value.endswith(b"}") and b"2024-05-01T12:10:00" not in value:
            yield value


def test_a_killed_reader_ends_like_an_undisturbed_one(cluster: Cluster, tmp_path: Path) -> None:
    assert kill_and_compare(cluster, tmp_path, kills=4, seed=3) == 4


def test_so_does_one_whose_log_is_in_kafka(cluster: Cluster, tmp_path: Path) -> None:
    assert kill_and_compare(cluster, tmp_path, kills=3, seed=5, log_in_kafka=True) == 3


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 104))
def test_many_kills_with_the_log_in_kafka(cluster: Cluster, tmp_path: Path, seed: int) -> None:
    assert kill_and_compare(cluster, tmp_path, kills=20, seed=seed, log_in_kafka=True) == 20


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(15))
def test_many_kills(cluster: Cluster, tmp_path: Path, seed: int) -> None:
    assert kill_and_compare(cluster, tmp_path, kills=20, seed=seed) == 20


def test_the_toy_has_every_kind_of_trouble() -> None:
    records = toy_records(4000)
    values = Counter(record.value for record in records)
    assert values[None] > 10
    assert sum(n > 1 for value, n in values.items() if value is not None) > 100
    assert sum(value is not None and not value.endswith(b"}") for value in values) > 10
