"""A server is killed while clients push, and begun again: every event is in, once."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

import homeostat as hs
from homeostat.runtime.loading import load_system

PATIENCE_S = 120.0
CLIENTS, BATCHES, BATCH = 3, 40, 7
SYSTEM = """
import homeostat as hs


class Sale(hs.Event):
    sale: str
    shop: str
    amount: float
    at: hs.Timestamp


sales = hs.EventSource("sales", Sale, event_id="sale", event_time="at")
shops = hs.FeatureView(
    "shops", hs.Entity("shop", key="shop"), sales,
    (hs.count().over("7d"), hs.sum_("amount").over("7d")),
)
system = hs.System("shop", sources=(sales,), views=(shops,))
"""


@contextmanager
def serving(folder: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    words = ["run", "--port", str(port), "--json", "--system", "system.py", "--home", "home"]
    with subprocess.Popen(
        [sys.executable, "-c", "from homeostat.runtime.cli import main; main()", *words],
        stdout=subprocess.PIPE, text=True, cwd=folder,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        try:
            yield process, int(address.rpartition(":")[2])
        finally:
            process.kill()


def push(port: int, client: int) -> int:
    """Push all batches of one client, each again and again until it is answered."""
    at, sent = datetime.now(UTC).isoformat(), 0
    began = time.monotonic()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as web:
        for batch in range(BATCHES):
            rows = [
                {"sale": f"{client}-{batch}-{n}", "shop": f"shop-{n % 3}", "amount": n, "at": at}
                for n in range(BATCH)
            ]
            while True:
                assert time.monotonic() - began < PATIENCE_S
                sent += 1
                try:
                    answer = web.post("/events/sales", json=rows)
                except httpx.TransportError:
                    time.sleep(0.05)
                    continue
                assert answer.status_code == 202, answer.text
                break
            time.sleep(0.01)
    return sent


def kill_and_count(folder: Path, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    (folder / "system.py").write_text(SYSTEM)
    with ThreadPoolExecutor(CLIENTS) as pool:
        with serving(folder, 0) as (process, port):
            clients = [pool.submit(push, port, client) for client in range(CLIENTS)]
            time.sleep(draw.uniform(0.02, 0.3))
            process.send_signal(signal.SIGKILL)
        for _ in range(kills - 1):
            with serving(folder, port) as (process, _):
                time.sleep(draw.uniform(0.0, 0.2))
                process.send_signal(signal.SIGKILL)
        with serving(folder, port) as (process, _):
            tries = sum(client.result() for client in clients)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
    assert tries > CLIENTS * BATCHES, "no request was cut off: the kills came too late"
    expected = {
        f"{client}-{batch}-{n}"
        for client in range(CLIENTS) for batch in range(BATCHES) for n in range(BATCH)
    }  # fmt: skip
    with hs.open(load_system(folder / "system.py"), folder / "home") as app:
        app.live.drain()
        app.live.flush()
        kept = app.home.lake.read("sales")["sale"].to_list()
        assert (len(kept), set(kept)) == (len(expected), expected)
        assert not app.home.letters.counts()
        shops = app.read("shops", {"shop": ["shop-0", "shop-1", "shop-2"]})
    batches = CLIENTS * BATCHES
    assert shops["count_7d"].to_list() == [3 * batches, 2 * batches, 2 * batches]
    assert shops["amount_sum_7d"].to_list() == [9 * batches, 5 * batches, 7 * batches]


def test_events_pushed_at_a_server_that_is_killed_are_in_once(tmp_path: Path) -> None:
    kill_and_count(tmp_path, kills=3, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_events_pushed_at_a_server_that_is_killed_often(tmp_path: Path, seed: int) -> None:
    kill_and_count(tmp_path, kills=5, seed=seed)
