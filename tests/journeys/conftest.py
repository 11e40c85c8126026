"""Homes to travel in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from homeostat.testing.toy_replay import replay_toy


@pytest.fixture
def replayed() -> Callable[[Path], dict[str, str]]:
    """Return the function that replays the toy system in a folder and gives its digest."""
    return replay_toy
