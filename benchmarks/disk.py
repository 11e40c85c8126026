"""What a home takes on the disk, part by part, beside the same events as Parquet.

A month of daily loads is ingested as files, day by day; after each the loop does what it does in a
day: it folds, commits, compacts, and packs the log. Nothing is let go of.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

import homeostat as hs
from benchmarks.card_payments import SYSTEM, parts
from benchmarks.contest import Benchmark, Case, Work
from homeostat.core.clock import ManualClock

__all__ = ["BENCHMARK"]

DAYS = 30
DAY = 86_400_000_000
PASSES = 40
"""Passes of the loop after a load: each does a bounded piece of the upkeep."""

PARTS = {"log_mb": ("log.db",), "lake_mb": ("lake",), "store_mb": ("online",)}


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """3 M events of 100,000 cards, or 60,000 of 1,000."""
    events, cards = (60_000, 1_000) if small else (3_000_000, 100_000)
    given = {"events": events, "cards": cards}
    return [Case(f"{events:,} events, {cards:,} cards", folder / f"disk-{events}", given)]


def prepare(case: Case) -> None:
    """Write a Parquet file of each day."""
    events = pl.concat(parts(case["events"], case["cards"])).sort("paid_at")
    size = events.height // DAYS
    for day in range(DAYS):
        events.slice(day * size, size).write_parquet(case.folder / f"{day:02}.parquet")


def home(case: Case) -> Work:
    """Load the days into a new home."""

    def work() -> dict[str, float]:
        folder, files = case.folder / "home", sorted(case.folder.glob("*.parquet"))
        first = pl.read_parquet(files[0])["paid_at"][0]
        clock = ManualClock(int(pl.Series([first]).dt.epoch("us")[0]))
        with hs.open(SYSTEM, folder, clock) as app:
            for file in files:
                last = int(pl.scan_parquet(file).select(pl.col("paid_at").max()).collect()
                           .to_series().dt.epoch("us")[0])  # fmt: skip
                clock.advance_to(max(clock.now(), last + 1))
                app.ingest("payments", file, history=True)
                clock.advance_to(clock.now() + app.timeline.every)
                for _ in range(PASSES):
                    app.live.tick()
        parquet = sum(file.stat().st_size for file in files)
        whole = _size(folder)
        held = {name: _size(*(folder / part for part in of)) for name, of in PARTS.items()}
        found = {"home_mb": whole, **held, "parquet_mb": parquet}
        return {"times": whole / parquet, **{name: size / 1e6 for name, size in found.items()}}

    return work


def _size(*places: Path) -> int:
    """Return what files take on the disk: a sparse one takes what is in it."""
    files = [f for place in places for f in ([place] if place.is_file() else place.rglob("*"))]
    return sum(file.stat().st_blocks * 512 for file in files if file.is_file())


BENCHMARK = Benchmark(
    name="disk",
    claim="What a home takes on the disk, beside the same events as Parquet",
    module=__name__,
    systems={"homeostat": "home"},
    cases=cases,
    prepare=prepare,
    measure="times",
    figures=("times", "home_mb", "log_mb", "lake_mb", "store_mb", "parquet_mb"),
    note=(
        "A month of daily loads, Parquet as Polars writes it (Zstandard). The log keeps all, "
        "and the lake all versions that its retention keeps."
    ),
)
