"""Folders and databases are fetched from by a running home, or by a command."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from homeostat.testing.toy_feeds import PAYMENTS, payment_lines
from homeostat.testing.toy_home import Commands

PATIENCE_S = 30.0
SYSTEM = """\
from pathlib import Path

from homeostat.testing.toy_feeds import fed_toy

HERE = Path(__file__).parent
system = fed_toy(HERE, f"sqlite:///{HERE / 'toy.db'}")
"""


@pytest.fixture
def fed(tmp_path: Path) -> Commands:
    """Return the commands of a system with two feeds, and no home yet."""
    (tmp_path / "system.py").write_text(SYSTEM)
    with closing(sqlite3.connect(tmp_path / "toy.db")) as database:
        database.execute("CREATE TABLE verdicts (payment_id, merchant, judged_at, fraud)")
    return Commands(tmp_path)


def judge(commands: Commands, *names: str, minute: int) -> None:
    with closing(sqlite3.connect(commands.folder / "toy.db")) as database:
        database.executemany(
            "INSERT INTO verdicts VALUES (?, 'kiosk', ?, 0)",
            [(name, f"2024-03-13 12:{minute:02}:00") for name in names],
        )
        database.commit()


def took(commands: Commands, *words: str) -> list[tuple[str, int, int | None, int | None]]:
    """Fetch, and return source, records, accepted and quarantined ones."""
    found = commands("fetch", *words, "--json").json["sources"]
    return [(s["source"], s["records"], s["accepted"], s["quarantined"]) for s in found]


def test_fetch_takes_what_is_there_once_and_says_what_it_cannot_take(fed: Commands) -> None:
    lines = list(dict.fromkeys(payment_lines().splitlines(keepends=True)))
    (fed.folder / PAYMENTS).write_bytes(b"".join(lines[:100]))
    judge(fed, "a", "b", minute=0)
    assert took(fed) == [("payments", 100, 98, 2), ("verdicts", 2, 2, 0)]
    assert took(fed) == [("payments", 0, 0, 0), ("verdicts", 0, 0, 0)]
    with (fed.folder / PAYMENTS).open("ab") as file:
        file.write(b"".join(lines[100:150]))
    judge(fed, "c", minute=0)
    assert took(fed, "verdicts", "--due") == [("verdicts", 1, 1, 0)], "the first of its schedule"
    judge(fed, "d", minute=0)
    assert took(fed, "--due") == [("payments", 50, 50, 0), ("verdicts", 0, 0, 0)]
    (fed.folder / PAYMENTS).write_bytes(b"".join(lines[3:5]))
    again = fed("fetch", "payments")
    assert again.out.splitlines()[1].split() == ["payments", "2", "0", "2", "0", "0"]
    assert "it changed after it was taken" in again.err
    assert fed("sql", "select count(*) as n from payments", "--json").json == [{"n": 148}]


def test_fetch_says_what_is_wrong(fed: Commands) -> None:
    unknown = fed("fetch", "payment")
    assert (unknown.status, "Did you mean 'payments'?" in unknown.err) == (1, True)
    (fed.folder / "toy.db").unlink()
    (fed.folder / PAYMENTS).write_bytes(payment_lines().splitlines(keepends=True)[0])
    assert took(fed) == [("payments", 1, 1, 0), ("verdicts", 0, None, None)], "one goes on"
    missing = fed("fetch", "verdicts")
    assert (missing.status, "there is no such file" in missing.err) == (1, True)
    assert missing.err.startswith("verdicts: query of ")
    assert not (fed.folder / "toy.db").exists()
    (fed.folder / "system.py").write_text(
        "from homeostat.testing.toy import toy_system\n\nsystem = toy_system()\n"
    )
    assert "no source declares a feed" in fed("fetch").out
    unfed = fed("fetch", "payments")
    assert (unfed.status, "no feed of source named 'payments'" in unfed.err) == (1, True)


def test_doctor_tells_how_far_the_feeds_are(fed: Commands) -> None:
    def feeds() -> list[tuple[str, str]]:
        checks = fed("doctor", "--json").json["checks"]
        return [(c["status"], c["found"]) for c in checks if c["name"].startswith("feed of")]

    (fed.folder / PAYMENTS).write_bytes(payment_lines()[:-5])
    fed("apply")
    assert feeds() == [("note", "0 of 1 files taken, 0 records"), ("note", "no run was made yet")]
    fed("fetch", "--due")
    status, found = feeds()[1]
    assert (status, found.startswith("the last run was planned for 20")) == ("ok", True)
    assert feeds()[0][0] == "note", "the last line has no end"
    fed("fetch", "payments")
    assert feeds()[0] == ("ok", "1 of 1 files taken, 1,850 records")


@contextmanager
def running(commands: Commands) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a home on a free port until the block ends."""
    main = "from homeostat.runtime.cli import main; main()"
    words = [sys.executable, "-c", main, "run", "--port", "0", "--json", *commands.options()]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=commands.folder
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["address"]
        finally:
            process.kill()


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another process does; fail if it never does."""
    began = monotonic()
    while not holds():
        assert monotonic() - began < PATIENCE_S, "it did not happen"
        sleep(0.05)


def test_a_running_home_takes_what_comes_and_goes_on_after_a_kill(fed: Commands) -> None:
    def sources() -> dict[str, int]:
        rows: list[dict[str, Any]] = fed("status", "--json").json["sources"]
        return {row["source"]: row["records"] - row["waiting"] for row in rows}

    lines = list(dict.fromkeys(payment_lines().splitlines(keepends=True)))
    file = fed.folder / PAYMENTS
    file.write_bytes(b"".join(lines[:10]))
    judge(fed, "a", minute=0)
    with running(fed) as (process, _):
        until(lambda: sources() == {"payments": 10, "verdicts": 1})
        with file.open("ab") as more:
            more.write(b"".join(lines[10:30]) + lines[30][:9])
        until(lambda: sources()["payments"] == 30)
        beside = fed("fetch", "verdicts")
        assert (beside.status, "Another process runs this home" in beside.err) == (0, True)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)
    with file.open("ab") as more:
        more.write(lines[30][9:] + b"".join(lines[31:40]))
    (fed.folder / "toy.db").unlink()
    with running(fed) as (process, _):
        until(lambda: sources()["payments"] == 40)
        file.write_bytes(b"".join(lines[:5]))
        until(lambda: sources()["payments"] == 45)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "payments: payments.ndjson: it changed after it was taken" in err
    assert fed("sql", "select count(*) as n from payments", "--json").json == [{"n": 40}]


def feeds_of(fed: Commands) -> dict[str, str]:
    return {row["source"]: row["feed"] for row in fed("status", "--json").json["sources"]}


def shown(fed: Commands, address: str) -> None:
    """Look at every place that tells of a feed that fails."""
    until(lambda: "fetching fails since" in feeds_of(fed)["verdicts"])
    assert "never went well: DatabaseFailed" in feeds_of(fed)["verdicts"]
    assert feeds_of(fed)["payments"] == "well"
    until(lambda: bool(fed("status", "--json").json["alerts"]))
    (alert,) = fed("status", "--json").json["alerts"]
    assert alert["alert"] == "upkeep/feed of verdicts"
    assert "feed of verdicts: fetching fails since" in fed("status").out
    ready = httpx.get(address + "/ready")
    assert ready.status_code == 200, "what there is is answered"
    assert any(note.startswith("feed of verdicts: fetching") for note in ready.json()["notes"])
    metrics = httpx.get(address + "/metrics").text
    assert 'homeostat_feed_failing{source="verdicts"} 1' in metrics
    assert 'homeostat_feed_failing{source="payments"} 0' in metrics
    checks = fed("doctor", "--json").json["checks"]
    assert any("fetching fails since" in c["found"] for c in checks if c["status"] == "note")


def test_a_database_that_is_away_is_said_once_and_holds_up_nothing(fed: Commands) -> None:
    (fed.folder / "toy.db").unlink()
    (fed.folder / "toy.db").mkdir()
    (fed.folder / PAYMENTS).write_bytes(b"")
    with running(fed) as (process, address):
        (fed.folder / PAYMENTS).write_bytes(payment_lines())
        until(lambda: fed("sql", "select 1", "--json").status == 0)
        until(lambda: fed("status", "--json").json["sources"][0]["records"] == 1850)
        shown(fed, address)
        (fed.folder / "toy.db").rmdir()
        with closing(sqlite3.connect(fed.folder / "toy.db")) as database:
            database.execute("CREATE TABLE verdicts (payment_id, merchant, judged_at, fraud)")
        until(lambda: feeds_of(fed)["verdicts"] == "well")
        until(lambda: not fed("status", "--json").json["alerts"])
        assert httpx.get(address + "/ready").json()["notes"] == ["fraud: no champion"]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert err.count("verdicts: fetching failed, and is tried again: DatabaseFailed") == 1
