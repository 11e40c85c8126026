"""A home goes with the log it was begun with."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeostat.core.clock import ManualClock, to_micros
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.runtime.app import App
from homeostat.runtime.same_log import OtherLog
from homeostat.testing.toy_kafka import RECEIVED, kafka_toy, toy_records


def test_another_log_is_refused(tmp_path: Path) -> None:
    clock, system = ManualClock(to_micros(RECEIVED)), kafka_toy()
    with App(system, tmp_path, clock, SqliteLog(tmp_path / "elsewhere.db")) as app:
        payloads = [record.value or b"" for record in toy_records(50)]
        app.live.ingest("taps", payloads)
        assert app.live.drain()["taps"].total == 50
    assert not (tmp_path / "log.db").exists()
    with pytest.raises(OtherLog, match="ends at offset 0, and the home has folded offset 49"):
        App(system, tmp_path, clock)
    with App(system, tmp_path, clock, SqliteLog(tmp_path / "elsewhere.db")) as app:
        assert app.live.drain()["taps"].total == 0
