"""An order whose process ends, or never takes it up, is one message with advice that works."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from homeostat.runtime import cli_home
from homeostat.runtime.cli_home import Unanswered, ordered
from homeostat.runtime.lock import HomeBusy, HomeLock
from homeostat.runtime.orders import Orders

ACTIONS: tuple[Literal["train", "rollback", "apply"], ...] = ("train", "rollback", "apply")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("ends", [True, False])
def test_an_order_without_an_outcome_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Any, ends: bool
) -> None:
    monkeypatch.setattr(cli_home, "PATIENCE_S", 60.0 if ends else 0.0)
    lock = HomeLock(tmp_path)
    with pytest.raises(HomeBusy) as busy:
        HomeLock(tmp_path)

    def end(_: float) -> None:
        """Take the order, and end before it is done."""
        orders = Orders(tmp_path / "meta.db")
        orders.take()
        orders.close()
        lock.release()

    monkeypatch.setattr(cli_home, "sleep", end)
    here: Any = SimpleNamespace(folder=tmp_path)
    with pytest.raises(Unanswered) as told:
        ordered(here, action, "fraud", "why", busy.value)
    lock.release()
    text = str(told.value)
    assert text.count("allowed: ") == 1
    assert "stop that one" not in text
    assert busy.value.owner in text
    assert ("start `homeostat run` again" in text) == ends
    assert ("is begun again" in text) == (ends and action == "train")
