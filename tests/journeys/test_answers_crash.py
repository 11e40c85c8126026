"""A system is killed while it answers, trains and steps: what was answered is there, once.

And it says of its predictions what one would that was never disturbed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import polars as pl
import pytest

import homeostat as hs
from homeostat.deploy.state import RolloutState, replayed
from homeostat.runtime.app import App
from homeostat.runtime.journal import Journal
from homeostat.runtime.observe import Now
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


def state_of(home: Path) -> RolloutState:
    with closing(Journal(home / "meta.db")) as journal:
        return replayed(journal.decisions()).get("fraud", RolloutState())


def kill_one(
    home: Path, mode: str, after_s: float, history: int = 30_000, *, training: bool = False
) -> float:
    """Run the load for so long after it has begun, kill it, and return the instant.

    With no seconds it is killed when a model has begun to answer; or when a training has begun.
    """
    words = [sys.executable, str(SCRIPT), str(home), "600", "150", "150", mode, str(history)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            time.sleep(after_s or 3.0)
            while not after_s and state_of(home).champion is None:
                time.sleep(0.2)
            while training and state_of(home).stage != "training":
                time.sleep(0.05)
            at = time.time()
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        finally:
            process.kill()
    return at


def kill_and_look(home: Path, kills: int, seed: int, mode: str, first_s: float) -> None:
    """Kill the load so often, the first time in a training, and look for what was answered."""
    draw, killed, trained = random.Random(seed), list[float](), 0
    for n in range(kills):
        # Now and then there is time for steps, and for a training to begin.
        after_s = draw.uniform(0.3, 2.5) if n % 5 < 4 else draw.uniform(5, 12)
        killed.append(kill_one(home, mode, after_s if n else first_s, training=n == 0))
        trained += state_of(home).stage == "training"
    sys.stdout.write(f"{kills} kills, {trained} of them in a training\n")
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
    kill_and_look(tmp_path / "home", 3 if mode == "soon" else 2, 5, mode, first_s=3.0)


@pytest.mark.soak
def test_a_hundred_kills_lose_no_answer(tmp_path: Path) -> None:
    kill_and_look(tmp_path / "home", 100, 11, "soon", first_s=3.0)
    judge_killed_and_undisturbed(tmp_path / "home")


def test_evidence_after_kills_is_that_of_an_undisturbed_run(tmp_path: Path) -> None:
    home, draw = tmp_path / "home", random.Random(7)
    for after_s in (0.0, draw.uniform(1, 2), draw.uniform(1, 2)):
        kill_one(home, "soon", after_s, history=3_000)
    judge_killed_and_undisturbed(home)


def judge_killed_and_undisturbed(killed: Path) -> None:
    """Compare what a killed home says with one that has the same log and answers, from the start.

    That one folds the whole log at once, and its lake takes all answers over at once.
    """
    begun = killed.with_name("begun")
    left_out = shutil.ignore_patterns("lake", "online", "predictions.db*")
    shutil.copytree(killed, begun, ignore=left_out)
    with App(steady_system(), killed, finish=False) as app:
        app.live.drain()
        answers = logged(app)
        at = int(answers["at"].dt.epoch("us").to_numpy().max()) + 1
        app.live.flush()  # as a step does before it looks
        found = [judged(app, at)]
        app.live.flush_predictions()
        found.append(judged(app, at))
    with App(steady_system(), begun, finish=False) as app:
        app.live.drain()
        app.home.predictions.put("fraud", app.timeline.step_of(at), 0, answers)
        app.live.flush()
        assert logged(app).equals(answers)
        found.append(judged(app, at))
        app.live.flush_predictions()
        found.append(judged(app, at))
    assert {"drift/fraud/4s", "quality/fraud/auc/5m", "skew/fraud"} <= found[0].keys()
    for said in found[1:]:
        assert said == found[0]


def logged(app: App) -> pl.DataFrame:
    frames = app.home.predictions.frames("fraud")
    return pl.concat(frames, how="diagonal").sort("at", "prediction_id")


def judged(app: App, at: int) -> dict[str, str]:
    """Return what monitors find half a minute later, and what the guards of a rollout are given."""
    observer, model = app.live.loop.observer, app.system.model("fraud")
    state, later = app.state("fraud"), at + 30_000_000  # labels are final then
    now = Now(app.timeline.step_of(later), later, {}, at - 60_000_000)
    found = {f.key: repr(f) for f in observer.findings(model, state, now)}
    assert state.champion is not None
    package = app.live.loop.arms.package("fraud", state.champion)
    drift = next(m for m in app.system.monitors if isinstance(m, hs.Drift))
    short = Now(now.step, at, {})  # its window is not over: what is sketched until now
    drifted = observer._drift(replace(drift, window="4s"), package, short)
    found |= {f.key: repr(f) for f in drifted}
    rolling = replace(state, stage="canary", challenger=state.champion, share=0.3, since=at - 10**8)
    return found | {"guards": repr(observer.evidence(app.system.deployments[0], rolling, now))}
