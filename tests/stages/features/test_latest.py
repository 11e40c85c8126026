"""Latest values by one sweep: what the formula says of any table; ties are read if they count."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeostat.aggregate.block import LogDisordered
from homeostat.core.ids import event_tie
from homeostat.declare.aggregations import count, last, time_since_last
from homeostat.declare.sources import Entity
from homeostat.declare.views import FeatureView
from homeostat.features.event_tables import ParquetEvents
from homeostat.features.latest import is_latest
from homeostat.features.log import Log
from homeostat.features.offline import point_in_time
from homeostat.lake.tables import Lake
from homeostat.testing.executions import (
    audited_rows,
    differences,
    lake_rows,
    oracle_rows,
    training_rows,
)
from homeostat.testing.generators import (
    FRAME,
    START,
    TICK,
    History,
    events_frame,
    histories,
    readings,
)

EXAMPLES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
PARTS = "homeostat.features.event_tables.PART"

LATEST = (
    last("level"), last("level").over("10s", "1m", "1h"), last("amount"), last("flag").over("5m"),
    last("amount").over("1m", hop="17s").named("hopping"),
    time_since_last().named("age"), time_since_last().over("1m").named("young"),
)  # fmt: skip


@st.composite
def latest_histories(draw: st.DrawFn) -> History:
    """Draw a history of a view of latest values, of columns without gaps."""
    history = draw(histories())
    view = replace(history.view, aggregations=LATEST)
    rows = tuple(
        {**row, "amount": row["amount"] or -0.0, "flag": bool(row["flag"])} for row in history.rows
    )
    return replace(history, view=view, rows=rows)


def values(view: FeatureView, events: Any, at: Sequence[int]) -> list[list[float]]:
    spine = pl.DataFrame(
        {"place": ["a"] * len(at), "at": at}, {"place": pl.String, "at": FRAME["at"]}
    )
    found: list[list[float]] = point_in_time(view, events, spine).tolist()
    return found


class Divided:
    """Events in parts of `size`, and what was read of each."""

    def __init__(self, frame: pl.DataFrame, size: int) -> None:
        self._frame, self.schema = frame, frame.schema
        self.parts = [slice(n, min(n + size, frame.height)) for n in range(0, frame.height, size)]
        self.read_of: list[tuple[int, set[str]]] = []

    def is_log(self, part: slice) -> bool:
        return True

    def bounds(self, part: slice, column: str) -> None:
        return None

    def gaps(self, column: str) -> bool:
        return self._frame[column].null_count() > 0

    def read(self, part: slice, columns: Sequence[str]) -> pl.DataFrame:
        self.read_of.append((part.start, set(columns)))
        return self._frame[part].select(columns)

    def parts_read(self, column: str) -> list[int]:
        """Return where the parts begin that a column was read of."""
        return sorted(begin for begin, columns in self.read_of if column in columns)


@settings(EXAMPLES, max_examples=150)
@given(latest_histories(), st.integers(1, 12))
def test_latest_values_are_what_the_formula_says(history: History, size: int) -> None:
    wanted = oracle_rows(history)
    with mock.patch(PARTS, size), mock.patch("homeostat.features.lookups.BLOCK", 2):
        assert is_latest(Log(history.view, Divided(history.events, size), at_offsets=False))
        assert differences(training_rows(history), wanted) == []
        assert differences(audited_rows(history), wanted) == []
    with mock.patch("homeostat.features.offline.is_latest", return_value=False):
        assert differences(training_rows(history), wanted) == []


@settings(EXAMPLES, max_examples=40)
@given(latest_histories(), st.integers(1, 7), st.booleans())
def test_latest_values_of_files_are_what_the_formula_says(
    history: History, group: int, statistics: bool
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch(PARTS, 3),
        mock.patch("homeostat.features.event_tables.FEW", 5),
    ):
        files = []
        for number, begin in enumerate(range(0, max(len(history.rows), 1), 11)):
            files.append(Path(folder) / f"{number}.parquet")
            history.events[begin : begin + 11].write_parquet(
                files[-1], row_group_size=group, statistics=statistics
            )
        with mock.patch.object(History, "events", ParquetEvents(files)):
            found, audited = training_rows(history), audited_rows(history)
    assert differences(found, oracle_rows(history)) == []
    assert differences(audited, oracle_rows(history)) == []


@settings(EXAMPLES, max_examples=15)
@given(latest_histories(), st.lists(st.sampled_from(["", "sort", "merge"])))
def test_latest_values_of_a_lake_are_what_the_formula_says(
    history: History, after: list[str]
) -> None:
    declared, keys = {"readings": pl.Schema(FRAME)}, {"readings": ("place",)}
    with tempfile.TemporaryDirectory() as folder, mock.patch("homeostat.lake.events.PART", 4):
        found = lake_rows(history, Lake(Path(folder), declared, keys=keys), after)
    assert differences(found, oracle_rows(history)) == []


def row(number: int, time: int, **fields: Any) -> dict[str, Any]:
    known = START + number * TICK
    event = {
        "id": f"e{number}", "at": time, "place": "a", "site": 1, "amount": 1.0, "small": 1.0,
        "units": 1, "level": number, "flag": True, "_offset": number, "_known_time": known,
        "_event_time": time, "_id": f"e{number}", "_tie": event_tie(f"e{number}"),
        "_too_late": False,
    }  # fmt: skip
    return event | fields


LEVEL = FeatureView("v", Entity("place", "place"), readings, (last("level"),))


def test_ties_that_decide_nothing_are_not_read() -> None:
    # Late events are known after newer ones, and tie with nothing but older late ones.
    times = [0, 5, 3, 3, 9, 9, 9, 12]
    rows = [row(n, START - TICK + time) for n, time in enumerate(times)]
    rows[5] |= {"place": "b"}
    rows[6] |= {"_too_late": True}
    table = Divided(events_frame(rows), 2)
    at = [START + n * TICK for n in range(1, 9)]
    assert [level for (level,) in values(LEVEL, table, at)] == [0, 1, 1, 1, 4, 4, 4, 7]
    assert table.parts_read("_tie") == []
    assert table.parts_read("place") == [0, 2, 4, 6]
    assert table.parts_read("level") == [0, 4, 6]  # nobody's answer is in the part from 2 on


@pytest.mark.parametrize("size", range(1, 9))
def test_ties_across_parts_are_read_once_and_only_where_they_may_count(size: int) -> None:
    # Events 1 and 5 tie, whatever lies between; then all of the rest do.
    times = [0, 7, 1, 2, 3, 7, 8, 8]
    ties = [9, 4, 9, 9, 9, 3, 1, 2]
    rows = [
        row(n, START - TICK + time, _tie=tie)
        for n, (time, tie) in enumerate(zip(times, ties, strict=True))
    ]
    table = Divided(events_frame(rows), size)
    at = [START + n * TICK for n in range(1, 9)]
    assert [level for (level,) in values(LEVEL, table, at)] == [0, 1, 1, 1, 1, 1, 6, 7]
    begins = range(0, 8, size)
    holding = {1 // size * size, *(begin for begin in begins if begin + size > 5)}
    assert table.parts_read("_tie") == sorted(holding)


def test_an_equal_tie_goes_to_the_later_event() -> None:
    rows = [row(n, START - TICK, _tie=5) for n in range(3)]
    at = [START + n * TICK for n in range(1, 4)]
    assert values(LEVEL, events_frame(rows), at) == [[0.0], [1.0], [2.0]]


def test_a_value_without_an_exact_sum_is_an_answer_like_others() -> None:
    rows = [row(n, START + n, level=2**52 if n == 1 else n) for n in range(3)]
    at = [START + 1, START + TICK + 1, START + 3 * TICK]
    assert values(LEVEL, events_frame(rows), at) == [[0.0], [2.0**52], [2.0]]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("clock", ["_known_time", "_offset"])
def test_a_log_out_of_order_is_refused(size: int, clock: str) -> None:
    rows = [row(n, START + n) for n in range(4)]
    rows[2], rows[3] = rows[2] | {clock: rows[3][clock]}, rows[3] | {clock: rows[2][clock]}
    spine = pl.DataFrame({"place": ["a"], "at": [START]}, {"place": pl.String, "at": FRAME["at"]})
    offsets = np.array([9])
    with pytest.raises(LogDisordered, match="read the events from the lake again"):
        point_in_time(LEVEL, Divided(events_frame(rows), size), spine, offsets=offsets)
    rows[3] |= {"place": "b"}  # nobody asks about that one
    found = point_in_time(LEVEL, Divided(events_frame(rows), size), spine, offsets=offsets)
    assert found.tolist() == [[2.0]]


@pytest.mark.parametrize("rows", [0, 2])
def test_without_events_nothing_is_known(rows: int) -> None:
    found = values(LEVEL, events_frame([]), [START] * rows)
    assert [np.isnan(level) for (level,) in found] == [True] * rows


@pytest.mark.parametrize(
    ("view", "latest"),
    [
        (replace(LEVEL, aggregations=LATEST), True),
        (replace(LEVEL, aggregations=(last("level"), count())), False),
        (replace(LEVEL, aggregations=(last("units"),)), False),
        (replace(LEVEL, aggregations=(last("level").over("1m"),)), True),
        (replace(LEVEL, aggregations=(time_since_last(),)), False),
    ],
)
def test_only_views_of_nothing_but_latest_values_are_swept(view: FeatureView, latest: bool) -> None:
    table = Divided(events_frame([row(0, START, units=None)]), 1)
    assert is_latest(Log(view, table, at_offsets=False)) == latest
