"""A process that is killed while it archives and trims: every record is kept, and none twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock
from homeostat.lake.raw import RawRecords
from homeostat.runtime.app import App
from homeostat.runtime.doctor import examine

NOON, HOUR = 1_709_553_600_000_000, 3_600_000_000
WORK = """
import os, signal, sys, threading, time
from pathlib import Path

sys.path.insert(0, sys.argv[4])
from test_raw_crash import HOUR, opened, payload

folder, point, delay = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
from homeostat.lake.raw import RawRecords
from homeostat.lake import joining


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def killing(owner, name, before, turns):
    real, left = getattr(owner, name), [turns]

    def call(*args, **kwargs):
        left[0] -= 1
        if before and not left[0]:
            kill()
        done = real(*args, **kwargs)
        if not left[0]:
            kill()
        return done

    setattr(owner, name, call)


with opened(folder) as app:
    turns = 1 + int(delay * 10)
    if point == "time":
        threading.Thread(target=lambda: (time.sleep(delay), kill()), daemon=True).start()
    elif point == "trimming":
        killing(type(app.home.log), "trim", False, turns)
    elif point == "joining":
        killing(joining, "exchange", True, 1 + turns // 3)
    else:
        killing(RawRecords, "append", point == "before", turns)
    print("ready", flush=True)
    while True:
        first = app.home.log.end("sales").next_offset
        numbers = range(first, first + 200)
        app.home.log.append("sales", [app.clock.now()] * 200, [payload(n) for n in numbers])
        print(first + 200, flush=True)
        app.clock.base.advance_to(app.clock.now() + 12 * HOUR)
        app.live.tick()
        app.live.tick()
"""


class Sale(hs.Event):
    sale: str
    at: hs.Timestamp


SALES = hs.EventSource("sales", Sale, event_id="sale", event_time="at")
SYSTEM = hs.System("shop", sources=(SALES,))
KEEP = hs.LogKeep(keep_bytes=1)


def opened(folder: Path, now: int = NOON) -> App:
    return hs.open(SYSTEM, folder, ManualClock(now), keep=KEEP)


def payload(number: int) -> bytes:
    """Return the record at an offset: an event, or what is none."""
    if number % 10 == 7:
        return b"\xff" * (number % 100)
    return b'{"sale": "s%d", "at": "2024-03-04T12:00:00Z"}' % number + b" " * (number % 3_000)


@pytest.mark.parametrize("point", ["before", "after", "time", "trimming", "joining"])
def test_a_kill_loses_and_doubles_nothing(tmp_path: Path, point: str) -> None:
    home, draw, promised, worked = tmp_path / "home", random.Random(point), 0, 0
    for _ in range(2):
        words = [str(home), point, str(draw.uniform(0, 0.6)), str(Path(__file__).parent)]
        run = subprocess.run(
            [sys.executable, "-c", WORK, *words], capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert run.returncode == -signal.SIGKILL, run.stderr
        said = run.stdout.split()
        worked += len(said) > 1
        promised = max([promised, *map(int, said[1:])])
        with opened(home) as app:
            end = app.home.log.end("sales")
            assert end.next_offset >= promised
            raw = RawRecords(app.home.lake, "sales")
            held: list[tuple[int, bytes]] = []
            for batch in raw.read(0, 2**62):
                held += zip(batch.offsets.tolist(), batch.payloads, strict=True)
            assert held == [(n, payload(n)) for n in range(len(held))]
            assert len(held) >= end.first_offset, "what the log let go of is there"
    assert worked, "some were killed at work"
    with opened(home, NOON + 1_000 * HOUR) as app:
        app.live.drain()
        app.live.trim()
        end = app.home.log.end("sales")
        assert end.first_offset > 0
        rows = app.sql("SELECT payload FROM raw_sales ORDER BY _offset")["payload"].to_list()
        assert rows == [payload(n) for n in range(end.next_offset)]
        events = app.home.lake.read("sales")["_offset"].to_list()
        assert events == [n for n in range(end.next_offset) if n % 10 != 7]
    assert all(check.status != "broken" for check in examine(SYSTEM, home))
