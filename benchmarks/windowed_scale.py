"""Claim: the cost of windowed features grows with the events, and memory does not.

The features of `windowed_offline` for 1 M, 10 M and 100 M events. Ours is given a bound of memory,
so that the largest case is out of core: the table is read once per round of entities.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from benchmarks.contest import Benchmark, Case, Work
from benchmarks.payments import SECOND, write_events, write_spine
from benchmarks.windowed_offline import COLUMNS, VIEW, c_sweep

__all__ = ["BENCHMARK"]

MEMORY = 500_000_000
"""Bytes of events that are held at once."""


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """Ten and a hundred times as many events; 100 k entities, at most 1 M spine rows."""
    sizes = (20_000, 200_000) if small else (1_000_000, 10_000_000, 100_000_000)
    return [
        Case(
            f"{events / 1e6:g} M events",
            folder / f"scale-{events}",
            {
                "events": events,
                "spine": min(events // 10, 1_000_000),
                "entities": sizes[0] // 10,
                "keys": "uniform",
                "tick": SECOND,
            },
        )
        for events in sizes
    ]


def prepare(case: Case) -> None:
    """Write the events and the spine."""
    write_events(case)
    write_spine(case)


def ours(case: Case) -> Work:
    """The kernel, in rounds of entities where the events are more than `MEMORY`."""
    import pyarrow.parquet  # noqa: F401 - imports are set-up, for every contender

    import homeostat.aggregate.kernel  # noqa: F401
    from homeostat.features.event_tables import ParquetEvents
    from homeostat.features.offline import point_in_time

    def work() -> pl.DataFrame:
        events = ParquetEvents(sorted((case.folder / "events").glob("*.parquet")))
        spine = pl.read_parquet(case.folder / "spine.parquet")
        found = point_in_time(VIEW, events, spine, memory=MEMORY)
        return pl.from_numpy(found, schema=COLUMNS)

    return work


def in_memory(case: Case) -> Work | str:
    """The C sweep, with all events in memory."""
    return c_sweep(case)


BENCHMARK = Benchmark(
    name="windowed_scale",
    claim="Point-in-time windows: what ten and a hundred times the events cost",
    module=__name__,
    systems={"homeostat, in bounded memory": "ours", "C, all events in memory": "in_memory"},
    cases=cases,
    prepare=prepare,
    note=(
        "100 k entities; spines of 100 k, 1 M and 1 M rows. The peak holds the interpreter, its "
        "libraries, four bytes per event, the events of one round of entities and the answers."
    ),
)
