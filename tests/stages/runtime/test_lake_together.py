"""Cold days, sorted days and a vacuum together change no answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.errors import HomeostatError
from homeostat.lake.inventory import SORTED
from homeostat.lake.vacuum import LakeVersionGone
from homeostat.runtime.app import App
from homeostat.runtime.lifecycle import Lifecycle
from homeostat.runtime.upkeep import compact_all, referenced_versions, vacuum_all
from homeostat.testing.toy import TOY_START, toy_events, toy_system

TABLES = ("payments", "verdicts")


def fed(app: App, clock: ManualClock, first: float, last: float) -> None:
    """Let the events between two days in, in twelve commits, and time pass."""
    part = (last - first) / 12
    for begin in (first + n * part for n in range(12)):
        since, until = (TOY_START + timedelta(days=d) for d in (begin, begin + part))
        for source, frame in toy_events(days=8).items():
            here = frame.filter(pl.col("known_at") >= since, pl.col("known_at") < until)
            app.ingest(source, here, known_time="known_at")
        clock.advance_to(to_micros(until))
        app.live.drain()
        app.live.flush()


def test_cold_days_sorted_days_and_a_vacuum_change_no_answer(tmp_path: Path) -> None:
    system = toy_system()
    aged = replace(system, policies=(hs.Retention(system.source("payments"), hot="3d"),))
    cold = hs.Storage(cold=str(tmp_path / "cold"))
    clocks = [ManualClock(to_micros(TOY_START)) for _ in range(2)]
    with (
        hs.open(system, tmp_path / "plain", clocks[0]) as plain,
        hs.open(aged, tmp_path / "aged", clocks[1], storage=cold) as app,
    ):
        for each, clock in zip((plain, app), clocks, strict=True):
            fed(each, clock, 0, 4.5)
        dict(compact_all(app.home.lake, TABLES))  # in the midst of a day: its files are joined
        assert app.home.lake.status("payments").files == 5
        for each in (plain, app):
            each.train("fraud")
        model, twin = referenced_versions(app.home), referenced_versions(plain.home)
        for each, clock in zip((plain, app), clocks, strict=True):
            fed(each, clock, 4.5, 8)
        dict(compact_all(app.home.lake, TABLES))
        sorted_until = app.home.lake.version("payments")
        lifecycle = Lifecycle(aged, app.home)
        for planned in lifecycle.plan(app.clock.now()):
            lifecycle.carry_out(planned)
        deleted = [one for *_, one in vacuum_all(app.home, TABLES, hours=0, dry=False)]
        assert all(one.files for one in deleted)
        lifecycle.sweep(0)

        lake, other = app.home.lake, plain.home.lake
        assert len(lake.days("payments", "cold")) == 5
        hot = [file for file in lake.files("payments") if "/aged/" in file]
        assert [SORTED in file for file in hot] == [True, True, False]
        assert lake.read("payments").equals(other.read("payments"))
        status, whole = lake.status("payments"), other.status("payments")
        assert (status.rows, status.days) == (whole.rows, whole.days)
        assert app.training_set("fraud").equals(plain.training_set("fraud"))
        spine = pl.DataFrame({"card": [f"card-{n}" for n in range(0, 40, 7)]}).with_columns(
            at=TOY_START + timedelta(days=7, hours=1)
        )
        assert app.features(["cards"], spine).equals(plain.features(["cards"], spine))
        for sql in (
            "SELECT * FROM payments ORDER BY _offset",
            "SELECT * FROM payments_known_at(TIMESTAMPTZ '2024-01-06') ORDER BY _offset",
            "SELECT _day, count(*) FROM verdicts JOIN payments USING (_day) GROUP BY 1 ORDER BY 1",
        ):
            assert app.sql(sql).equals(plain.sql(sql))
        with hs.connect(aged, tmp_path / "aged") as beside:
            asked = beside.sql("SELECT count(*), max(_offset) FROM payments").fetchall()
            assert asked == [(whole.rows, other.read("payments")["_offset"].max())]

        for table in TABLES:
            for version, twins in zip(sorted(model[table]), sorted(twin[table]), strict=True):
                before = other.read(table, version=twins)
                assert 0 < before.height < other.status(table).rows
                assert lake.read(table, version=version).equals(before)
        with pytest.raises(LakeVersionGone, match=f"version {sorted_until - 1} is gone"):
            lake.read("payments", version=sorted_until - 1)


def test_a_connection_that_does_not_know_the_cold_place_says_so(tmp_path: Path) -> None:
    system, cold = toy_system(), hs.Storage(cold=str(tmp_path / "cold"))
    with hs.open(system, tmp_path / "home", ManualClock(to_micros(TOY_START))):
        pass
    with hs.connect(system, tmp_path / "home") as beside:
        beside.refresh()
        with hs.open(system, tmp_path / "home", storage=cold):
            with pytest.raises(HomeostatError, match=r"cold place since; .* connect again"):
                beside.refresh()
            with hs.connect(system, tmp_path / "home") as again:
                again.refresh()
