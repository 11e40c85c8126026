"""A system is killed while it answers, trains and steps: what was answered is there, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import polars as pl
import pytest

import homeostat as hs
from homeostat.runtime.journal import Journal
from homeostat.runtime.prediction_writer import BOUND_S

SCRIPT = Path(__file__).parent / "steady_load.py"
SLOW = 8
"""A machine that runs other tests beside may be so many times slower than the stated bound."""


def steady_system() -> hs.System:
    """Return what the killed process runs."""
    spec = spec_from_file_location("steady_load", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["steady_load"] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    system: hs.System = module.steady_system()
    return system


def kill_one(home: Path, mode: str, after_s: float) -> float:
    """Run the load for so long after it has begun, kill it, and return the instant."""
    words = [sys.executable, str(SCRIPT), str(home), "600", "150", "150", mode, "30000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            time.sleep(after_s)
            at = time.time()
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        finally:
            process.kill()
    return at


def kill_and_look(home: Path, kills: int, seed: int, mode: str = "soon") -> None:
    draw, killed, trained = random.Random(seed), list[float](), 0
    for n in range(kills):
        killed.append(kill_one(home, mode, draw.uniform(0.3, 2.5) if n else 4.0))
        with closing(Journal(home / "meta.db")) as journal:
            decided = [d for d in journal.decisions() if d.model == "fraud"]
        trained += bool(decided) and decided[-1].action == "train"
    assert trained, "no training was cut off"
    lines = [line.split() for line in Path(f"{home}.answers").read_text().splitlines()]
    whole = (line for line in lines if len(line) == 3)
    answered = [(name, request, float(at)) for name, request, at in whole]
    assert len(answered) > 5 * kills
    bound = 0.0 if mode == "sync" else SLOW * BOUND_S
    due = {
        name: request
        for name, request, at in answered
        if at <= min(k for k in [*killed, 2e9] if k >= at) - bound
    }
    assert len(due) > 5 * kills
    with hs.open(steady_system(), home) as app:
        app.live.drain()
        app.live.flush()
        logged = pl.concat(app.home.predictions.frames("fraud", columns=["prediction_id"]))
        ids = logged["prediction_id"].to_list()
        assert len(ids) == len(set(ids)), "an answer is there twice"
        assert due.keys() - set(ids) == set(), "an answer is lost"
        events = app.home.lake.read("payments", ["payment_id"])["payment_id"].to_list()
        assert len(events) == len(set(events))
        assert set(due.values()) - set(events) == set(), "a request is no event"
        found = app.live.answered("fraud", list(due.values())[:100])
        assert {request: row["prediction_id"] for request, row in found.items()} == {
            request: name for name, request in list(due.items())[:100]
        }
        assert app.step() is not None
        app.home.predictions.flush("fraud")
        again = pl.concat(app.home.predictions.frames("fraud", columns=["prediction_id"]))
        assert sorted(again["prediction_id"]) == sorted(ids)


@pytest.mark.parametrize("mode", ["soon", "sync"])
def test_what_was_answered_before_a_kill_is_there_once(tmp_path: Path, mode: str) -> None:
    kill_and_look(tmp_path / "home", kills=3 if mode == "soon" else 2, seed=5, mode=mode)


@pytest.mark.soak
def test_a_hundred_kills_lose_no_answer(tmp_path: Path) -> None:
    kill_and_look(tmp_path / "home", kills=100, seed=11)
