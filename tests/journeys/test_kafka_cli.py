"""A home is fed by topics: up to their end by a command, and all along while it runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from time import monotonic, sleep

import pytest

from homeostat.testing.kafka_cluster import Cluster, Record, kafka_cluster
from homeostat.testing.toy_home import Commands

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with kafka_cluster() as found:
        yield found


def profile(commands: Commands, cluster: Cluster, **topics: str) -> None:
    sources = "".join(f'[kafka.sources.{s}]\ntopic = "{t}"\n' for s, t in topics.items())
    text = f'[kafka]\nbrokers = "{cluster.brokers}"\ngroup = "{topics["payments"]}"\n{sources}'
    (commands.folder / "homeostat.toml").write_text(text)


def payment(number: int) -> Record:
    said = {
        "payment_id": f"k{number}", "card": "card-1", "merchant": "kiosk", "amount": 5.0,
        "asked_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    return Record(json.dumps(said).encode(), number % 2)


def verdict(number: int) -> Record:
    said = {
        "payment_id": f"k{number}", "merchant": "kiosk", "fraud": False,
        "judged_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    return Record(json.dumps(said).encode(), number % 2)


def until(holds: Callable[[], bool]) -> None:
    began = monotonic()
    while not holds():
        assert monotonic() - began < PATIENCE_S, "it did not happen"
        sleep(0.1)


def test_a_topic_is_taken_up_to_its_end(fresh: Commands, cluster: Cluster) -> None:
    topic = cluster.topic(2)
    profile(fresh, cluster, payments=topic)
    cluster.send(topic, [payment(0), payment(1), payment(0), Record(b"{"), Record(None)])
    found = fresh("ingest", "payments", "--kafka", "--json").json
    row = found["files"][0]
    assert (row["file"], row["records"], row["accepted"]) == ("kafka", 5, 2)
    assert found["dead_letters"] == {"malformed": 1, "tombstone": 1, "conflict": 1}
    again = fresh("ingest", "payments", "--kafka", "--json").json
    assert again["files"][0]["records"] == 0


def test_a_topic_that_nobody_names(fresh: Commands, cluster: Cluster) -> None:
    profile(fresh, cluster, payments="payments")
    asked = fresh("ingest", "verdicts", "--kafka")
    assert (asked.status, "no Kafka topic of source named 'verdicts'" in asked.err) == (1, True)
    (fresh.folder / "homeostat.toml").unlink()
    assert "homeostat.toml: no Kafka topic" in fresh("ingest", "verdicts", "--kafka").err
    for words in (("--kafka", "--received-now"), ("--kafka", fresh.folder / "system.py"), ()):
        assert fresh("ingest", "payments", *words).status == 2


def test_topics_are_read_while_the_home_runs(fresh: Commands, cluster: Cluster) -> None:
    payments, verdicts = cluster.topic(2), cluster.topic(2)
    profile(fresh, cluster, payments=payments, verdicts=verdicts)
    cluster.send(payments, map(payment, range(100)))
    words = ["run", "--port", "0", "--json", *fresh.options()]
    command = [sys.executable, "-c", "from homeostat.runtime.cli import main; main()", *words]
    count = ("features", "read", "cards", "card=card-1", "--json")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=fresh.folder
    ) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                pytest.fail(process.communicate(timeout=PATIENCE_S)[1])
            until(lambda: fresh(*count).json["features"]["count_1h"] == 100)
            cluster.send(verdicts, map(verdict, range(50)))
            cluster.send(payments, [*map(payment, range(100, 150)), Record(b"{")])
            until(lambda: fresh(*count).json["features"]["count_1h"] == 150)
            beside = fresh("ingest", "payments", "--kafka", "--json").json
            assert (beside["folded"], beside["files"][0]["records"]) == (False, 0)
            merchant = ("features", "read", "merchants", "merchant=kiosk", "--json")
            until(lambda: fresh(*merchant).json["features"]["fraud_share_2d"] == 0.0)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert f"payments, topic '{payments}': reads partition 0 from its beginning" in err
    assert fresh("dead-letters", "list", "--json").json["letters"][0]["reason"] == "malformed"
    rows = fresh("sql", "SELECT count(*) AS n FROM verdicts", "--json").json
    assert rows == [{"n": 50}]
    left = fresh("ingest", "payments", "--kafka", "--json").json
    assert left["files"][0]["records"] == 0
