"""The log lets go of old records, and never of one that the store or the lake still needs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.errors import HomeostatError
from homeostat.features.folded import folded_offset
from homeostat.ingest.log import EventLog, LogTrimmed
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.runtime.app import App
from homeostat.runtime.doctor import examine
from homeostat.runtime.profile import ProfileInvalid, read_profile
from homeostat.testing.toy import toy_system
from homeostat.testing.toy_replay import replay_toy, toy_schedule

NOON = to_micros(datetime(2024, 3, 4, 12, tzinfo=UTC))
HOUR = 3_600_000_000


class Sale(hs.Event):
    sale: str
    shop: str
    at: hs.Timestamp


SALES = hs.EventSource("sales", Sale, event_id="sale", event_time="at", lateness="7d")
SHOPS = hs.FeatureView("shops", hs.Entity("shop", key="shop"), SALES, (hs.count().over("7d"),))
SYSTEM = hs.System("shop", sources=(SALES,), views=(SHOPS,))


def sell(app: App, name: str, number: int) -> None:
    at = datetime.fromtimestamp(app.clock.now() / 1e6, UTC).isoformat()
    rows = [{"sale": f"{name}-{n}", "shop": "north", "at": at} for n in range(number)]
    known = [app.clock.now()] * number
    app.home.log.append("sales", known, [json.dumps(row).encode() for row in rows])


def first(app: App) -> int:
    return app.home.log.end("sales").first_offset


def test_what_is_old_goes_at_the_steps_of_the_loop(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with hs.open(SYSTEM, tmp_path, clock, keep=hs.LogKeep(keep="3h")) as app:
        kept = []
        for hour in range(6):
            sell(app, f"h{hour}", 10)
            app.live.drain()
            app.live.tick()  # a step ends, and its tick takes a bite
            app.live.tick()
            kept.append(first(app))
            clock.advance_to(clock.now() + HOUR)
        assert kept == [0, 0, 0, 0, 10, 20]
        assert app.read("shops", {"shop": ["north"]})["count_7d"].to_list() == [60]
        with pytest.raises(LogTrimmed, match="offsets from 20 on; the lake has the events before"):
            app.home.log.read("sales", 4, 5)
    assert all(check.status != "broken" for check in examine(SYSTEM, tmp_path))
    with hs.open(SYSTEM, tmp_path, clock) as app:  # nothing more goes without a retention
        assert app.live.trim() == 0
        sell(app, "h0", 10)  # ids that came before with another time
        assert app.live.drain()["sales"].rejected == 10
        app.live.flush()
        assert app.home.lake.read("sales").height == 60


def test_nothing_goes_that_a_consumer_has_not_taken(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    keep = hs.LogKeep(keep_bytes=1)
    with hs.open(SYSTEM, tmp_path, clock, keep=keep) as app:
        for name in "abc":
            sell(app, name, 10)
        app.live._trimmer.aim(clock.now())
        assert app.live._trimmer.bite() == 0, "nothing is folded"
        with app.home.store.writer() as writer:
            app.live._engine.worker.load(writer, SALES, None, limit=25).finish(writer)
        app.live._trimmer.aim(clock.now())
        assert app.live._trimmer.bite() == 0, "nothing is in the lake"
        app.live._engine.worker.lake.flush()
        app.live._trimmer.aim(clock.now())
        assert app.live._trimmer.bite() == 0, "nothing is in the raw table"
        app.live._archiver.finish()
        app.live._trimmer.aim(clock.now())
        assert app.live._trimmer.bite() == 20, "the third append is needed still"
        assert app.live._trimmer.bite() == 0
        assert app.live.drain()["sales"].accepted == 5
        sell(app, "d", 10)
        app.live.drain()
        assert app.live.trim() == 10
        with app.home.store.reader() as reader:
            folded = folded_offset(reader, "sales")
        assert (first(app), folded) == (30, 39), "the last record taken is kept"
    with hs.open(SYSTEM, tmp_path, clock, keep=keep) as app:  # and is what a start reads
        assert app.home.lake.read("sales").height == 40


def test_space_is_given_back_to_the_file_system(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with hs.open(SYSTEM, tmp_path, clock, keep=hs.LogKeep(keep="1h")) as app:
        known, noise = [NOON] * 8, random.Random(1)
        for _ in range(12):
            app.home.log.append("sales", known, [noise.randbytes(1 << 20)] * 8)
        app.live.drain()
        assert os.path.getsize(tmp_path / "log.db") > 90 << 20
        clock.advance_to(NOON + 2 * HOUR)
        sell(app, "last", 1)
        app.live.drain()
        while app.live.trim():
            pass
    assert os.path.getsize(tmp_path / "log.db") < 10 << 20


def test_receipts_and_training_do_not_need_the_log(tmp_path: Path) -> None:
    replay_toy(tmp_path)
    clock = ManualClock(toy_schedule().end)
    asked = {"payment_id": "asked", "card": "card-1", "merchant": "kiosk", "amount": 5.0}
    with App(toy_system(), tmp_path, clock) as app:
        named = app.predict("fraud", asked)[0].prediction_id
        app.step()
        before = app.training_set("fraud")
    with App(toy_system(), tmp_path, clock, keep=hs.LogKeep(keep_bytes=1)) as app:
        assert app.live.trim() > 0
        assert app.home.log.end("payments").first_offset > 0
        assert app.receipt(named).holds
        assert app.training_set("fraud").equals(before)
        assert app.audit("fraud").different == 0
    assert all(check.status != "broken" for check in examine(toy_system(), tmp_path))


def test_a_log_that_cannot_be_trimmed_says_so(tmp_path: Path) -> None:
    class Whole:
        def __init__(self, log: EventLog) -> None:
            self.append, self.read, self.end = log.append, log.read, log.end
            self.positions, self.close = log.positions, log.close

    with pytest.raises(HomeostatError, match="log Whole: it cannot let go of records"):
        hs.open(
            SYSTEM, tmp_path, ManualClock(NOON), Whole(SqliteLog(tmp_path / "other.db")),
            hs.LogKeep(keep="1d"),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[log]\nkeep = '7 days'", "keep='7 days' is no duration"),
        ("[log]\nkeep = '0s'", "keep of nothing"),
        ("[log]\nkeep_bytes = -1", "keep_bytes=-1; allowed: a whole number of bytes"),
        ("[log]\nkeep_byte = 1", "Did you mean 'keep_bytes'?"),
        ("log = 1", "a table of settings"),
    ],
)
def test_mistakes_of_the_profile_are_told(text: str, said: str) -> None:
    with pytest.raises(HomeostatError) as refused:
        read_profile(text, toy_system())
    assert said in str(refused.value)
    assert isinstance(refused.value, ProfileInvalid) or "profile" in str(refused.value)


def test_the_profile_says_how_long() -> None:
    found = read_profile("[log]\nkeep = '7d'\nkeep_bytes = 1_000", toy_system())
    assert found.log == hs.LogKeep(keep="7d", keep_bytes=1_000)
    assert read_profile("", toy_system()).log is None


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from homeostat.ingest.sqlite_log import SqliteLog

log, delay = SqliteLog(Path(sys.argv[1])), float(sys.argv[2])
def kill():
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=kill, daemon=True).start()
while True:
    end = log.end("sales").next_offset
    log.append("sales", [end] * 500, [str(end + n).encode() * 400 for n in range(500)])
    print(end + 500, flush=True)
    log.trim("sales", end - 2_000)
"""


def test_sigkill_while_it_is_trimmed_loses_nothing(tmp_path: Path) -> None:
    path, draw = tmp_path / "log.db", random.Random(7)
    SqliteLog(path).close()
    promised = 0
    for _ in range(12):
        run = subprocess.run(
            [sys.executable, "-c", KILLED, str(path), str(draw.uniform(0.02, 0.4))],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert run.returncode == -signal.SIGKILL, run.stderr
        promised = max([promised, *(int(line) for line in run.stdout.split())])
        log = SqliteLog(path)
        end: Any = log.end("sales")
        assert end.next_offset >= promised, "what was acknowledged is there"
        assert end.next_offset - end.first_offset >= min(2_500, end.next_offset)
        if end.next_offset:
            batch = log.read("sales", end.first_offset - 1, 10**6)
            numbers = range(end.first_offset, end.next_offset)
            assert batch.offsets.tolist() == list(numbers)
            assert all(
                p[:400].startswith(str(n).encode())
                for n, p in zip(numbers, batch.payloads, strict=True)
            )
        log.close()
    assert promised > 2_500
