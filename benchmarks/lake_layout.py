"""Claim: a compacted lake is read for less, and for few entities for much less.

The features of `windowed_offline` from the same lake, as it was appended and compacted: for a spine
of all entities, of a hundredth of them, and of one; and in rounds of entities, where the events do
not fit the bound of memory. Events happen up to six hours before they are known.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.contest import Benchmark, Case, Work
from benchmarks.payments import HOUR, SECOND, write_events, write_spine
from benchmarks.windowed_offline import COLUMNS, VIEW

__all__ = ["BENCHMARK"]

BATCH = 50_000
"""Events of one append."""


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """10 M events of 100 k entities, or a fiftieth; one lake for all spines."""
    events, entities = (200_000, 2_000) if small else (10_000_000, 100_000)
    size = {"events": events, "spine": events // 10, "entities": entities, "keys": "uniform"}
    asked = {
        "all entities": {"every": 1},
        "all, events in 100 MB": {"every": 1, "memory": 10 * events},
        "every hundredth entity": {"every": 100},
        "a hundredth, of adjacent keys": {"below": entities // 100},
        "one entity": {"below": 1},
    }
    home = folder / f"layout-{events}"
    return [
        Case(name, home, {"tick": SECOND, **size, "memory": 0, **which})
        for name, which in asked.items()
    ]


def prepare(case: Case) -> None:
    """Write the lake twice: as it is appended, and compacted."""
    from homeostat.lake.tables import Lake

    write_events(case)
    write_spine(case)
    files = sorted((case.folder / "events").glob("*.parquet"))
    events = pl.concat([pl.read_parquet(file) for file in files])
    late = np.random.default_rng(9).integers(0, 6 * HOUR, events.height)
    happened = pl.col("_event_time") - pl.Series(late).cast(pl.Duration("us"))
    events = events.with_columns(happened.alias("_event_time"))
    lake = Lake(case.folder / "appended")
    for first in range(0, events.height, BATCH):
        lake.append("payments", events[first : first + BATCH], "fold", first)
    shutil.copytree(case.folder / "appended", case.folder / "compacted")
    Lake(case.folder / "compacted", keys={"payments": VIEW.entity.keys}).compact("payments")


def compacted(case: Case) -> Work:
    """Closed days are sorted by card and time."""
    return _features(case, "compacted")


def appended(case: Case) -> Work:
    """Two hundred files in the order of the log."""
    return _features(case, "appended")


def _features(case: Case, lake: str) -> Work:
    import pyarrow.parquet  # noqa: F401 - imports are set-up, for every contender

    import homeostat.aggregate.kernel  # noqa: F401
    from homeostat.features.offline import point_in_time
    from homeostat.lake.tables import Lake

    def work() -> pl.DataFrame:
        spine = pl.read_parquet(case.folder / "spine.parquet")
        every, below = case.size.get("every", 1), case.size.get("below", case["entities"])
        spine = spine.filter((pl.col("card") % every == 0) & (pl.col("card") < below))
        events = Lake(case.folder / lake).events("payments")
        found = point_in_time(VIEW, events, spine, memory=case["memory"] or None)
        return pl.from_numpy(found, schema=COLUMNS)

    return work


BENCHMARK = Benchmark(
    name="lake_layout",
    claim="Training rows from a lake as it was appended, and compacted",
    module=__name__,
    systems={"compacted": "compacted", "as appended": "appended"},
    cases=cases,
    prepare=prepare,
    note=(
        "10 M events of 30 days, up to six hours late, 100 k entities; a spine of 1 M rows, or "
        "those of it that ask about the entities named. Entities that are scattered over all keys "
        "leave no row group out: what is saved there is decoding alone."
    ),
)
