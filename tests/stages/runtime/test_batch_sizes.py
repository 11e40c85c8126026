"""A batch that writes much makes the next one smaller; what is folded is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.runtime import worker
from homeostat.testing.toy import toy_events, toy_system


def folded(folder: Path) -> str:
    payments = toy_events()["payments"].drop("known_at")
    clock = ManualClock(int(payments["asked_at"].dt.epoch("us").to_numpy().max()) + 1)
    with hs.open(toy_system(), folder, clock) as app:
        app.ingest("payments", payments, history=True)
        app.ingest("payments", payments, history=True)  # duplicates: nothing is written
        cards = payments["card"].unique().sort().to_list()
        return repr(app.read("cards", {"card": cards}).rows())


def test_batches_adapt_to_what_they_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = folded(tmp_path / "whole")
    asked: list[int] = []
    read = SqliteLog.read

    def noted(log: SqliteLog, source: str, after: int, limit: int, *rest: int | None) -> object:
        if source == "payments" and 1 < limit <= 400:  # the fold's own reads
            asked.append(limit)
        return read(log, source, after, limit, *rest)

    monkeypatch.setattr(SqliteLog, "read", noted)
    monkeypatch.setattr(worker, "CHUNK", 400)
    monkeypatch.setattr(worker, "FEWEST", 30)
    monkeypatch.setattr(worker, "WRITTEN_BYTES", 60_000)
    assert folded(tmp_path / "adapted") == whole
    assert asked[0] == 400
    assert 30 <= min(asked) < 200
    assert asked[-1] == 400
