"""Sums and variances of windows of hostile magnitudes, in every execution, against fractions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from fractions import Fraction
from math import floor, isnan, sqrt, ulp
from random import Random
from statistics import pvariance
from typing import Any

import numpy as np
import polars as pl
import pytest

from homeostat.aggregate.arrays import Floats
from homeostat.core.ids import event_tie
from homeostat.declare.aggregations import (
    Aggregation,
    count,
    last,
    maximum,
    mean,
    standard_deviation,
    sum_,
    variance,
)
from homeostat.declare.expressions import col
from homeostat.declare.sources import Entity
from homeostat.declare.summaries import decayed_sum, last_n, quantile, top_values, trend
from homeostat.declare.views import FeatureView
from homeostat.features.fold import ViewFold
from homeostat.features.offline import point_in_time
from homeostat.features.read import ViewReader
from homeostat.testing.executions import small_records
from homeostat.testing.generators import FRAME, START, TICK, readings
from homeostat.testing.memory_store import MemoryStore

PLACE = Entity("place", "place")
WINDOWS = 1, 5, 17
MOMENTS = tuple(
    made.over(*(f"{10 * ticks}s" for ticks in WINDOWS))
    for column in ("amount", "level")
    for made in (sum_(column), mean(column), variance(column), standard_deviation(column))
)
"""Of a window of so many ticks, an event each; `level` is a whole number."""

Draw = Callable[[Random], float]


def magnitudes() -> list[Draw]:
    """Return ways to draw the values of one entity."""
    near = [
        lambda r, far=far, wide=wide: far + r.choice((0.0, wide * r.random()))
        for far in (0.1, 300.0, -1e7, 3e7, 6e7, 1.574669e9, 2.0**40, 2.0**49, -1e14)
        for wide in (0.0, 1e-6, 0.03, 1.0, 1e6)
    ]
    return [
        *near,
        lambda r: r.choice((-1, 1)) * 10.0 ** r.uniform(-14, 15.6),
        lambda r: r.choice((-1, 1)) * 10.0 ** r.uniform(-6, 0),
        lambda r: r.choice((6.5e7, 0.6225, 0.0, 1.14, 0.25, 1e-7)),
        lambda r: r.choice((2.0**51, -(2.0**51), 2.0**52 - 0.5, 1.0, 0.5)),
        lambda r: r.choice((5e15, -1e300, 1.0, 2.0, 3.0, 4.0, 4.0)),
        lambda r: r.choice((1e-20, 5e-324, -1e-30, 2.0**-75, 0.0)),
    ]


def histories(places: int, ticks: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield an event of every place at each tick, the places in turn."""
    draws = magnitudes()
    chance = [Random(f"{seed}/{place}") for place in range(places)]
    for tick in range(ticks):
        for place in range(places):
            value = draws[(place + seed) % len(draws)](chance[place])
            name, at = f"{tick}/{place}", START + tick * TICK
            yield {
                "id": name, "at": at, "place": str(place), "site": 1, "amount": value,
                "small": 1.0, "units": 1, "level": max(min(round(value), 2**63 - 1), -(2**63)),
                "flag": True, "_offset": tick * places + place, "_known_time": at,
                "_event_time": at, "_id": name, "_tie": event_tie(name), "_too_late": False,
            }  # fmt: skip


def frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=FRAME)


def spine(events: pl.DataFrame) -> pl.DataFrame:
    return events.select("place", at=pl.col("_known_time").dt.offset_by("1us"), id="id")


def live_rows(view: FeatureView, events: pl.DataFrame, places: int) -> Floats:
    """Fold tick by tick, and read every place after each."""
    fold, reader, found = ViewFold(view), ViewReader(view), []
    with MemoryStore().writer() as writer:
        for begin in range(0, events.height, places):
            batch = events[begin : begin + places]
            fold.apply(writer, fold.prepare(batch), 0, batch.height)
            at = int(batch["_known_time"].to_physical()[0]) + 1
            keys = [(place,) for place in batch["place"].to_list()]
            found.append(reader.read(writer, keys, at))
    return np.concatenate(found)


