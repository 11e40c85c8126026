"""Every command on a home whose log is in Kafka: it ends like a home with a log of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from homeostat.testing.kafka_cluster import Cluster, kafka_cluster
from homeostat.testing.toy_home import Commands

PATIENCE_S = 60.0
SYSTEM = """
import homeostat as hs


class Sale(hs.Event):
    sale: str
    shop: str
    amount: float
    at: hs.Timestamp


sales = hs.EventSource("sales", Sale, event_id="sale", event_time="at", lateness="30d")
shops = hs.FeatureView(
    "shops", hs.Entity("shop", key="shop"), sales,
    (hs.count().over("7d"), hs.sum_("amount").over("7d"), hs.count()),
)
system = hs.System("shop", sources=(sales,), views=(shops,))
"""
ROWS = "SELECT * EXCLUDE (_known_time, _day) FROM sales ORDER BY _offset"
PREFIXES = count(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with kafka_cluster() as found:
        yield found


def profile(brokers: str, prefix: str) -> str:
    # The mock answers a look at the end of a topic after that time, a real broker at once.
    return (
        f'[kafka]\nbrokers = "{brokers}"\nlog = "{prefix}"\n'
        '[kafka.client]\n"fetch.wait.max.ms" = 5\n'
    )


def shop(folder: Path, said: str = "") -> Commands:
    folder.mkdir()
    (folder / "system.py").write_text(SYSTEM)
    (folder / "homeostat.toml").write_text(said)
    return Commands(folder)


def in_kafka(folder: Path, cluster: Cluster) -> Commands:
    return shop(folder, profile(cluster.brokers, f"{cluster.topic(1)}-log-{next(PREFIXES)}"))


def sales(first: int, number: int, at: datetime) -> list[dict[str, Any]]:
    return [
        {
            "sale": f"s{n}", "shop": f"shop-{n % 3}", "amount": n / 8,
            "at": (at - timedelta(minutes=n)).isoformat(),
        }
        for n in range(first, first + number)
    ]  # fmt: skip


@dataclass
class Running:
    process: subprocess.Popen[str]
    address: str

    def push(self, rows: Sequence[Any]) -> None:
        answer = httpx.post(f"{self.address}/events/sales", json=rows, timeout=PATIENCE_S)
        assert answer.status_code == 202, answer.text

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=PATIENCE_S)[1]
        assert self.process.returncode == 0, said


@contextmanager
def running(commands: Commands) -> Iterator[Running]:
    words = ["run", "--port", "0", "--json", *commands.options()]
    with subprocess.Popen(
        [sys.executable, "-c", "from homeostat.runtime.cli import main; main()", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=commands.folder,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if "address" not in said:
                process.kill()
                pytest.fail(said + process.communicate(timeout=PATIENCE_S)[1])
            yield Running(process, json.loads(said)["address"])
        finally:
            process.kill()


def counted(commands: Commands) -> int:
    found = commands("features", "read", "shops", "shop=shop-1", "--json").json
    return int(found["features"]["count"])


def until(commands: Commands, number: int) -> None:
    began = monotonic()
    while counted(commands) < number:
        assert monotonic() - began < PATIENCE_S, f"{counted(commands)} of {number}"
        sleep(0.05)


def live(commands: Commands, now: datetime) -> dict[str, Any]:
    """Ingest, push, be killed, go on; return what a person can ask for afterwards."""
    files = []
    for name, first in (("old", 0), ("beside", 60)):
        files.append(commands.folder / f"{name}.jsonl")
        files[-1].write_text("\n".join(map(json.dumps, sales(first, 60, now))))
    taken = commands("ingest", "sales", files[0], "--known-at", now.isoformat(), "--json")
    assert taken.json["files"][0]["accepted"] == 60, taken.err
    with running(commands) as process:
        process.push(sales(120, 30, now))
        until(commands, 30)
        looks = [
            commands(*words, "--json")
            for words in (
                ["status"], ["sql", "SELECT count(*) AS n FROM sales"], ["lake", "status"],
                ["dead-letters", "list"], ["features", "list"], ["lake", "report"], ["doctor"],
            )
        ]  # fmt: skip
        assert all(look.status == 0 for look in looks), [look.out for look in looks]
        beside = commands("ingest", "sales", files[1], "--known-at", now.isoformat(), "--json")
        assert beside.json["folded"] is False, "another process folds"
        process.push([*sales(150, 30, now), {"sale": "odd"}])
        process.process.send_signal(signal.SIGKILL)
        process.process.wait(PATIENCE_S)
    with running(commands) as process:
        process.push([*sales(150, 30, now), *sales(180, 30, now)])
        until(commands, 70)
        process.stop()
    letters = commands("dead-letters", "list", "--json").json["letters"]
    read = [commands("features", "read", "shops", f"shop=shop-{n}", "--json") for n in range(3)]
    doctor = commands("doctor", "--json").json
    assert doctor["healthy"], doctor
    return {
        "rows": commands("sql", ROWS, "--json").json,
        "letters": [(letter["offset"], letter["reason"]) for letter in letters],
        "features": [found.json["features"] for found in read],
        "log": next(c["found"] for c in doctor["checks"] if c["name"] == "log of sales"),
    }


def test_it_ends_like_a_home_with_a_log_of_its_own(tmp_path: Path, cluster: Cluster) -> None:
    now = datetime.now(UTC)
    own, there = shop(tmp_path / "own"), in_kafka(tmp_path / "kafka", cluster)
    expected, found = live(own, now), live(there, now)
    assert len(expected["rows"]) == 210
    assert found == expected
    assert (own.folder / "state" / "log.db").exists()
    assert not (there.folder / "state" / "log.db").exists()


def test_it_is_lived_through_and_applied(tmp_path: Path, cluster: Cluster) -> None:
    commands, at = in_kafka(tmp_path / "kafka", cluster), datetime(2024, 3, 4, tzinfo=UTC)
    file = commands.folder / "sales.jsonl"
    file.write_text("\n".join(map(json.dumps, sales(0, 60, at))))
    commands("ingest", "sales", file, "--known-at", "2024-03-04T01:00:00Z")
    done = commands("replay", "--from", "2024-03-04", "--every", "1h", "--json")
    assert done.status == 0, done.err
    assert commands("apply", "--json").status == 0
    assert commands("sql", "SELECT count(*) AS n FROM sales", "--json").json == [{"n": 60}]


def test_a_home_keeps_to_the_log_it_began_with(tmp_path: Path, cluster: Cluster) -> None:
    there, own = in_kafka(tmp_path / "kafka", cluster), shop(tmp_path / "own")
    for commands in (there, own):
        file = commands.folder / "sales.jsonl"
        file.write_text("\n".join(map(json.dumps, sales(0, 9, datetime(2024, 3, 4, tzinfo=UTC)))))
        assert commands("ingest", "sales", file, "--known-at", "2024-03-05").status == 0
    prefix = (there.folder / "homeostat.toml").read_text().split('log = "')[1].split('"')[0]
    for commands, said, words in (
        (there, "", f"it is in the topics {prefix}-SOURCE, and was to be opened in log.db"),
        (there, profile(cluster.brokers, "other"), "was to be opened in the topics other-SOURCE"),
        (own, profile(cluster.brokers, "other"), "it is in log.db"),
    ):
        before = (commands.folder / "homeostat.toml").read_text()
        (commands.folder / "homeostat.toml").write_text(said)
        for asked in (("status",), ("ingest", "sales", commands.folder / "sales.jsonl")):
            answer = commands(*asked)
            assert (answer.status, words in answer.err) == (1, True), answer.err
        (commands.folder / "homeostat.toml").write_text(before)
    assert not (there.folder / "state" / "log.db").exists()


def test_the_lake_answers_while_the_brokers_are_away(tmp_path: Path, cluster: Cluster) -> None:
    commands = in_kafka(tmp_path / "kafka", cluster)
    file = commands.folder / "sales.jsonl"
    file.write_text(json.dumps(sales(0, 1, datetime(2024, 3, 4, tzinfo=UTC))[0]))
    assert commands("ingest", "sales", file, "--known-at", "2024-03-05").status == 0
    said = (commands.folder / "homeostat.toml").read_text()
    (commands.folder / "homeostat.toml").write_text(said.replace(cluster.brokers, "127.0.0.1:1"))
    assert commands("sql", "SELECT sale FROM sales", "--json").json == [{"sale": "s0"}]


def test_a_retention_and_a_log_in_kafka_are_refused(tmp_path: Path) -> None:
    commands = shop(tmp_path / "shop", profile("nowhere:1", "log") + '[log]\nkeep = "7d"\n')
    for words in (("run", "--port", "0"), ("ingest", "sales", commands.folder / "system.py")):
        answer = commands(*words)
        assert (answer.status, "the broker keeps such a log" in answer.err) == (1, True), answer.err
    assert not (commands.folder / "state").exists()


def test_the_client_must_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    commands = shop(tmp_path / "shop", profile("nowhere:1", "log"))
    answer = commands("ingest", "sales", commands.folder / "system.py")
    assert (answer.status, "pip install 'homeostat[kafka]'" in answer.err) == (1, True), answer.err
    assert not (commands.folder / "state" / "log.json").exists()
