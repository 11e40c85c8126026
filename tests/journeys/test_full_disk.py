"""A disk that fills up, or cannot be written to, is said clearly; nothing is lost or doubled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("full_disk.py")
OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")


def can_mount() -> bool:
    try:
        command = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


needs_mounts = pytest.mark.skipif(not can_mount(), reason="no mount namespaces on this machine")


def held(*words: str | Path) -> dict[str, Any]:
    prefix = () if "undisturbed" in words else OWN_MOUNTS
    command = [*prefix, sys.executable, str(SCRIPT), *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=180)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return held(tmp_path_factory.mktemp("undisturbed"), "undisturbed")


@needs_mounts
@pytest.mark.parametrize("room", [0, 500_000, 1_000_000, 1_700_000, 2_500_000])
def test_a_full_disk_loses_nothing(undisturbed: dict[str, Any], tmp_path: Path, room: int) -> None:
    """With more room another part finds the disk full: the log, the store, the dead letters."""
    found = held(tmp_path, "full", str(room))
    errors = found.pop("errors")
    assert found == undisturbed
    assert len(errors) == 4
    assert all(error.startswith("StorageFailed: ") and "MB are free" in error for error in errors)


@needs_mounts
def test_a_home_that_is_read_only_says_so_and_goes_on_later(
    undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    found = held(tmp_path, "readonly")
    [error] = found.pop("errors")
    assert error.startswith("StorageFailed: home ")
    assert "the file system is read-only" in error
    assert found == undisturbed


@needs_mounts
def test_days_are_sorted_and_moved_when_there_is_room_again(tmp_path: Path) -> None:
    found = held(tmp_path, "upkeep")
    errors = found.pop("errors")
    assert len(errors) == 6
    assert all(error.startswith("StorageFailed: lake table ") for error in errors)
    assert found == {"files": [34, 15], "sorted": found["sorted"], "cold": 5}
    assert found["sorted"] > 0.5
