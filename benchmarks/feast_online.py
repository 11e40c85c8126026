"""Feast's online retrieval, contenders of `live_read`; imports nothing of ours."""

from __future__ import annotations

import atexit
import ctypes
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic, perf_counter_ns, sleep
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.contest import Case, Work

__all__ = ["redis", "sqlite"]

NAMES = [f"f{i}" for i in range(20)]
PATIENCE_S = 20.0


def sqlite(case: Case) -> Work:
    """get_online_features from the default online store."""
    path = case.folder / "feast" / "online.db"
    path.unlink(missing_ok=True)
    return _reads(case, {"type": "sqlite", "path": str(path)})


def redis(case: Case) -> Work | str:
    """get_online_features from a Redis of our own."""
    program = shutil.which("redis-server")
    if program is None:
        return "not run: no redis-server on the PATH"
    address = _started(program, case.folder / "feast")
    return _reads(case, {"type": "redis", "connection_string": address})


def _reads(case: Case, online: dict[str, Any]) -> Work:
    from benchmarks.feast_repository import repository

    random = np.random.default_rng(4)
    cards = np.append(np.arange(case["cards"]), -1)
    table = pd.DataFrame(random.normal(size=(len(cards), len(NAMES))), columns=NAMES)
    table.insert(0, "card", cards)
    table["_event_time"] = pd.Timestamp.now("UTC")
    source = case.folder / "feast" / "values.parquet"
    source.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(source)
    store = repository(case.folder / "feast", NAMES, source, online)
    store.write_to_online_store("profile", table)
    refs = [f"profile:{name}" for name in NAMES]
    per_call = case["entities"] or 1
    drawn = random.integers(0, case["cards"], (case["calls"], per_call))
    asked = [[{"card": int(card)} for card in row] for row in drawn]
    if not case["entities"]:
        asked = [[{"card": -1}]] * case["calls"]
    last = store.get_online_features(refs, asked[-1]).to_dict()
    wanted = table.set_index("card").loc[last["card"], NAMES].to_numpy()
    if not np.array_equal(np.column_stack([last[name] for name in NAMES]), wanted):
        raise RuntimeError("what was written is not what is read")

    def work() -> dict[str, float]:
        spent = []
        for rows in asked:
            began = perf_counter_ns()
            store.get_online_features(refs, rows)
            spent.append(perf_counter_ns() - began)
        half, most = np.percentile(spent[len(spent) // 10 :], [50, 99]) / 1000
        return {"p50_us": float(half), "p99_us": float(most)}

    return work


def _started(program: str, folder: Path) -> str:
    """Start a server on a free port of the loopback address, kept in memory; return its address.

    It ends with this process, also if that is killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(
        [program, *words, "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
        preexec_fn=_ends_with_parent if sys.platform == "linux" else None,
    )

    def stop() -> None:
        server.terminate()
        server.wait()

    atexit.register(stop)
    began = monotonic()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return f"127.0.0.1:{port}"
        except OSError:
            if server.poll() is not None or monotonic() - began > PATIENCE_S:
                raise
            sleep(0.02)


def _ends_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
