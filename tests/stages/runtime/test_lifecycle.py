"""Days leave as their policy says, never while they are needed, and none is lost on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.errors import DeclarationError, SystemInvalid
from homeostat.declare.lints import lints
from homeostat.declare.needs import needed_span
from homeostat.lake.lifecycle import Ages, leaving
from homeostat.runtime.app import App
from homeostat.runtime.lifecycle import Lifecycle
from homeostat.testing.toy import TOY_START, toy_events, toy_system

DAY = 86_400_000_000
FIRST = TOY_START.date()


def aged(keep: str | None, hot: str | None) -> hs.System:
    """Return the toy with a policy on its payments."""
    system = toy_system()
    return replace(system, policies=(hs.Retention(system.source("payments"), keep, hot),))


def lived(folder: Path, system: hs.System, days: int = 8, cold: bool = True) -> App:
    clock = ManualClock(to_micros(TOY_START))
    storage = hs.Storage(cold=str(folder / "cold")) if cold else hs.Storage()
    app = hs.open(system, folder / "home", clock, storage=storage)
    for source, frame in toy_events(days=days).items():
        app.ingest(source, frame, known_time="known_at")
    clock.advance_to(to_micros(TOY_START + timedelta(days=days, hours=-1)))
    app.live.drain()
    app.live.flush()
    return app


def on(*numbers: int) -> tuple[date, ...]:
    return tuple(FIRST + timedelta(days=n) for n in numbers)


days_st = st.sets(st.integers(0, 30)).map(lambda found: [FIRST + timedelta(n) for n in found])
ages_st = st.one_of(st.none(), st.integers(0, 40 * DAY))


@given(days_st, days_st, ages_st, ages_st, ages_st, st.integers(0, 40 * DAY))
def test_what_leaves_is_old_and_never_the_newest(
    hot: list[date], cold: list[date], aged: int | None, keep: int | None, need: int | None,
    after: int,
) -> None:  # fmt: skip
    now = to_micros(TOY_START) + after
    found = leaving("taps", hot, cold, Ages(aged, keep, need), now)
    everything = {*hot, *cold}

    def youngest(day: date) -> int:
        """Return how old the last instant of a day is."""
        return now - (to_micros(TOY_START) + ((day - FIRST).days + 1) * DAY - 1)

    for day in everything:
        old = [age is not None and youngest(day) > age for age in (aged, keep, need)]
        newest = day == max(everything)
        assert (day in found.delete) == (old[1] and old[2] and not newest)
        assert (day in found.held) == (old[1] and not old[2] and not newest)
        assert (day in found.move) == (
            old[0] and not newest and day in hot and day not in found.delete
        )


def test_what_features_and_labels_need() -> None:
    system = toy_system()
    assert needed_span(system, "payments").span == 25 * 3_600_000_000
    # Quality over 2 days, of labels final 6 hours after they were asked, a day of lateness.
    assert needed_span(system, "verdicts").span == 84 * 3_600_000_000
    whole = replace(system.views[0], aggregations=(hs.count(),))
    endless = hs.System("toy", sources=system.sources, views=(whole, system.views[1]))
    assert needed_span(endless, "payments").span is None


def test_a_retention_that_would_take_what_is_needed_is_a_warning() -> None:
    [found] = [lint for lint in lints(aged("1d", None)) if lint.rule == "retention-held"]
    assert "keeps 1d, and count_1d of view 'cards', with the lateness, needs 1d1h" in str(found)
    assert "retention-held" not in {lint.rule for lint in lints(aged("2d", None))}


def test_mistakes_of_policies() -> None:
    source = toy_system().source("payments")
    with pytest.raises(DeclarationError, match="neither keep nor hot"):
        hs.Retention(source)
    with pytest.raises(DeclarationError, match="deleted before they are cold"):
        hs.Retention(source, "3d", hot="3d")
    with pytest.raises(SystemInvalid, match="retention of source 'payments': declared twice"):
        replace(aged("9d", None), policies=(hs.Retention(source, "9d"), hs.Retention(source, "8d")))


def test_the_loop_moves_and_deletes_days(tmp_path: Path) -> None:
    with lived(tmp_path / "plain", toy_system()) as plain:
        plain.step()
        table, rows = plain.training_set("fraud"), plain.home.lake.read("payments")
    with lived(tmp_path / "aged", aged("6d", "2d")) as app:
        app.step()
        lake = app.home.lake
        assert lake.deleted_until("payments") == on(0)[0]
        assert lake.days("payments", "cold") == on(1, 2, 3, 4)
        assert lake.days("payments") == on(5, 6, 7)
        kept = rows.filter(pl.col("_known_time").dt.date() > on(0)[0])
        assert lake.read("payments").equals(kept)
        count = "SELECT count(*), count(DISTINCT payment_id) FROM payments"
        assert app.sql(count).row(0) == (kept.height, kept["payment_id"].n_unique())
        later = pl.col("at").dt.date() > on(2)[0]
        assert app.training_set("fraud").filter(later).equals(table.filter(later))
        spine = table.filter(later).select("at", card=pl.lit("card-3"))
        again = hs.Storage(cold=str(tmp_path / "plain" / "cold"))
        with hs.open(toy_system(), tmp_path / "plain" / "home", storage=again) as plain:
            assert app.features(["cards"], spine).equals(plain.features(["cards"], spine))
        keys = {"card": [f"card-{n}" for n in range(40)]}
        live = app.read("cards", keys)
        assert live["count_1d"].sum() > 0


def test_days_that_are_needed_are_held(tmp_path: Path) -> None:
    with lived(tmp_path, aged("1h", None)) as app:
        [planned] = Lifecycle(app.system, app.home).plan(app.clock.now())
        assert planned.leaving.held == on(6)
        assert planned.leaving.delete == on(0, 1, 2, 3, 4, 5)
        assert planned.held_by == "count_1d of view 'cards', with the lateness,"


def test_models_that_lose_their_data_are_named(tmp_path: Path) -> None:
    with lived(tmp_path, aged("4d", None)) as app:
        app.train("fraud")
        lifecycle = Lifecycle(app.system, app.home)
        [planned] = lifecycle.plan(app.clock.now())
        assert planned.leaving.delete == on(0, 1, 2)
        assert planned.referenced == ("fraud@1", "fraud_plain@1")
        lifecycle.carry_out(planned)
        [after] = lifecycle.plan(app.clock.now())
        assert (after.leaving.delete, after.referenced) == ((), ())


def test_without_a_cold_place_days_stay(tmp_path: Path) -> None:
    with lived(tmp_path, aged(None, "2d"), cold=False) as app:
        app.step()
        [planned] = Lifecycle(app.system, app.home).plan(app.clock.now())
        assert planned.leaving.move == ()
        assert "no cold place is named" in planned.stays


def test_a_cold_place_that_is_down_stops_nothing(tmp_path: Path) -> None:
    with lived(tmp_path, aged(None, "2d")) as app:
        place = tmp_path / "cold"
        place.rmdir()
        place.write_text("a file, where a folder should be")
        app.step()
        assert "retention" in app.live.metrics.last_faults
        place.unlink()
        app.step()
        assert app.home.lake.days("payments", "cold") == on(0, 1, 2, 3, 4)


MOVER = """
import sys
from datetime import date
from pathlib import Path
from homeostat.lake.tiered import TieredLake
lake = TieredLake(Path(sys.argv[1]) / "hot", Path(sys.argv[1]) / "cold")
print("ready", flush=True)
sys.stdin.readline()
for day in range(1, 28):
    lake.move("taps", date(2024, 3, day))
    lake.delete("taps", date(2024, 2, day)) if day % 5 == 0 else None
    lake.sweep("taps", 0) if day % 4 == 0 else None
