"""The demonstration, killed at twenty random instants, ends like one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from homeostat.runtime.home import Home
from homeostat.runtime.loading import load_system
from homeostat.testing.digest import digest

ROOT = Path(__file__).parents[2]
KILLS = 20
SPAN = os.environ.get("HOMEOSTAT_SOAK_UNTIL", "2013-09-15")


@contextmanager
def demonstration(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "examples.flights.demo", "--home", str(home), "--until", SPAN]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        yield process


def ends(home: Path) -> dict[str, str]:
    """Run what is left of the demonstration, and return the digest of its home."""
    with demonstration(home) as process:
        assert process.wait() == 0
    opened = Home(home, load_system(ROOT / "examples/flights/system.py"), sync=False)
    try:
        return digest(opened)
    finally:
        opened.close()


@pytest.mark.soak
def test_a_killed_demonstration_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    began = time.monotonic()
    undisturbed = ends(tmp_path / "undisturbed" / "home")
    lasted = time.monotonic() - began
    draw = random.Random(2013)
    killed = tmp_path / "killed" / "home"
    struck = 0
    for _ in range(KILLS):
        with demonstration(killed) as process:
            try:
                process.wait(draw.uniform(1.0, 2.5 * lasted / KILLS))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                struck += 1
    assert ends(killed) == undisturbed
    assert struck > KILLS / 2