def wanted(values: Sequence[float | int]) -> tuple[Fraction, Fraction] | None:
    """Return the mean and variance of a window in fractions, None beyond the exact range."""
    unit = 2**10 if isinstance(values[0], float) else 1
    sizes = [floor(abs(Fraction(value)) * unit) for value in values]
    if sum(sizes) >= 2**62 or any(abs(value) >= 2**52 for value in values):
        return None
    exactly = [
        Fraction(round(Fraction(v) * 2**74), 2**74) if abs(v) < 2.0**-22 else Fraction(v)
        for v in values
    ]
    return sum(exactly) / Fraction(len(exactly)), pvariance(exactly)


def check_moments(places: int, ticks: int, seed: int, page: int = 0) -> None:
    rows = list(histories(places, ticks, seed))
    view, events = FeatureView("v", PLACE, readings, MOMENTS, exclude_own=False), frame(rows)
    asked = spine(events)
    training = point_in_time(view, events, asked)
    audit = point_in_time(view, events, asked, offsets=events["_offset"].to_numpy())
    with small_records(page) if page else nullcontext():
        live = live_rows(view, events, places)
    assert live.tobytes() == training.tobytes() == audit.tobytes()
    table, widths = training.tolist(), len(WINDOWS)
    for at, row in enumerate(table):
        for field, begin in (("amount", 0), ("level", 4 * widths)):
            history = [rows[place][field] for place in range(at % places, at + 1, places)]
            for number, window in enumerate(WINDOWS):
                inside = history[-window:]
                total, middle, spread, deviation = row[begin + number : begin + 12 : widths]
                right = wanted(inside)
                if right is None:
                    assert all(isnan(found) for found in (total, middle, spread, deviation))
                    continue
                assert total == float(right[0] * len(inside))
                assert middle == total / len(inside)
                assert spread >= 0
                assert abs(Fraction(spread) - right[1]) <= 2 * Fraction(ulp(float(right[1])))
                assert abs(deviation - sqrt(right[1])) <= 2 * ulp(sqrt(right[1]))
                if len(set(inside)) == 1:
                    assert spread == deviation == 0


@pytest.mark.parametrize(("seed", "page"), [(1, 0), (2, 2)])
def test_moments_are_those_of_fractions(seed: int, page: int) -> None:
    check_moments(len(magnitudes()), 7, seed, page)


@pytest.mark.soak
@pytest.mark.parametrize("page", [0, 4])
def test_moments_of_a_hundred_thousand_windows_are_those_of_fractions(page: int) -> None:
    check_moments(4 * len(magnitudes()), 90, 7, page)  # 6 windows each: 110,160


LARGE = col("amount") < 1e12
EVERYTHING: tuple[Aggregation, ...] = (
    *(made.over("50s", "170s") for made in (sum_("amount"), variance("amount"), mean("level"))),
    count().named("n").over("1h"), sum_("amount"), standard_deviation("level"),
    sum_("amount", LARGE).named("small"),
    maximum("amount").over("50s"), last("level"), decayed_sum("amount", "1m").over("170s"),
    decayed_sum("level", "32s"), trend(mean("amount")).over("50s"),
    trend(variance("level"), "ratio").named("t").over("50s"), quantile("amount", 0.5).over("170s"),
    last_n("amount", 2).over("50s"), top_values("amount", 2).over("170s"),
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_a_hostile_entity_changes_nothing_for_others(seed: int) -> None:
    places, chance = 12, Random(seed)
    hostile = chance.randrange(places)
    rows = list(histories(places, 12, 1))
    extreme = (1e300, -1e300, 5e15, 2.0**51, -(2.0**51), 2.0**52 - 0.5, 6e7, 5e-324)
    for row in rows:
        if row["place"] == str(hostile):
            row["amount"], row["level"] = chance.choice(extreme), chance.choice((2**63 - 1, 2**51))
    view = FeatureView("v", PLACE, readings, EVERYTHING, exclude_own=False)
    with_it, mine = frame(rows), np.array([row["place"] == str(hostile) for row in rows])
    without = with_it.filter(~mine)
    with small_records(2):
        live = live_rows(view, with_it, places)
        assert live[~mine].tobytes() == live_rows(view, without, places - 1).tobytes()
    training = point_in_time(view, with_it, spine(with_it))
    alone = point_in_time(view, without, spine(without))
    assert training[~mine].tobytes() == alone.tobytes() == live[~mine].tobytes()
    assert training.tobytes() == live.tobytes()
    counted = [spec.name for spec in view.features()].index("n_1h")
    assert (training[:, counted] == [1 + n // places for n in range(len(rows))]).all()
    assert np.isnan(training[mine]).any()