"""


def kill_movers(folder: Path, kills: int, seed: int) -> int:
    """Kill a process that moves days, again and again; return how often it was at work."""
    from homeostat.lake.tiered import TieredLake

    lake = TieredLake(folder / "hot", folder / "cold")
    offsets = pl.DataFrame({"_offset": range(40 * 48)}, schema={"_offset": pl.Int64()})
    later = pl.duration(minutes=30) * pl.col("_offset")
    start = pl.lit(TOY_START).dt.cast_time_unit("us")
    frame = offsets.with_columns(_known_time=start + later)
    for begin in range(0, frame.height, 100):
        lake.append("taps", frame[begin : begin + 100], "fold", begin)
    draw, struck = Random(seed), 0
    while struck < kills:
        child = subprocess.Popen(
            [sys.executable, "-c", MOVER, str(folder)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.stdin.write("go\n")
        child.stdin.flush()
        time.sleep(draw.uniform(0, 0.25))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        if child.returncode == 0:
            break
        struck += 1
        assert lake.read("taps").equals(frame)
        assert TieredLake(folder / "hot", folder / "cold").read("taps").equals(frame)
    return struck


def test_a_process_killed_while_it_moves_days_loses_and_doubles_none(tmp_path: Path) -> None:
    assert kill_movers(tmp_path, kills=6, seed=1) >= 3


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 20))
def test_so_it_is_whenever_it_is_killed(tmp_path: Path, seed: int) -> None:
    assert kill_movers(tmp_path, kills=12, seed=seed) >= 3
