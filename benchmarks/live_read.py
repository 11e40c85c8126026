"""Claim: twenty windowed features of one entity are read in tens of microseconds, in process.

A read opens a snapshot of the LMDB store and computes every feature at the instant of the read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import polars as pl

import homeostat as hs
from benchmarks.contest import Benchmark, Case, Foreign, Work
from benchmarks.payments import CARD, DAY, END, SECOND, payments
from homeostat.adapters.lmdb import LmdbStore

__all__ = ["BENCHMARK"]

VIEW = hs.FeatureView(
    "spending",
    CARD,
    payments,
    tuple(
        made.over("1h", "6h", "1d", "7d")
        for made in (
            hs.count(), hs.sum_("amount"), hs.mean("amount"), hs.maximum("amount"),
            hs.minimum("amount"),
        )
    ),
)  # fmt: skip


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """One entity, a hundred in one call, and one with a very full window."""
    cards, hot, calls = (50, 2_000, 200) if small else (2_000, 200_000, 5_000)
    size = {"cards": cards, "each": 233, "hot": hot}
    store = folder / f"live-{cards}-{hot}"
    return [
        Case("one entity, 233 events in 7 d", store, {**size, "entities": 1, "calls": calls}),
        Case(
            f"one entity, {hot / 1000:g} k events in 7 d", store,
            {**size, "entities": 0, "calls": calls // 20},
        ),
        Case("100 entities in one call", store, {**size, "entities": 100, "calls": calls // 20}),
    ]  # fmt: skip


def prepare(case: Case) -> None:
    """Fold the events of all cards; card -1 is the hot one."""
    from homeostat.features.fold import ViewFold

    random = np.random.default_rng(3)
    card = np.concatenate(
        [np.repeat(np.arange(case["cards"]), case["each"]), np.full(case["hot"], -1)]
    )
    random.shuffle(card)
    n = len(card)
    at = np.sort(random.integers(END - 7 * DAY + SECOND, END, n))
    instants = pl.Series(at).cast(pl.Datetime("us", "UTC"))
    events = pl.DataFrame(
        {
            "card": card,
            "amount": np.round(random.lognormal(3.0, 1.2, n), 2),
            "_offset": np.arange(n),
            "_known_time": instants,
            "_event_time": instants,
            "_tie": random.integers(-(2**63), 2**63 - 1, n),
            "_too_late": np.zeros(n, np.bool_),
        }
    )
    fold, store = ViewFold(VIEW), LmdbStore(case.folder / "store", sync=False)
    with store.writer() as writer:
        fold.apply(writer, fold.prepare(events), 0, n)
    store.close()


def ours(case: Case) -> Work:
    """Read as serving does: a snapshot per call."""
    from homeostat.features.read import ViewReader

    reader = ViewReader(VIEW)
    store = LmdbStore(case.folder / "store", sync=False)
    asked = _asked(case)
    at = END

    def work() -> dict[str, float]:
        spent = []
        for keys in asked:
            began = perf_counter_ns()
            with store.reader() as snapshot:
                reader.read(snapshot, keys, at)
            spent.append(perf_counter_ns() - began)
        return _percentiles(spent)

    return work


def floor(case: Case) -> Work:
    """Fetch the same records, and compute nothing."""
    from homeostat.features.keys import KeyCodec

    codec = KeyCodec(VIEW)
    store = LmdbStore(case.folder / "store", sync=False)
    asked = [[codec.key(key) or b"" for key in keys] for keys in _asked(case)]

    def work() -> dict[str, float]:
        spent = []
        for keys in asked:
            began = perf_counter_ns()
            with store.reader() as snapshot:
                for key in keys:
                    snapshot.get(key)
            spent.append(perf_counter_ns() - began)
        return _percentiles(spent)

    return work


def _asked(case: Case) -> list[list[tuple[int]]]:
    random = np.random.default_rng(4)
    if not case["entities"]:
        return [[(-1,)]] * case["calls"]
    shape = (case["calls"], case["entities"])
    return [[(k,) for k in row] for row in random.integers(0, case["cards"], shape).tolist()]


def _percentiles(spent: list[int]) -> dict[str, float]:
    half, most = np.percentile(spent[len(spent) // 10 :], [50, 99]) / 1000
    return {"p50_us": float(half), "p99_us": float(most)}


BENCHMARK = Benchmark(
    name="live_read",
    claim="Live read: 20 windowed features (five aggregations over four windows), in process",
    module=__name__,
    systems={
        "homeostat": "ours",
        "LMDB get alone": "floor",
        "Feast, SQLite": Foreign("feast", "benchmarks.feast_online", "sqlite"),
        "Feast, Redis": Foreign("feast", "benchmarks.feast_online", "redis"),
    },
    cases=cases,
    prepare=prepare,
    measure="p50_us",
    figures=("p50_us", "p99_us"),
    note=(
        "Every read opens its own snapshot. The first tenth of the calls is not counted. Feast "
        "0.67 computes nothing here: twenty values per entity were written beforehand, and are "
        "read by get_online_features in process. Redis is Debian's package (`apt-get install "
        "redis-server`), started on the loopback address for the run; its own CPU is not counted."
    ),
)
