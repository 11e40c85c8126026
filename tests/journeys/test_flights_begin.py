"""The demonstration's first days, as `make demo` runs them: the whole of it takes minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.integration
def test_the_first_days_end_in_a_report_without_skew(tmp_path: Path) -> None:
    home = tmp_path / "demo" / "home"
    command = [sys.executable, "-m", "examples.flights.demo", "--home", str(home)]
    ended = subprocess.run(
        [*command, "--until", "2013-05-10"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    said = json.loads((home.parent / "summary.json").read_text())
    assert said["skew_different"] == 0
    assert said["skew_compared"] > 0
