"""A process that is killed while it compacts or vacuums leaves the same rows to everybody."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from homeostat.lake.tables import Lake

KEYS = {"taps": ("card",)}
WORK = """
import sys
from pathlib import Path
from homeostat.lake.tables import Lake

lake = Lake(Path(sys.argv[1]), keys={"taps": ("card",)})
lake.version("taps")
print("ready", flush=True)
while lake.compact("taps", most=1).days:
    pass
lake.vacuum("taps", [3], hours=0)
print("done", flush=True)
"""
ROWS = 2_000


def taps(first: int, rows: int) -> pl.DataFrame:
    """Return events of 50 cards, 100 a day."""
    numbers = range(first, first + rows)
    known = [datetime(2013, 1, 1, tzinfo=UTC) + timedelta(minutes=14 * n) for n in numbers]
    return pl.DataFrame(
        {
            "card": [n * 7 % 50 for n in numbers],
            "_offset": list(numbers),
            "_known_time": known,
            "_event_time": known,
            "_tie": [n * 31 % 1000 for n in numbers],
        }
    )


@pytest.mark.parametrize("seed", range(2))
def test_a_kill_while_compacting_changes_no_row(tmp_path: Path, seed: int) -> None:
    lake, draw = Lake(tmp_path, keys=KEYS), random.Random(seed)
    for first in range(0, ROWS, 50):
        lake.append("taps", taps(first, 50), "fold", first)
        if lake.version("taps") == 3:
            old = lake.files("taps")
    wanted, kept = lake.read("taps"), lake.read("taps", version=3)
    killed = 0
    for _ in range(12):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(
            [sys.executable, "-c", WORK, str(tmp_path)],
            stdout=subprocess.PIPE, text=True, env=environment,
        ) as working:  # fmt: skip
            assert working.stdout is not None
            assert working.stdout.readline() == "ready\n"
            time.sleep(draw.random() * 0.15)
            working.kill()
            killed += working.stdout.read() == ""
        again = Lake(tmp_path, keys=KEYS)
        assert again.read("taps").equals(wanted)
        assert again.read("taps", version=3).equals(kept)
    assert killed, "some were killed at work"
    while lake.compact("taps", most=1).days:
        pass
    lake.vacuum("taps", [3], hours=0)
    held = {str(path) for path in (tmp_path / "taps").glob("*/*.parquet")}
    assert held == {*lake.files("taps"), *old}, "nothing else is left"
    assert lake.read("taps").equals(wanted)
