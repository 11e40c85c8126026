"""A replay that is killed at any instant and run again ends like one that was left alone."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Digest = dict[str, str]


def run(home: Path, kill_after_s: float | None = None) -> Digest | None:
    """Replay the toy in `home`; None if the process was killed before it was done."""
    command = [sys.executable, "-m", "homeostat.testing.toy_replay", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        code = process.wait()
    assert code in (0, -signal.SIGKILL)
    found: Digest | None = json.loads(rest) if code == 0 else None
    return found


def kill_and_compare(folder: Path, kills: int, seed: int) -> int:
    """Kill `kills` times, each later in the work than the time before, and compare the ends."""
    began = time.monotonic()
    undisturbed = run(folder / "undisturbed")
    lasted = time.monotonic() - began
    draw = random.Random(seed)
    struck = 0
    for _ in range(kills):
        struck += run(folder / "killed", draw.uniform(0, lasted)) is None
    assert run(folder / "killed") == undisturbed
    return struck


def test_a_killed_replay_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    assert kill_and_compare(tmp_path, kills=4, seed=20130501) > 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_many_kills(tmp_path: Path, seed: int) -> None:
    assert kill_and_compare(tmp_path, kills=20, seed=seed) > 0


def test_two_replays_are_the_same(tmp_path: Path, replayed: Callable[[Path], Digest]) -> None:
    assert replayed(tmp_path / "one") == replayed(tmp_path / "two")


def test_running_a_finished_replay_again_changes_nothing(
    tmp_path: Path, replayed: Callable[[Path], Digest]
) -> None:
    assert replayed(tmp_path) == replayed(tmp_path)
