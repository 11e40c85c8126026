"""Claim: point-in-time windowed features cost at most twice a C sweep, and a third of an engine.

Sum, count, mean and maximum over 1 h, 1 d and 7 d, from Parquet to a frame of 12 columns, one row
per row of the spine.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

import homeostat as hs
from benchmarks.contest import ROOT, Benchmark, Case, Work
from benchmarks.payments import (
    CARD,
    DAY,
    HOUR,
    SECOND,
    payments,
    write_events,
    write_spine,
)

__all__ = ["BENCHMARK"]

WINDOWS = (HOUR, DAY, 7 * DAY)
NAMES = ("1h", "1d", "7d")
KINDS = ("sum", "count", "mean", "max")
COLUMNS = [f"{kind}_{name}" for name in NAMES for kind in KINDS]

VIEW = hs.FeatureView(
    "spending",
    CARD,
    payments,
    tuple(
        made.over(name)
        for name in NAMES
        for made in (hs.sum_("amount"), hs.count(), hs.mean("amount"), hs.maximum("amount"))
    ),
)

WITH_VARIANCE = hs.FeatureView(
    "spending",
    CARD,
    payments,
    (*VIEW.aggregations, hs.variance("amount").over(*NAMES)),
    exclude_own=VIEW.exclude_own,
)


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """10 M events and 1 M spine rows, or a fiftieth of them."""
    events, spine, few = (200_000, 20_000, 1_000) if small else (10_000_000, 1_000_000, 10_000)
    return [
        Case(
            f"{events / 1e6:g} M events, {entities // 1000} k {law} keys",
            folder / f"windowed-{events}-{entities}-{law}",
            {
                "events": events,
                "spine": spine,
                "entities": entities,
                "keys": law,
                "tick": SECOND,
            },
        )
        for entities in (few, few * 10)
        for law in ("uniform", "zipf")
    ]


def prepare(case: Case) -> None:
    """Write the events and the spine."""
    write_events(case)
    write_spine(case)


def ours(case: Case) -> Work:
    """The kernel: one sort, differences of exact prefix sums."""
    return _kernel(case, VIEW)


def with_variance(case: Case) -> Work:
    """The same with three variances, computed beside the columns that all are compared by."""
    return _kernel(case, WITH_VARIANCE)


def _kernel(case: Case, view: hs.FeatureView) -> Work:
    import pyarrow.parquet  # noqa: F401 - imports are set-up, for every contender

    import homeostat.aggregate.kernel  # noqa: F401
    from homeostat.features.event_tables import ParquetEvents
    from homeostat.features.offline import point_in_time

    def work() -> pl.DataFrame:
        events = ParquetEvents(sorted((case.folder / "events").glob("*.parquet")))
        spine = pl.read_parquet(case.folder / "spine.parquet")
        found = point_in_time(view, events, spine)[:, : len(COLUMNS)]
        return pl.from_numpy(found, schema=COLUMNS)

    return work


def compiled(build: Path) -> ctypes.CDLL | None:
    """Return sweep.c as a library, or None without a compiler."""
    compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None:
        return None
    build.mkdir(parents=True, exist_ok=True)
    target, source = build / "sweep.so", Path(__file__).with_name("sweep.c")
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        made = target.with_suffix(f".{os.getpid()}")
        options = ["-O3", "-march=native", "-shared", "-fPIC", "-std=c99", "-Wall", "-Werror"]
        subprocess.run([compiler, *options, str(source), "-o", str(made), "-lm"], check=True)
        made.rename(target)
    return ctypes.CDLL(str(target))


def c_sweep(case: Case) -> Work | str:
    """Two pointers in C on one thread; the Parquet files are read by Polars as for the others."""
    library = compiled(ROOT / "build" / "bench")
    if library is None:
        return "no C compiler (cc, gcc or clang) on this machine"

    def pointer(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    def work() -> pl.DataFrame:
        spine = pl.read_parquet(case.folder / "spine.parquet")
        events = pl.read_parquet(
            case.folder / "events/*.parquet", columns=["card", "_event_time", "amount"]
        )
        arrays = [
            events["card"].to_numpy(),
            events["_event_time"].to_physical().to_numpy(),
            events["amount"].to_numpy(),
            spine["card"].to_numpy(),
            spine["at"].to_physical().to_numpy(),
            np.array(WINDOWS, np.int64),
        ]
        out = np.empty((spine.height, len(COLUMNS)))
        long = ctypes.c_int64
        keys = 1 + max(int(arrays[0].max(initial=0)), int(arrays[3].max(initial=0)))
        failed = library.sweep(
            long(events.height), *map(pointer, arrays[:3]), long(spine.height),
            *map(pointer, arrays[3:5]), long(keys), long(len(WINDOWS)), pointer(arrays[5]),
            pointer(out),
        )  # fmt: skip
        if failed:
            raise RuntimeError(f"sweep.c returned {failed}")
        return pl.from_numpy(out, schema=COLUMNS)

    return work


EVENTS_SQL = """e as (
    select card as k, epoch_us(_event_time) as t, amount as x
    from read_parquet('{folder}/events/*.parquet')
), q as (
    select file_row_number as i, card as k, epoch_us("at") as t
    from read_parquet('{folder}/spine.parquet', file_row_number = true)
)"""

UNION_SQL = """u as (
    select k, t, x, null as i from e union all select k, t, null as x, i from q
)"""

FRAMES_SQL = ", ".join(
    f"w{n} as (partition by k order by t range between {w} preceding and 1 preceding)"
    for n, w in enumerate(WINDOWS)
)

RANGE_SQL = f"""with {EVENTS_SQL}, {UNION_SQL}, f as (
    select i, {
    ", ".join(
        f"sum(x) over w{n} as s{n}, count(x) over w{n} as n{n}, max(x) over w{n} as m{n}"
        for n in range(len(WINDOWS))
    )
}
    from u window {FRAMES_SQL} qualify i is not null
)
select {", ".join(f"s{n}, n{n}, s{n} / n{n}, m{n}" for n in range(len(WINDOWS)))}
from f order by i"""

ASOF_SQL = f"""with {EVENTS_SQL}, {UNION_SQL}, c as (
    select k, t, count(*) over w as n, sum(x) over w as s
    from e window w as (partition by k order by t)
), b as (
    select i, k, t, {len(WINDOWS)} as w from q
    {"".join(f" union all select i, k, t - {w}, {n} from q" for n, w in enumerate(WINDOWS))}
), a as (
    select b.i, b.w, coalesce(c.n, 0) as n, coalesce(c.s, 0) as s
    from b asof left join c on b.k = c.k and b.t > c.t
), p as (
    select i, {
    ", ".join(
        f"max(n) filter (w = {n}) as n{n}, max(s) filter (w = {n}) as s{n}"
        for n in range(len(WINDOWS) + 1)
    )
}
    from a group by i
), f as (
    select i, {", ".join(f"max(x) over w{n} as m{n}" for n in range(len(WINDOWS)))}
    from u window {FRAMES_SQL} qualify i is not null
)
select {
    ", ".join(
        f"case when n{len(WINDOWS)} > n{n} then s{len(WINDOWS)} - s{n} end, "
        f"n{len(WINDOWS)} - n{n}, "
        f"case when n{len(WINDOWS)} > n{n} then (s{len(WINDOWS)} - s{n}) / "
        f"(n{len(WINDOWS)} - n{n}) end, m{n}"
        for n in range(len(WINDOWS))
    )
}
from p join f using (i) order by i"""


def duckdb_asof(case: Case) -> Work:
    """Prefix sums by one stacked ASOF join; the maximum, which has no inverse, by frames."""
    return _duckdb(case, ASOF_SQL)


def duckdb_range(case: Case) -> Work:
    """Events and spine in one table, RANGE frames."""
    return _duckdb(case, RANGE_SQL)


def _duckdb(case: Case, sql: str) -> Work:
    import duckdb

    def work() -> pl.DataFrame:
        with duckdb.connect() as connection:
            connection.execute(f"set temp_directory = '{case.folder}/spill'")
            query = connection.sql(sql.format(folder=case.folder))
            found = pl.DataFrame(query.to_arrow_table())
        found.columns = COLUMNS
        return found.cast(pl.Float64).fill_null(np.nan)

    return work


def polars_asof(case: Case) -> Work:
    """Prefix sums by join_asof; the maximum, which has no inverse, by rolling."""

    def work() -> pl.DataFrame:
        events, spine = _polars_tables(case)
        running = events.sort("k", "t").with_columns(
            pl.int_range(1, pl.len() + 1).over("k").alias("n"),
            pl.col("x").cum_sum().over("k").alias("s"),
        )
        running = running.select("k", "t", "n", "s").sort("t")
        sides = {}
        for name, shift in (("end", 0), *zip(NAMES, WINDOWS, strict=True)):
            edge = spine.select("i", "k", t=pl.col("t") - shift).sort("t")
            joined = edge.join_asof(
                running, on="t", by="k", allow_exact_matches=False, check_sortedness=False
            )
            sides[name] = joined.sort("i").select(pl.col("n", "s").fill_null(0))
        found = _rolling(events, spine, sums=False)
        end = sides["end"]
        for name in NAMES:
            n, s = end["n"] - sides[name]["n"], end["s"] - sides[name]["s"]
            some = pl.when(n > 0)
            found = found.with_columns(
                some.then(s).alias(f"sum_{name}"),
                n.alias(f"count_{name}"),
                some.then(s / n).alias(f"mean_{name}"),
            )
        return found.select(pl.col(COLUMNS).cast(pl.Float64).fill_null(np.nan))

    return work


def polars_rolling(case: Case) -> Work:
    """Events and spine in one table, rolling by time over each key."""

    def work() -> pl.DataFrame:
        found = _rolling(*_polars_tables(case), sums=True)
        for name in NAMES:
            count, some = pl.col(f"count_{name}"), pl.when(pl.col(f"count_{name}") > 0)
            found = found.with_columns(
                some.then(pl.col(f"sum_{name}")).alias(f"sum_{name}"),
                some.then(pl.col(f"sum_{name}") / count).alias(f"mean_{name}"),
            )
        return found.select(pl.col(COLUMNS).cast(pl.Float64).fill_null(np.nan))

    return work


def _polars_tables(case: Case) -> tuple[pl.DataFrame, pl.DataFrame]:
    events = pl.read_parquet(
        case.folder / "events/*.parquet", columns=["card", "_event_time", "amount"]
    ).select(k="card", t=pl.col("_event_time").to_physical(), x="amount")
    spine = pl.read_parquet(case.folder / "spine.parquet").with_row_index("i")
    return events, spine.select("i", k="card", t=pl.col("at").to_physical())


def _rolling(events: pl.DataFrame, spine: pl.DataFrame, *, sums: bool) -> pl.DataFrame:
    """Return the windows' maxima, and with `sums` their sums and counts, by the spine's rows."""
    both = pl.concat([events, spine], how="diagonal").sort("k", "t")
    made = []
    for name, window in zip(NAMES, WINDOWS, strict=True):
        size = f"{window}i"
        x, one = pl.col("x"), pl.col("x").is_not_null().cast(pl.Int64)
        made.append(x.rolling_max_by("t", size, closed="left").over("k").alias(f"max_{name}"))
        if sums:
            made += [
                x.rolling_sum_by("t", size, closed="left").over("k").alias(f"sum_{name}"),
                one.rolling_sum_by("t", size, closed="left").over("k").alias(f"count_{name}"),
            ]
    return both.select("i", *made).drop_nulls("i").sort("i")


BENCHMARK = Benchmark(
    name="windowed_offline",
    claim="Point-in-time windowed features: sum, count, mean, max over 1 h, 1 d, 7 d",
    module=__name__,
    systems={
        "homeostat": "ours",
        "homeostat, with three variances": "with_variance",
        "C, two pointers, one thread": "c_sweep",
        "DuckDB, stacked ASOF, frames for max": "duckdb_asof",
        "DuckDB, RANGE frames": "duckdb_range",
        "Polars, join_asof, rolling for max": "polars_asof",
        "Polars, rolling": "polars_rolling",
    },
    cases=cases,
    prepare=prepare,
    note=(
        "From Parquet to a frame; 1 M spine rows in no order. Ours sums exactly (every sum is the "
        "correctly rounded one, in training and serving alike) and reads two clocks and the order "
        "of ties; the others read one clock and round at every step."
    ),
)
