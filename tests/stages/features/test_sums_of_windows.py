"""Sums and means of float columns are those of `math.fsum`, to the bit, wherever they are read."""

from __future__ import annotations

from itertools import pairwise
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from homeostat.adapters.lmdb import LmdbStore
from homeostat.core.ids import event_ties
from homeostat.declare.aggregations import mean, sum_
from homeostat.declare.sources import Entity
from homeostat.declare.views import FeatureView
from homeostat.features.fold import ViewFold
from homeostat.features.offline import point_in_time
from homeostat.features.read import ViewReader
from homeostat.testing.generators import FRAME, START, readings

Matrix = npt.NDArray[np.float64]

SECOND = 1_000_000
WINDOWS = {"10s": 10, "1m": 60, "3m": 180, "10m": 600}
PLACES = 20
VIEW = FeatureView(
    "sums",
    Entity("site", "site"),
    readings,
    (sum_("amount").over(*WINDOWS), mean("amount").over(*WINDOWS)),
)


def amounts(random: np.random.Generator, n: int) -> Matrix:
    """Return values of either sign from 1e-6 to 1e12, zeros of either sign, and values that cancel
    one of the same entity shortly before."""
    values = random.uniform(1, 10, n) * 10.0 ** random.integers(-6, 12, n)
    values *= random.choice([-1.0, 1.0], n)
    kind = random.integers(0, 10, n)
    values[kind == 0] = -0.0
    values[kind == 1] = 0.0
    again = np.flatnonzero((kind >= 7) & (np.arange(n) >= 2 * PLACES))
    for place in again.tolist():
        values[place] = -values[place - PLACES * (1 + place % 2)]
    return values


def events(seed: int, n: int) -> pl.DataFrame:
    """Return n events of the sites in turn, about one per second and site."""
    random = np.random.default_rng(seed)
    known = START + np.cumsum(random.integers(1, 2 * SECOND // PLACES, n))
    ids = [str(number) for number in range(n)]
    columns = {name: [None] * n for name in FRAME}
    return pl.DataFrame(
        columns
        | {
            "id": ids, "at": known, "site": np.arange(n) % PLACES, "level": np.zeros(n, np.int64),
            "amount": amounts(random, n), "_offset": np.arange(n), "_known_time": known,
            "_event_time": known, "_id": ids, "_tie": event_ties(ids),
            "_too_late": np.zeros(n, np.bool_),
        },
        schema=FRAME,
    )  # fmt: skip


class Expected:
    """What `math.fsum` says of the windows of one history."""

    def __init__(self, frame: pl.DataFrame) -> None:
        times = frame["_event_time"].dt.epoch("us").to_numpy()
        values = frame["amount"].to_numpy()
        self._times = [times[site::PLACES] for site in range(PLACES)]
        self._values = [values[site::PLACES].tolist() for site in range(PLACES)]

    def row(self, site: int, at: int) -> list[float]:
        """The sums and the means of one site at one instant."""
        times = self._times[site]
        end = np.searchsorted(times, at)
        begins = [np.searchsorted(times, at - width * SECOND) for width in WINDOWS.values()]
        inside = [self._values[site][begin:end] for begin in begins]
        sums = [fsum(values) + 0.0 if values else np.nan for values in inside]
        means = [s / len(v) if v else np.nan for s, v in zip(sums, inside, strict=True)]
        return sums + means


def check(found: Any, wanted: list[list[float]]) -> int:
    """Compare bits; return how many sums were compared."""
    bits = [np.array(values, np.float64).view(np.int64) for values in (found, wanted)]
    unlike = np.argwhere(bits[0] != bits[1])
    assert not len(unlike), f"{len(unlike)} values differ, the first at {unlike[0]}"
    return bits[0].size // 2


def compare_training(seed: int, n: int, rows: int) -> int:
    frame = events(seed, n)
    random = np.random.default_rng(seed + 1)
    last = frame["_known_time"].dt.epoch("us").to_numpy()[-1]
    at = random.integers(START, int(last) + 60 * SECOND, rows)
    sites = random.integers(0, PLACES, rows)
    spine = pl.DataFrame({"site": sites, "at": at}, schema={"site": pl.Int64, "at": FRAME["at"]})
    expected = Expected(frame)
    wanted = [expected.row(site, t) for site, t in zip(sites.tolist(), at.tolist(), strict=True)]
    return check(point_in_time(VIEW, frame, spine), wanted)


def compare_live(seed: int, n: int, folder: Path, restarts: int) -> int:
    """Fold batch by batch into a store that is opened anew for each, and read every site."""
    frame = events(seed, n)
    known, expected = frame["_known_time"].dt.epoch("us").to_list(), Expected(frame)
    cuts, compared = np.linspace(0, n, restarts + 1).astype(int).tolist(), 0
    for begin, end in pairwise(cuts):
        store = LmdbStore(folder, map_size=2**26, sync=False)
        fold, reader = ViewFold(VIEW), ViewReader(VIEW)
        with store.writer() as writer:
            fold.apply(writer, fold.prepare(frame[begin:end]), 0, end - begin)
        at = known[end - 1] + 1
        with store.reader() as snapshot:
            found = reader.read(snapshot, [(site,) for site in range(PLACES)], at)
        store.close()
        compared += check(found, [expected.row(site, at) for site in range(PLACES)])
    return compared


def test_sums_of_training_rows_are_exact() -> None:
    assert compare_training(20130101, 20_000, 4_000) == 16_000


def test_sums_of_live_reads_are_exact_after_every_restart(tmp_path: Path) -> None:
    assert compare_live(20130101, 6_000, tmp_path, 50) == 4_000


@pytest.mark.soak
def test_sums_of_a_million_windows_are_exact(tmp_path: Path) -> None:
    compared = sum(compare_training(seed, 100_000, 50_000) for seed in range(5))
    for seed in range(4):
        compared += compare_live(seed, 30_000, tmp_path / str(seed), 200)
    assert compared >= 1_000_000
