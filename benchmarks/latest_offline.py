"""Claim: latest values at a point in time are never slower than Polars join_asof, at least ten
times faster than Feast at a million rows of the spine, and none is lost.

Ten values per entity from Parquet to a frame, one row per row of the spine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

import homeostat as hs
from benchmarks.contest import Benchmark, Case, Foreign, Work
from benchmarks.payments import CARD, EVENT_COLUMNS, write_events, write_spine

__all__ = ["BENCHMARK"]

VALUES = [f"v{i}" for i in range(10)]
READ = ["card", *VALUES, *EVENT_COLUMNS[2:]]


class Profile(hs.Event):
    """A card's profile changes."""

    id: str
    at: hs.Timestamp
    card: int
    v0: float
    v1: float
    v2: float
    v3: float
    v4: float
    v5: float
    v6: float
    v7: float
    v8: float
    v9: float


VIEW = hs.FeatureView(
    "profile",
    CARD,
    hs.EventSource("profiles", Profile, event_id="id", event_time="at"),
    tuple(hs.last(name) for name in VALUES),
)


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """Feature rows x entities x spine rows."""
    sizes = (
        ((20_000, 500, 5_000), (20_000, 2_000, 20_000))
        if small
        else (
            (1_000_000, 10_000, 100_000),
            (1_000_000, 100_000, 1_000_000),
            (10_000_000, 100_000, 1_000_000),
        )
    )
    return [
        Case(
            f"{events / 1e6:g} M rows, {entities / 1000:g} k entities, {spine / 1000:g} k spine",
            folder / f"latest-{events}-{entities}-{spine}",
            {
                "events": events,
                "spine": spine,
                "entities": entities,
                "keys": "uniform",
                "tick": 1,
            },
        )
        for events, entities, spine in sizes
    ]


def prepare(case: Case) -> None:
    """Write the profiles and the spine."""
    write_events(case, len(VALUES))
    write_spine(case)


def ours(case: Case) -> Work:
    """The kernel."""
    import pyarrow.parquet  # noqa: F401 - imports are set-up, for every contender

    import homeostat.aggregate.kernel
    import homeostat.features.sweep  # noqa: F401
    from homeostat.features.event_tables import ParquetEvents
    from homeostat.features.offline import point_in_time

    def work() -> pl.DataFrame:
        events = ParquetEvents(sorted((case.folder / "events").glob("*.parquet")))
        spine = pl.read_parquet(case.folder / "spine.parquet")
        return pl.from_numpy(point_in_time(VIEW, events, spine), schema=VALUES)

    return work


def polars_asof(case: Case) -> Work:
    """One join_asof; the events are in the order of time already, so only the spine is sorted."""

    def work() -> pl.DataFrame:
        events = pl.read_parquet(
            case.folder / "events/*.parquet", columns=["card", "_event_time", *VALUES]
        )
        spine = pl.read_parquet(case.folder / "spine.parquet").with_row_index("i").sort("at")
        found = spine.join_asof(
            events.set_sorted("_event_time"), left_on="at", right_on="_event_time", by="card",
            allow_exact_matches=False, check_sortedness=False,
        )  # fmt: skip
        return found.sort("i").select(pl.col(VALUES).fill_null(np.nan))

    return work


def duckdb_asof(case: Case) -> Work:
    """One ASOF join."""
    import duckdb

    sql = f"""
        select {", ".join(VALUES)}
        from read_parquet('{case.folder}/spine.parquet', file_row_number = true) q
        asof left join read_parquet('{case.folder}/events/*.parquet') e
        on q.card = e.card and q."at" > e._event_time
        order by q.file_row_number"""

    def work() -> pl.DataFrame:
        with duckdb.connect() as connection:
            connection.execute(f"set temp_directory = '{case.folder}/spill'")
            found = pl.DataFrame(connection.sql(sql).to_arrow_table())
        return found.select(pl.col(VALUES).fill_null(np.nan))

    return work


BENCHMARK = Benchmark(
    name="latest_offline",
    claim="Latest values at a point in time: ten values of one entity",
    module=__name__,
    systems={
        "homeostat": "ours",
        "Polars, join_asof": "polars_asof",
        "DuckDB, ASOF": "duckdb_asof",
        "Feast, dask": Foreign("feast", "benchmarks.feast_offline", "dask"),
    },
    cases=cases,
    prepare=prepare,
    note=(
        "From Parquet to a frame. Where two events of one entity happen at the same instant, "
        "Polars takes the last row and DuckDB the first; ours takes the order of event ids, so "
        "that every run gives the same. The data here have no such ties. Feast 0.67 has its "
        "default offline store; a row of the spine is lost there if all events of its entity come "
        "later."
    ),
)
