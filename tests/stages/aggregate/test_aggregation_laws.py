"""Every aggregation keeps the laws, and the laws bite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest

from homeostat.aggregate.columns import prepare
from homeostat.aggregate.families import Extreme, Nearest, Sums
from homeostat.aggregate.layout import Layout
from homeostat.aggregate.operations import OPERATIONS
from homeostat.core.ids import event_tie
from homeostat.declare.aggregations import Aggregation
from homeostat.declare.expressions import col
from homeostat.declare.sources import Entity
from homeostat.declare.views import FeatureView
from homeostat.testing.aggregation_laws import LawBroken, Subject, aggregation_checks
from homeostat.testing.generators import START, TICK, events_frame, readings
from homeostat.testing.oracle import feature_value

AMOUNTS = (None, 0.1, -7.5, 1e6, 1e-6, None, -0.0, 0.1, 3.0)


def sample() -> pl.DataFrame:
    rows = [
        {
            "id": f"e{n}", "at": START + n * TICK, "place": "a", "site": 1, "amount": amount,
            "small": amount, "units": n % 4 - 1 if n % 3 else None, "level": n, "flag": n % 2 == 0,
            "_offset": n, "_known_time": START + n * TICK, "_event_time": START + n * TICK,
            "_id": f"e{n}", "_tie": event_tie(f"e{n}"), "_too_late": False,
        }
        for n, amount in enumerate(AMOUNTS)
    ]  # fmt: skip
    return events_frame(rows)


def declared(operation: str, column: str) -> Aggregation:
    where = (col("amount") > 0).expression
    if operation in ("count", "share", "time_since_last"):
        return Aggregation(operation, None, where, name="f")
    return Aggregation(operation, column, None, name="f")


def subject(operation: str, column: str) -> Subject[Any, Any, Any]:
    view = FeatureView("v", Entity("place", "place"), readings, (declared(operation, column),))
    layout, frame = Layout(view), sample()
    read, events = layout.reads[0], frame.to_dicts()

    def make(begin: int, end: int) -> tuple[Any, Any]:
        columns = prepare(layout, frame[begin:end])
        select = read.operation.select
        if select is None:
            return Sums(read.operation, read.lanes), columns.lanes
        values = columns.values[read.signal]
        if select in ("least", "greatest"):
            return Extreme(select), values
        times = frame["_event_time"].dt.epoch("us").to_numpy()[begin:end]
        return Nearest(select, times, values, read.operation.of_time), values

    def oracle(begin: int, end: int, at: int) -> float:
        return feature_value(view, view.features()[0], events[begin:end], ("a",), at)

    return Subject(make, oracle, len(AMOUNTS), START + 100 * TICK)


@pytest.mark.parametrize("column", ["amount", "units", "flag"])
@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_the_laws_hold(operation: str, column: str) -> None:
    for _, check in aggregation_checks(subject(operation, column)):
        check()


@pytest.mark.parametrize("column", ["amount", "units", "flag"])
@pytest.mark.parametrize(
    "operation", sorted(name for name, o in OPERATIONS.items() if o.select is None)
)
def test_one_read_and_columns_finalize_alike(operation: str, column: str) -> None:
    made = subject(operation, column)
    aggregation, events = made.make(0, made.n)
    assert isinstance(aggregation, Sums)
    begin, end = (np.array(side) for side in np.triu_indices(made.n + 1))
    states = aggregation.reduce(aggregation.prepare(events), begin, end)
    columns = aggregation.finalize(states, np.zeros(len(begin), np.int64))
    one = aggregation.operation.one
    assert one is not None
    singles = np.array([one(row, aggregation.lanes) for row in states.tolist()])
    assert columns.view(np.int64).tolist() == singles.view(np.int64).tolist()


@dataclass
class Twin:
    """A sum of plain floats with one part of it broken, or none."""

    fault: str
    inner: Any

    def prepare(self, events: Any) -> Any:
        index = self.inner.prepare(events)
        if self.fault == "changes its events":
            events[:1] += 1
        return index

    def reduce(self, index: Any, begin: Any, end: Any) -> Any:
        if self.fault == "looks outside":
            begin = np.maximum(begin - 1, 0)
        if self.fault == "forgets the first":
            begin = np.minimum(begin + 1, end)
        return self.inner.reduce(index, begin, end)

    def merge(self, states: Any, first: Any) -> Any:
        return states[first] if self.fault == "merges nothing" else self.inner.merge(states, first)

    def finalize(self, states: Any, at: Any) -> Any:
        return self.inner.finalize(states, at)


BITES = {
    "looks outside": "depends on its own events only",
    "forgets the first": "agrees with the oracle",
    "merges nothing": "any pieces merge to the whole",
    "changes its events": "arguments stay untouched",
}


def broken(fault: str) -> dict[str, Callable[[], None]]:
    sound = subject("sum", "amount")

    def make(begin: int, end: int) -> tuple[Any, Any]:
        inner, events = sound.make(begin, end)
        return Twin(fault, inner), events.copy()

    return dict(aggregation_checks(Subject(make, sound.oracle, sound.n, sound.at)))


@pytest.mark.parametrize("fault", BITES)
def test_each_law_bites(fault: str) -> None:
    with pytest.raises(LawBroken):
        broken(fault)[BITES[fault]]()


def test_every_law_has_a_fault_that_breaks_it() -> None:
    checks = broken("none")
    assert set(checks) == set(BITES.values())
    for check in checks.values():
        check()
