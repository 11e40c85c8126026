"""`homeostat lake tier`: says what would leave, and lets it go."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from homeostat.runtime.cli import main

SYSTEM = """
import homeostat as hs

class Tap(hs.Event):
    tap: str
    card: str
    at: hs.Timestamp

taps = hs.EventSource("taps", Tap, event_id="tap", event_time="at")
cards = hs.FeatureView("cards", hs.Entity("card", key="card"), taps, (hs.count().over("2d"),))
kept = hs.Retention(taps, "{keep}", hot="3d")
system = hs.System("metro", sources=(taps,), views=(cards,), policies=(kept,))
"""


class Metro:
    """A home with a tap an hour over the last ten days."""

    def __init__(self, folder: Path, keep: str = "8d") -> None:
        self.folder = folder
        (folder / "system.py").write_text(SYSTEM.replace("{keep}", keep))
        (folder / "homeostat.toml").write_text(f"[lake]\ncold = '{folder / 'archive'}'\n")
        now = datetime.now(UTC).replace(microsecond=0)
        at = [now - timedelta(hours=240 - n) for n in range(240)]
        taps = {"tap": [f"t{n}" for n in range(240)], "card": ["a"] * 240, "at": at}
        pl.DataFrame(taps).write_parquet(folder / "taps.parquet")
        self.run("ingest", "taps", str(folder / "taps.parquet"))
        self.today = now.date()

    def run(self, *words: str) -> str:
        shared = ["--system", str(self.folder / "system.py"), "--home", str(self.folder / "home")]
        done = CliRunner().invoke(main, [*words, *shared], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture
def metro(tmp_path: Path) -> Metro:
    return Metro(tmp_path)


def rows_of(metro: Metro) -> list[list[int]]:
    answer = json.loads(
        metro.run("sql", "SELECT count(*), count(DISTINCT tap) FROM taps", "--json")
    )
    return [list(row.values()) for row in answer]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(metro: Metro) -> None:
    assert rows_of(metro) == [[240, 240]]
    for _ in range(2):
        [row] = json.loads(metro.run("lake", "tier", "--dry-run", "--json"))
        assert (len(row["move"]), len(row["delete"]), row["held"]) == (5, 2, [])
        assert row["move"][-1] == (metro.today - timedelta(days=4)).isoformat()
        assert row["bytes_freed"] == 0
    text = metro.run("lake", "tier", "--dry-run")
    assert "would move" in text
    assert "5: " in text
    assert rows_of(metro) == [[240, 240]]
    assert not (metro.folder / "archive" / "taps").exists()


def test_days_move_and_go(metro: Metro) -> None:
    [done] = json.loads(metro.run("lake", "tier", "--json"))
    assert (len(done["move"]), len(done["delete"])) == (5, 2)
    [after] = json.loads(metro.run("lake", "tier", "--dry-run", "--json"))
    assert (after["move"], after["delete"]) == ([], [])
    [[count, distinct]] = rows_of(metro)
    assert count == distinct
    assert 8 * 24 <= count < 240
    assert {path.name for path in (metro.folder / "archive" / "taps").glob("_day=*")} == {
        f"_day={day}" for day in done["move"]
    }


def test_what_is_needed_is_held_and_said(tmp_path: Path) -> None:
    metro = Metro(tmp_path, "4d")
    system = (tmp_path / "system.py").read_text().replace('over("2d")', 'over("6d")')
    (tmp_path / "system.py").write_text(system)
    metro.run("apply")
    text = metro.run("lake", "tier", "--dry-run")
    assert "days are held, for count_6d of view 'cards', with the lateness, needs them" in text


def test_without_a_policy_it_says_how_to_write_one(tmp_path: Path) -> None:
    metro = Metro(tmp_path)
    system = (tmp_path / "system.py").read_text().replace(", policies=(kept,)", "")
    (tmp_path / "system.py").write_text(system)
    metro.run("apply")
    assert "No retention policy is declared" in metro.run("lake", "tier")
    assert json.loads(metro.run("lake", "tier", "--json")) == []


def test_the_report_shows_tables_columns_and_prices(metro: Metro) -> None:
    with (metro.folder / "homeostat.toml").open("a") as profile:
        profile.write("currency = 'EUR'\nprices = {hot = 100, cold = 10}\n")
    metro.run("lake", "tier")
    report = json.loads(metro.run("lake", "report", "--json"))
    tiers = {table["tier"]: table for table in report["tables"]}
    assert tiers["cold"]["days"] == 5
    for tier, price in (("hot", 100), ("cold", 10)):
        stored = tiers[tier]["bytes"] + tiers[tier]["stale_bytes"]
        assert tiers[tier]["price_per_month"] == pytest.approx(stored / 1e9 * price)
        assert {column["column"] for column in tiers[tier]["columns"]} >= {"tap", "card", "at"}
    assert report["price_per_month"] == sum(one["price_per_month"] for one in tiers.values())
    text = metro.run("lake", "report")
    lines = text.splitlines()
    header = next(line for line in lines if "EUR/month" in line)
    assert [word for word in ("table", "tier", "rows", "days", "stale") if word not in header] == []
    assert "uncompressed" in text
    assert "All of it: " in text
