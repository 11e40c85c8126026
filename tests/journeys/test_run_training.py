"""A server goes on folding, answering and obeying while it trains, however long that takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from homeostat.testing.toy_home import Commands

PATIENCE_S = 90.0
SYSTEM = """
from pathlib import Path
import homeostat as hs

HOLD = Path(__file__).with_name("hold")

class Asked(hs.Event):
    pid: str
    amount: float
    at: hs.Timestamp

class Told(hs.Event):
    pid: str
    at: hs.Timestamp
    bad: bool

asked = hs.EventSource("asked", Asked, event_id="pid", event_time="at", lateness="52w")
told = hs.EventSource("told", Told, event_id="pid", event_time="at", lateness="52w")

@hs.on_demand("amount")
def twice(amount):
    while len(amount) > 50 and HOLD.exists():  # busy, as training code in Python is
        pass
    return 2 * amount

model = hs.Model(
    "m",
    features=("amount", twice),
    label=hs.Label("bad", predicts=asked, outcome=told, join_on="pid",
                   value=hs.col("bad") == True, delay="6h", when_absent=False),
    estimator=hs.Estimator("sklearn.linear_model:LogisticRegression"),
    split=hs.Split(validation="1d", test="1d"),
    requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=5),
)
system = hs.System(
    "s", sources=(asked, told), models=(model,),
    deployments=(hs.Deployment(model=model, rollout=(hs.Shadow("1d"),), guards=(), deadline="30s",
                               degradation=hs.Degradation(score=0.1)),),
)
"""


@pytest.fixture
def served(tmp_path: Path) -> Commands:
    """Return the commands of a home with labelled requests, and without a model."""
    (tmp_path / "system.py").write_text(SYSTEM)
    begin = datetime.now(UTC) - timedelta(days=9)  # a split counts back from the present
    at = [begin + timedelta(hours=n / 2) for n in range(400)]
    asked: list[dict[str, Any]] = [
        {"pid": f"p{n}", "amount": n * 37 % 61, "at": str(t)} for n, t in enumerate(at)
    ]
    told = [
        {"pid": row["pid"], "at": str(t + timedelta(hours=1)), "bad": row["amount"] > 30}
        for row, t in zip(asked, at, strict=True)
    ]
    commands = Commands(tmp_path)
    for name, rows in (("asked", asked), ("told", told)):
        file = tmp_path / f"{name}.ndjson"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert commands("ingest", name, file).status == 0
    return commands


@contextmanager
def running(commands: Commands) -> Iterator[tuple[subprocess.Popen[str], str]]:
    words = [sys.executable, "-c", "from homeostat.runtime.cli import main; main()"]
    with subprocess.Popen(
        [*words, "run", "--port", "0", "--json", *commands.options()],
        stdout=subprocess.PIPE, text=True, cwd=commands.folder,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["address"]
        finally:
            process.kill()


def until(holds: Callable[[], object]) -> None:
    began = monotonic()
    while not holds():
        assert monotonic() - began < PATIENCE_S, "it did not happen"
        sleep(0.05)


def stage(commands: Commands) -> str:
    return str(commands("status", "--json").json["models"][0]["stage"])


def journaled(commands: Commands) -> list[str]:
    return [d["action"] for d in commands("journal", "--json").json["decisions"]]


def children(process: subprocess.Popen[str]) -> list[int]:
    found = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(word) for file in found for word in file.read_text().split()]


def folded(commands: Commands) -> int:
    source: Any = commands("status", "--json").json["sources"][0]
    return int(source["records"]) - int(source["waiting"])


def test_a_training_is_left_at_a_stop_and_made_at_the_next_start(served: Commands) -> None:
    hold = served.folder / "hold"
    hold.touch()
    with running(served) as (process, address):
        until(lambda: stage(served) == "training")
        before = folded(served)
        event = {"pid": "new", "amount": 1.0, "at": str(datetime.now(UTC))}
        assert httpx.post(f"{address}/events/asked", json=[event]).status_code == 202
        until(lambda: folded(served) == before + 1)
        answer = httpx.post(f"{address}/predict/m", json={"pid": "q", "amount": 9.0}, timeout=30)
        assert answer.json()["score"] == 0.1
        again = served("train", "m")
        assert (again.status, "being trained already" in again.err) == (1, True)
        (child,) = children(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, "it does not wait for the training"
        until(lambda: not Path(f"/proc/{child}").exists())
    assert journaled(served) == ["train"]
    checks = {check["name"]: check for check in served("doctor", "--json").json["checks"]}
    assert "it was cut off" in checks["training of m"]["found"]
    hold.unlink()
    with running(served) as (process, address):
        until(lambda: journaled(served) == ["train", "reject", "train", "promote"])
        answer = httpx.post(f"{address}/predict/m", json={"pid": "r", "amount": 9.0}, timeout=30)
        assert answer.json()["version"] == 1

        hold.touch()  # a training whose process is killed, as for its memory
        words = [sys.executable, "-c", "from homeostat.runtime.cli import main; main()"]
        with subprocess.Popen(
            [*words, "train", "m", "--json", *served.options()],
            stdout=subprocess.PIPE, cwd=served.folder,
        ) as asking:  # fmt: skip
            until(lambda: stage(served) == "training" and children(process))
            os.kill(children(process)[0], signal.SIGKILL)
            told, _ = asking.communicate(timeout=PATIENCE_S)
        assert asking.returncode == 3
        assert "its process was killed by SIGKILL" in json.loads(told)[-1]["reason"]
        hold.unlink()

        file = served.folder / "system.py"
        file.write_text(file.read_text().replace("return 2 * amount", "return 3 * amount"))
        other = served("train", "m")
        assert (other.status, "not applied" in other.err) == (1, True)
        answer = httpx.post(f"{address}/predict/m", json={"pid": "s", "amount": 9.0}, timeout=30)
        assert answer.json()["version"] == 1


def test_nothing_is_trained_by_declarations_that_hold_no_more(served: Commands) -> None:
    hold = served.folder / "hold"
    hold.touch()
    with running(served) as (process, address):
        until(lambda: stage(served) == "training" and children(process))
        (child,) = children(process)
        other = SYSTEM.replace("return 2 * amount", "return 3 * amount")
        (served.folder / "system.py").write_text(other)
        assert served("apply").status == 0
        hold.unlink()
        until(lambda: not Path(f"/proc/{child}").exists())  # it ended, and nobody has its outcome
        until(lambda: journaled(served) == ["train", "alert"])
        refused = served("train", "m")
        assert (refused.status, "other declarations" in refused.err) == (1, True)
        told = served("status", "--json").json["restart"]
        assert told.endswith("nothing is trained until then")
        assert told in httpx.get(f"{address}/ready", timeout=30).json()["notes"]
        assert told in {one["found"] for one in served("doctor", "--json").json["checks"]}
        [alert] = served("journal", "--action", "alert", "--json").json["decisions"]
        assert alert["reason"] == told
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert journaled(served) == ["train", "alert"]
    with running(served) as (process, address):
        until(lambda: len(journaled(served)) == 6)
        assert sorted(journaled(served)) == [
            "alert",
            "clear",
            "promote",
            "reject",
            "train",
            "train",
        ]
        answer = httpx.post(f"{address}/predict/m", json={"pid": "r", "amount": 9.0}, timeout=30)
        assert (answer.json()["version"], answer.json()["degraded"]) == (1, [])
