"""The cost report counts what is on disk, and suggests only what its numbers show."""

from __future__ import annotations

import random
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.lake.report import measure
from homeostat.lake.tiered import TieredLake
from homeostat.runtime.app import App
from homeostat.runtime.lake_report import LakeReport, lake_report

START = datetime(2024, 5, 20, tzinfo=UTC)


def rows(first: int, count: int) -> pl.DataFrame:
    draw = random.Random(first)
    offsets = range(first, first + count)
    return pl.DataFrame(
        {
            "_offset": offsets,
            "_known_time": [START + timedelta(minutes=30 * n) for n in offsets],
            "same": [1.5] * count,
            "noise": ["".join(draw.choices(string.ascii_letters, k=40)) for _ in offsets],
        }
    ).with_columns(pl.col("_known_time").dt.cast_time_unit("us"))


@pytest.fixture
def lake(tmp_path: Path) -> TieredLake:
    lake = TieredLake(tmp_path / "hot", tmp_path / "cold")
    for first in range(0, 400, 40):
        lake.append("taps", rows(first, 40), "fold", first)
    return lake


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*.parquet"))


def test_every_number_is_what_duckdb_and_the_disk_say(lake: TieredLake) -> None:
    lake.compact("taps")
    lake.move("taps", START.date() + timedelta(days=3))
    assert lake.cold is not None
    found = measure(lake, "taps", {"hot": 100.0, "cold": 7.0})
    assert [tier.tier for tier in found] == ["cold", "hot"]
    for tier, place in zip(found, (lake.cold.folder, lake.folder), strict=True):
        side = lake.sides("taps")[0 if tier.tier == "cold" else 1]
        there = pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in side.files])
        assert (tier.rows, tier.days, tier.files) == (
            there.height, there["_known_time"].dt.date().n_unique(), len(side.files),
        )  # fmt: skip
        assert tier.bytes == sum(Path(file).stat().st_size for file in side.files)
        assert tier.bytes + tier.stale == on_disk(place / "taps")
        told = duckdb.execute(
            "SELECT path_in_schema, sum(total_compressed_size), sum(total_uncompressed_size) "
            f"FROM parquet_metadata({list(side.files)}) GROUP BY ALL"
        ).fetchall()
        assert {(c.name, c.compressed, c.plain) for c in tier.columns} == set(told)
        assert list(tier.columns) == sorted(tier.columns, key=lambda c: -c.compressed)
        each = {"hot": 100.0, "cold": 7.0}[tier.tier]
        assert tier.price == pytest.approx(on_disk(place / "taps") / 1e9 * each, rel=1e-12)
    assert found[0].stale == 0
    assert found[1].stale > 0
    assert sum(tier.rows for tier in found) == 400


def test_a_constant_is_small_and_noise_is_not(lake: TieredLake) -> None:
    [tier] = measure(lake, "taps", {})
    columns = {column.name: column for column in tier.columns}
    assert columns["noise"].compressed > 20 * 400
    assert columns["same"].compressed < columns["noise"].compressed
    assert columns["same"].codecs == ("ZSTD",)
    assert columns["same"].encodings == ("PLAIN", "RLE")  # floats get no dictionary
    assert tier.price is None
    assert measure(TieredLake(lake.folder / "empty"), "taps", {}) == ()


class Tap(hs.Event):
    """Somebody holds a card to a reader."""

    tap: str
    card: str
    note: str
    at: hs.Timestamp


def metro(folder: Path, hot: str | None, storage: hs.Storage, window: str | None = "1d") -> App:
    """Return a system that took in ten days, in twenty commits a day."""
    taps = hs.EventSource("taps", Tap, event_id="tap", event_time="at")
    counts = hs.count() if window is None else hs.count().over(window)
    view = hs.FeatureView("cards", hs.Entity("card", key="card"), taps, (counts,))
    system = hs.System("metro", sources=(taps,), views=(view,))
    if hot is not None:
        system = replace(system, policies=(hs.Retention(taps, hot=hot),))
    clock, draw = ManualClock(to_micros(START)), random.Random(4)
    app = hs.open(system, folder, clock, storage=storage)
    for commit in range(60):
        at = START + timedelta(hours=4 * commit)
        clock.advance_to(to_micros(at))
        notes = ["".join(draw.choices(string.ascii_letters, k=60)) for _ in range(50)]
        frame = pl.DataFrame({"note": notes}).with_columns(
            tap=pl.format("{}-{}", pl.lit(commit), pl.int_range(pl.len())), card=pl.lit("a"),
            at=pl.lit(at).dt.cast_time_unit("us"),
        )  # fmt: skip
        app.ingest("taps", frame)
        app.live.flush()
    clock.advance_to(to_micros(START + timedelta(days=11)))
    return app


def kinds(report: LakeReport) -> set[str]:
    return {one.kind for one in report.suggestions}


def told(app: App) -> LakeReport:
    return lake_report(app.system, app.home, app.clock.now(), worth=1)


def test_suggestions_follow_from_the_numbers(tmp_path: Path) -> None:
    prices = hs.Storage(prices={"hot": 100.0, "cold": 10.0}, currency="EUR")
    with metro(tmp_path, None, prices) as app:
        report = told(app)
        assert kinds(report) == {"compact", "heavy-text", "cold"}
        words = {one.kind: one.words for one in report.suggestions}
        assert "60 files in 10 days" in words["compact"]
        assert "the text 'note' takes " in words["heavy-text"]
        assert "9 of 10 days are older than anything live looks back to (2d)" in words["cold"]
        assert "EUR a month" in words["cold"]
        assert report.price == sum(tier.price or 0 for tier in report.tiers)
        assert app.lake_report().suggestions == (), "a table this small is not worth a word"
        app.home.lake.compact("taps")
        assert kinds(told(app)) == {"stale", "heavy-text", "cold"}


def test_nothing_is_suggested_that_is_declared_or_needed(tmp_path: Path) -> None:
    with metro(tmp_path / "a", "3d", hs.Storage()) as app:
        assert "cold" not in kinds(told(app))
        assert told(app).price is None
    with metro(tmp_path / "b", None, hs.Storage(), window=None) as app:
        assert "cold" not in kinds(told(app))
