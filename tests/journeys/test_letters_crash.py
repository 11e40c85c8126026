"""A replay of dead letters is killed at random instants: each joins once, with its own clocks."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.ingest.deadletters import DeadLetters
from homeostat.ingest.sqlite_log import SqliteLog

NOON = datetime(2024, 3, 4, 12, tzinfo=UTC)
LETTERS = 3_000
KILLS = 25

REPLAY = """
import os, signal, sys, threading, time
from pathlib import Path
from homeostat.ingest import deadletters
from homeostat.ingest.deadletters import DeadLetters
from homeostat.ingest.sqlite_log import SqliteLog

deadletters._BATCH = 3  # so that it lasts long enough to be killed
folder, at, delay = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
letters, log = DeadLetters(folder / "meta.db"), SqliteLog(folder / "log.db")
def kill():
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)
if delay >= 0:
    threading.Thread(target=kill, daemon=True).start()
letters.replay(log, at, "sales", unrepaired=True)
"""


class Sale(hs.Event):
    sale: str
    shop: str
    amount: float
    at: hs.Timestamp


SALES = hs.EventSource("sales", Sale, event_id="sale", event_time="at", lateness="7d")
VIEW = hs.FeatureView(
    "shops", hs.Entity("shop", key="shop"), SALES,
    (hs.count().over("1d"), hs.sum_("amount").over("1d")),
)  # fmt: skip
SYSTEM = hs.System("shop", sources=(SALES,), views=(VIEW,))


def sale(number: int, amount: object) -> bytes:
    at = NOON - timedelta(seconds=number)
    said = {"sale": f"s{number}", "shop": f"shop-{number % 5}", "amount": amount}
    return json.dumps({**said, "at": at.isoformat()}).encode()


def test_every_letter_joins_once_with_its_own_clocks(tmp_path: Path) -> None:
    noon = to_micros(NOON)
    clock = ManualClock(noon)
    with hs.open(SYSTEM, tmp_path, clock) as app:
        app.home.log.append("sales", [noon] * LETTERS, [sale(n, "3") for n in range(LETTERS)])
        assert app.live.drain()["sales"].rejected == LETTERS
        repaired = range(0, LETTERS, 2)
        for number in repaired:
            app.home.letters.repair("sales", number, sale(number, 3))
    draw = random.Random(5)
    replayed = killed = 0
    script = [sys.executable, "-c", REPLAY, str(tmp_path)]
    while killed < KILLS:
        delay = draw.uniform(0, 0.05)
        done = subprocess.run([*script, str(noon + 1), str(delay)], timeout=60)
        killed += done.returncode == -signal.SIGKILL
        if done.returncode == 0:
            break
    assert killed >= 5, "too fast to be killed: send more letters"
    assert subprocess.run([*script, str(noon + 1), "-1"], timeout=60).returncode == 0
    letters, log = DeadLetters(tmp_path / "meta.db"), SqliteLog(tmp_path / "log.db")
    assert log.end("sales").next_offset == 2 * LETTERS, "none was sent twice"
    states = {found.state for found in letters.list("sales", limit=-1)}
    assert states == {"replayed"}
    for found in letters.list("sales", limit=-1):
        if found.replayed_as is not None:
            again = log.read("sales", found.replayed_as - 1, 1).payloads[0]
            assert json.loads(again)["sale"] == f"s{found.letter.offset}"
            replayed += 1
    assert replayed
    letters.close()
    log.close()
    clock.advance_to(noon + 2)
    with hs.open(SYSTEM, tmp_path, clock) as app:
        counts = app.live.drain()["sales"]
        assert (counts.accepted, counts.duplicates) == (LETTERS // 2, 0)
        assert counts.rejected == LETTERS // 2  # those that nobody repaired: letters once more
        app.live.flush()
        events = app.home.lake.read("sales")
        assert sorted(events["sale"]) == sorted(f"s{n}" for n in repaired)
        assert set(events["_known_time"].dt.epoch("us")) == {noon + 1}
        times = dict(zip(events["sale"], events["_event_time"].dt.epoch("us"), strict=True))
        assert all(times[f"s{n}"] == noon - 1_000_000 * n for n in repaired)
        shops = app.read("shops", {"shop": [f"shop-{n}" for n in range(5)]})
        assert shops["count_1d"].sum() == LETTERS // 2
