"""Homes to travel in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from homeostat.testing.toy_home import Commands, write_toy
from homeostat.testing.toy_replay import replay_toy


@pytest.fixture
def replayed() -> Callable[[Path], dict[str, str]]:
    """Return the function that replays the toy system in a folder and gives its digest."""
    return replay_toy


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """Return the commands of a home that has lived through the toy; do not change it."""
    commands = Commands(tmp_path_factory.mktemp("lived"))
    write_toy(commands.folder)
    commands.ingest()
    assert commands.replay().status == 0
    return commands


@pytest.fixture
def own(lived: Commands, tmp_path: Path) -> Commands:
    """Return the commands of a copy of that home, to change."""
    shutil.copytree(lived.folder, tmp_path, dirs_exist_ok=True)
    return Commands(tmp_path)


@pytest.fixture
def fresh(tmp_path: Path) -> Commands:
    """Return the commands of the toy's folder, without a home."""
    write_toy(tmp_path)
    return Commands(tmp_path)
