"""One assembly of features for all, and an audit that finds what differs, and only that."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from homeostat.core.errors import HomeostatError
from homeostat.core.ids import event_tie
from homeostat.declare.aggregations import count, mean
from homeostat.declare.expressions import col
from homeostat.declare.models import Estimator, Label, Model, Requirements, Split
from homeostat.declare.schema import Event, Timestamp
from homeostat.declare.sources import Entity, EventSource
from homeostat.declare.system import System
from homeostat.declare.views import FeatureView, on_demand
from homeostat.features.assemble import FeaturePlan, FeatureShapeInvalid
from homeostat.features.audit import audit
from homeostat.features.requests import requests_of
from homeostat.features.table import features_of
from homeostat.testing.generators import START, TICK, events_frame, readings


class Ask(Event):
    id: str
    asked: Timestamp
    place: str
    weight: float | None
    size: int
    urgent: bool | None


asks = EventSource("asks", Ask, event_id="id", event_time="asked")
view = FeatureView(
    "recent", Entity("place", "place"), readings, (count().over("5m"), mean("amount").over("5m"))
)


@on_demand("weight", view["amount_mean_5m"])
def ratio(weight: Any, amount: Any) -> Any:
    return weight / amount


@on_demand(ratio, "size")
def scaled(share: Any, size: Any) -> Any:
    share *= size  # a function may use up its inputs
    return share


def model_of(*features: Any) -> Model:
    label = Label(
        "l", predicts=asks, outcome=readings, join_on="id", value=col("amount") > 1, delay="1h",
        when_absent=False,
    )  # fmt: skip
    return Model(
        "m", features=features, label=label, estimator=Estimator("x:Y"),
        split=Split(validation="1d", test="1d"),
        requirements=Requirements(false_positive_cost=1, false_negative_cost=1),
    )  # fmt: skip


model = model_of(*view.all(), scaled, "place", "urgent", ratio, "asked", "size")
system = System("s", sources=(readings, asks), views=(view,), models=(model,))
REQUEST: dict[str, Any] = {
    "weight": [3.0, None, 0.0], "size": [2, 3, 0], "urgent": [True, None, False],
    "place": ["a", "b", None], "asked": [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)] * 3,
}  # fmt: skip
VIEWS = {"recent": np.array([[1.0, 1.5], [2.0, 2.0], [0.0, 0.0]])}


def test_columns_stand_in_the_order_of_the_model() -> None:
    plan = FeaturePlan(system, model)
    assert plan.names[:4] == ("recent__count_5m", "recent__amount_mean_5m", "scaled", "place")
    assert plan.categorical == ("place",)
    assert plan.numeric == (0, 1, 2, 4, 5, 6, 7)
    found = plan.assemble(REQUEST, VIEWS)
    nan = float("nan")
    np.testing.assert_array_equal(
        found.matrix,
        [
            [1.0, 1.5, 4.0, nan, 1.0, 2.0, 1.0, 2.0],
            [2.0, 2.0, nan, nan, nan, nan, 1.0, 3.0],
            [0.0, 0.0, nan, nan, 0.0, nan, 1.0, 0.0],
        ],
    )
    assert found.categories == {"place": ["a", "b", None]}


def test_missing_has_one_bit_pattern() -> None:
    matrix = FeaturePlan(system, model).assemble(REQUEST, VIEWS).matrix
    missing = matrix[np.isnan(matrix)].view(np.int64)
    assert set(missing.tolist()) == set(np.array([np.nan]).view(np.int64).tolist())


def test_columns_and_lists_row_by_row_give_the_same_bits() -> None:
    plan = FeaturePlan(system, model)
    frame = {name: pl.Series(name, values) for name, values in REQUEST.items()}
    whole = plan.assemble(frame, VIEWS).matrix.view(np.int64)
    for row in range(3):
        single = {name: [values[row]] for name, values in REQUEST.items()}
        part = plan.assemble(single, {"recent": VIEWS["recent"][row : row + 1]})
        assert part.matrix.view(np.int64).tolist() == [whole[row].tolist()]


def test_an_on_demand_function_that_returns_the_wrong_shape_is_named() -> None:
    @on_demand("size")
    def summed(size: Any) -> Any:
        return size.sum()

    broken = model_of(summed)
    plan = FeaturePlan(System("s", sources=(readings, asks), models=(broken,)), broken)
    with pytest.raises(FeatureShapeInvalid, match=r"'summed'.*element by element"):
        plan.assemble({"size": [1, 2]}, {})


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(HomeostatError, match=r"columns of \[2, 3\] rows"):
        FeaturePlan(system, model).assemble({**REQUEST, "size": [1, 2]}, VIEWS)


def reading(number: int, lag: int) -> dict[str, Any]:
    known = START + number * TICK
    return {
        "id": f"e{number}", "at": known - lag, "place": "a", "site": 1, "amount": float(number),
        "small": 1.0, "units": 1, "level": 1, "flag": True, "_offset": number,
        "_known_time": known, "_event_time": known - lag, "_id": f"e{number}",
        "_tie": event_tie(f"e{number}"), "_too_late": False,
    }  # fmt: skip


EVENTS = events_frame([reading(n, lag=(n % 3) * TICK) for n in range(40)])


def logged(offsets: list[int], late: int = 0) -> pl.DataFrame:
    """Predictions asked one microsecond after the events of `offsets` (and `late` more)."""
    at = [START + (offset + late) * TICK + 1 for offset in offsets]
    rows = [
        {"id": f"r{n}", "asked": "2024-01-01T00:00:00Z", "place": "a", "weight": 3.0, "size": n,
         "urgent": None} for n in range(len(at))
    ]  # fmt: skip
    instants = pl.Series("at", at).cast(pl.Datetime("us", "UTC"))
    texts = pl.Series([json.dumps(row) for row in rows])
    spine = requests_of(asks.schema, texts).with_columns(at=instants)
    found = features_of(
        system, model, spine, lambda name: EVENTS, offsets=lambda name: np.array(offsets)
    )
    return pl.DataFrame(
        {
            "prediction_id": [f"p{n}" for n in range(len(at))],
            "at": instants,
            "degraded": [""] * len(at),
            "offset_readings": offsets,
            "features": found.matrix.tolist(),
            "request": texts,
        }
    )


def test_unchanged_predictions_do_not_differ() -> None:
    found = audit(system, model, logged([0, 5, 20, 39]), lambda name: EVENTS)
    assert (found.predictions, found.compared, found.different) == (4, 4 * 8, 0)
    assert (found.differing, found.lagging, found.skipped) == ((), 0, 0)


def test_lag_is_told_apart_from_error() -> None:
    found = audit(system, model, logged([0, 5, 20], late=3), lambda name: EVENTS)
    assert found.different == 0
    assert found.lagging > 0


def test_an_altered_event_is_found_where_it_was_used() -> None:
    altered = EVENTS.with_columns(
        amount=pl.when(pl.col("_offset") == 30).then(7.0000001).otherwise("amount")
    )
    found = audit(system, model, logged([5, 20, 33]), lambda name: altered)
    assert {d.prediction_id for d in found.differing} == {"p2"}
    assert {d.feature for d in found.differing} == {"recent__amount_mean_5m", "scaled", "ratio"}
    assert found.different == len(found.differing) == 3


def test_a_difference_of_one_bit_is_a_difference() -> None:
    rows = logged([20])
    changed = rows["features"][0].to_list()
    changed[1] = np.nextafter(changed[1], 9.0)
    rows = rows.with_columns(features=pl.Series([changed]))
    (difference,) = audit(system, model, rows, lambda name: EVENTS).differing
    assert difference.feature == "recent__amount_mean_5m"
    assert difference.logged == np.nextafter(difference.recomputed, 9.0)


def test_predictions_without_stored_features_are_left_out() -> None:
    rows = logged([5, 20, 21]).with_columns(
        degraded=pl.Series(["store_down", "model_broken", ""]),
        features=pl.Series([[0.0] * 8, None, None], dtype=pl.List(pl.Float64)),
    )
    found = audit(system, model, rows, lambda name: EVENTS)
    assert (found.predictions, found.compared, found.skipped) == (0, 0, 3)
