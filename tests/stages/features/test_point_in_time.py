"""Training rows, by small examples; among them what other feature stores get wrong."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import polars as pl
import pytest

from homeostat.aggregate.block import LogDisordered
from homeostat.core.ids import event_tie
from homeostat.declare.aggregations import (
    Aggregation,
    count,
    last,
    mean,
    share,
    sum_,
    time_since_last,
)
from homeostat.declare.expressions import col
from homeostat.declare.sources import Entity
from homeostat.declare.views import FeatureView
from homeostat.features.offline import point_in_time
from homeostat.testing.generators import START, TICK, events_frame, readings

UTC = pl.Datetime("us", "UTC")


def reading(number: int, known: int, **fields: Any) -> dict[str, Any]:
    at = fields.pop("at", known)
    name = fields.pop("id", f"e{number}")
    row = {
        "id": name, "at": at, "place": "a", "site": 1, "amount": 1.0, "small": 1.0, "units": 1,
        "level": number, "flag": True, "_offset": number, "_known_time": known,
        "_event_time": at, "_id": name, "_tie": event_tie(name), "_too_late": False,
    }  # fmt: skip
    return {**row, **fields}


def values(
    rows: list[dict[str, Any]], at: list[int], *made: Aggregation, own: list[str] | None = None
) -> list[list[float]]:
    view = FeatureView("v", Entity("place", "place"), readings, made, exclude_own=own is not None)
    spine = pl.DataFrame(
        {"place": ["a"] * len(at), "at": at, "id": own or ["none"] * len(at)},
        schema={"place": pl.String, "at": UTC, "id": pl.String},
    )
    found: list[list[float]] = point_in_time(view, events_frame(rows), spine).tolist()
    return found


def test_a_window_holds_its_first_microsecond_and_not_its_last() -> None:
    rows = [reading(0, START)]
    at = [START, START + 1, START + 6 * TICK, START + 6 * TICK + 1]
    assert values(rows, at, count().over("1m")) == [[0.0], [1.0], [1.0], [0.0]]


def test_a_hop_rounds_the_tail_down() -> None:
    rows = [reading(0, START)]  # START is a multiple of 100 s and not of 7 minutes
    tail = START // (60 * 10**6) * 60 * 10**6
    at = [tail + 7 * 60 * 10**6 - 1, START + 6 * 60 * 10**6, START + 8 * 60 * 10**6]
    assert values(rows, at, count().over("5m", hop="1m"))[2] == [0.0]
    assert values(rows, [START + 5 * 60 * 10**6 + 1], count().over("5m", hop="1m")) == [[1.0]]
    assert values(rows, [START + 5 * 60 * 10**6 + 1], count().over("5m")) == [[0.0]]


def test_a_correction_made_after_the_training_time_is_not_served_to_it() -> None:
    # Feast serves the newest row with an event time before the spine's, whenever it was written.
    rows = [
        reading(0, START, level=10),
        reading(1, START + 60 * TICK, at=START + TICK, level=99),
    ]
    at = [START + 10 * TICK, START + 60 * TICK, START + 60 * TICK + 1]
    assert values(rows, at, last("level")) == [[10.0], [10.0], [99.0]]
    assert values(rows, at, sum_("level").over("1h")) == [[10.0], [10.0], [109.0]]


def test_late_data_is_not_lost() -> None:
    # Feast 4133: a row older than the latest one never reaches the online store.
    rows = [reading(0, START, at=START), reading(1, START + TICK, at=START - TICK)]
    assert values(rows, [START + 2 * TICK], count().over("1h")) == [[2.0]]


def test_every_spine_row_is_answered_whatever_repeats() -> None:
    # Feast drops spine rows with equal keys and times.
    rows = [reading(n, START + n * TICK) for n in range(5)]
    at = [START + 3 * TICK + 1] * 4 + [START + TICK + 1, START + 3 * TICK + 1]
    assert values(rows, at, count().over("1h")) == [[4.0]] * 4 + [[2.0], [4.0]]


def test_the_latest_of_tied_events_does_not_depend_on_their_arrival() -> None:
    # DuckDB takes the first physical row of a tie, Polars the last.
    names = ["x", "y", "z"]
    answers = set()
    for order in itertools.permutations(range(3)):
        rows = [
            reading(place, START + place, at=START, id=names[n], level=n)
            for place, n in enumerate(order)
        ]
        answers.add(values(rows, [START + TICK], last("level"))[0][0])
    assert answers == {2.0}  # "z" is the last of them


def test_an_outcome_known_in_the_same_instant_is_not_a_feature() -> None:
    rows = [reading(0, START)]
    assert values(rows, [START], count(), time_since_last().over("1h"))[0][0] == 0.0


def test_a_request_does_not_see_its_own_event() -> None:
    rows = [reading(n, START + n * TICK, id=f"flight{n}", level=n) for n in range(4)]
    at = [START + 4 * TICK] * 3
    made = (count().over("1h"), sum_("level").over("1h"), last("level").over("1h"))
    found = values(rows, at, *made, own=["flight3", "flight1", "another"])
    assert found == [[3.0, 3.0, 2.0], [3.0, 5.0, 3.0], [4.0, 6.0, 3.0]]


def test_missing_values_are_skipped_and_an_empty_window_is_missing() -> None:
    rows = [reading(0, START, amount=None), reading(1, START + TICK, amount=3.0)]
    at = [START + 1, START + TICK + 1]
    found = values(rows, at, mean("amount"), count(), count(where=col("amount") > 1).named("big"))
    assert found[1] == [3.0, 2.0, 1.0]
    assert np.isnan(found[0][0])
    assert found[0][1:] == [1.0, 0.0]


def test_a_share_skips_events_whose_condition_is_unknown() -> None:
    rows = [reading(n, START + n, amount=a) for n, a in enumerate((None, 5.0, 0.0, 9.0))]
    made = share(col("amount") > 1).named("big")
    assert values(rows, [START + TICK], made) == [[2 / 3]]


def test_events_in_another_order_than_the_log_are_refused() -> None:
    rows = [reading(0, START + TICK), reading(1, START)]
    with pytest.raises(LogDisordered, match="read the events from the lake again"):
        values(rows, [START], count())


def test_one_late_event_among_many_costs_no_accuracy() -> None:
    rows = [reading(n, START + n * TICK, level=1) for n in range(300)]
    rows.append(reading(300, START + 300 * TICK, at=START + TICK // 2, level=1000))
    at = [START + n * TICK + 1 for n in range(302)]
    found = values(rows, at, sum_("level").over("100h"))
    assert [row[0] for row in found[:300]] == [float(n + 1) for n in range(300)]
    assert [row[0] for row in found[300:]] == [1300.0, 1300.0]
