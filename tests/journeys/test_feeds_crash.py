"""Fetching that is killed at any instant, and begun again, ends like one that was left alone."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from homeostat.testing.toy import toy_events
from homeostat.testing.toy_feeds import PAYMENTS, VERDICTS, complete, payment_lines, write_verdicts

Digest = dict[str, str]
PATIENCE_S = 120.0


def run(*words: str | Path, kill_after_s: float | None = None) -> Digest | None:
    """Fetch into a home; None if the process was killed before it was done."""
    command = [sys.executable, "-m", "homeostat.testing.toy_feeds", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (0, -signal.SIGKILL)
    found: Digest | None = json.loads(rest) if process.returncode == 0 else None
    return found


@contextmanager
def growing(folder: Path, seed: int, lasts_s: float) -> Iterator[None]:
    """Let the payments grow by pieces that end anywhere; they are complete at the end."""
    draw, body, stop = random.Random(seed), payment_lines(), Event()

    def write() -> None:
        at = 0
        with (folder / PAYMENTS).open("wb", buffering=0) as file:
            while at < len(body):
                at += file.write(body[at : at + draw.randint(1, len(body) // 20)])
                stop.wait(lasts_s / 20)
        complete(folder)

    writer = Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def kill_and_compare(folder: Path, url: str | None, kills: int, seed: int) -> int:
    """Kill `kills` times while the file grows, and compare the end with an undisturbed run."""
    draw = random.Random(seed)
    still, moving = folder / "still", folder / "moving"
    for place in (still, moving):
        write_verdicts(place / VERDICTS)
    (still / PAYMENTS).write_bytes(payment_lines())
    complete(still)
    given = () if url is None else (url,)
    began = time.monotonic()
    undisturbed = run(folder / "undisturbed", still, *given)
    lasted = time.monotonic() - began
    struck = 0
    with growing(moving, seed, lasted * kills / 2):
        for _ in range(kills):
            kill_after_s = draw.uniform(0, lasted)
            struck += run(folder / "killed", moving, *given, kill_after_s=kill_after_s) is None
    assert run(folder / "killed", moving, *given) == undisturbed
    assert undisturbed is not None
    return struck


def verdicts_in_sqlite(folder: Path) -> str:
    """Write the verdicts into a database, instants as text without a zone; return its URL."""
    rows = toy_events()["verdicts"].drop("known_at").rows()
    with closing(sqlite3.connect(folder / "toy.db")) as database:
        database.execute("CREATE TABLE verdicts (payment_id, merchant, judged_at, fraud)")
        database.executemany(
            "INSERT INTO verdicts VALUES (?, ?, ?, ?)",
            [(a, b, at.strftime("%Y-%m-%d %H:%M:%S.%f"), fraud) for a, b, at, fraud in rows],
        )
        database.commit()
    return f"sqlite:///{folder / 'toy.db'}"


def verdicts_in_postgresql(url: str) -> None:
    """Write the verdicts into a table, anew."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS verdicts"))
        connection.execute(
            text(
                "CREATE TABLE verdicts (payment_id text, merchant text, judged_at timestamptz, "
                "fraud boolean, seen_by text)"
            )
        )
        connection.execute(
            text("INSERT INTO verdicts VALUES (:payment_id, :merchant, :judged_at, :fraud, 'x')"),
            toy_events()["verdicts"].drop("known_at").to_dicts(),
        )
    engine.dispose()


def test_files_that_grow_while_the_taker_is_killed_are_taken_once(tmp_path: Path) -> None:
    assert kill_and_compare(tmp_path, None, kills=3, seed=1) > 0


def test_a_database_is_read_once_by_takers_that_are_killed(tmp_path: Path) -> None:
    assert kill_and_compare(tmp_path, verdicts_in_sqlite(tmp_path), kills=3, seed=2) > 0


def test_a_server_is_read_once_by_takers_that_are_killed(tmp_path: Path, postgres: str) -> None:
    verdicts_in_postgresql(postgres)
    assert kill_and_compare(tmp_path, postgres, kills=2, seed=3) > 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("fed_by", ["files", "sqlite", "postgresql"])
def test_many_kills(tmp_path: Path, seed: int, fed_by: str, request: pytest.FixtureRequest) -> None:
    url = None
    if fed_by == "sqlite":
        url = verdicts_in_sqlite(tmp_path)
    elif fed_by == "postgresql":
        url = request.getfixturevalue("postgres")
        verdicts_in_postgresql(url)
    assert kill_and_compare(tmp_path, url, kills=15, seed=seed) > 0
