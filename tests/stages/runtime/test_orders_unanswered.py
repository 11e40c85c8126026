"""An order whose process ends, or never takes it up, is one message with advice that works."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from time import sleep
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from homeostat.runtime import cli_home
from homeostat.runtime.cli_home import Unanswered, ordered
from homeostat.runtime.lock import HomeBusy, HomeLock
from homeostat.runtime.orders import Orders

ACTIONS: tuple[Literal["train", "rollback", "apply"], ...] = ("train",)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("ends", [True])
def test_an_order_without_an_outcome_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Any, ends: bool
) -> None:
    monkeypatch.setattr(cli_home, "PATIENCE_S", 60.0 if ends else 0.0)
    lock = HomeLock(tmp_path)
    with pytest.raises(HomeBusy) as busy:
        HomeLock(tmp_path)

    Orders(tmp_path / "meta.db").close()

    def end() -> None:
        orders = Orders(tmp_path / "meta.db")
        while not orders.take():
            sleep(0.01)
        orders.close()
        lock.release()

    thread = Thread(target=end if ends else lambda: None)
    thread.start()
    here: Any = SimpleNamespace(folder=tmp_path)
    with pytest.raises(Unanswered) as told:
        ordered(here, action, "fraud", "why", busy.value)
    thread.join()
    lock.release()
    text = str(told.value)
    assert text.count("allowed: ") == 1
    assert "stop that one" not in text
    assert busy.value.owner in text
    assert ("start `homeostat run` again" in text) == ends
    assert ("is begun again" in text) == (ends and action == "train")
