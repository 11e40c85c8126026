"""A request's own event is in none of its features, in every execution alike."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeostat.declare.aggregations import (
    Aggregation,
    count,
    first,
    last,
    maximum,
    mean,
    minimum,
    sum_,
    time_since_last,
)
from homeostat.declare.expressions import col
from homeostat.features.offline import point_in_time
from homeostat.testing.executions import (
    audited_rows,
    differences,
    live_rows,
    oracle_rows,
    restarted_rows,
    small_records,
    training_rows,
)
from homeostat.testing.generated_events import LATENESS, TICK
from homeostat.testing.generators import FRAME, History, histories
from homeostat.testing.memory_store import MemoryStore

OF_ALL_TIME: tuple[Aggregation, ...] = (
    count(), sum_("amount"), mean("level"), minimum("amount"), maximum("units"), first("level"),
    last("amount"), last("level"), time_since_last(), count(col("level") > 1).named("high"),
)  # fmt: skip


@st.composite
def about_own(draw: st.DrawFn) -> History:
    """Draw a history whose questions are of requests that are events of it, of its entities."""
    history = draw(histories())
    chosen = draw(st.lists(st.sampled_from(OF_ALL_TIME), min_size=1, max_size=6, unique=True))
    made = tuple(a.named(f"f{place}") for place, a in enumerate(chosen))
    made += (count().over("1m"), last("level").over("10s"))
    view = replace(history.view, aggregations=made, exclude_own=True)
    questions = []
    for question in history.questions:
        row = draw(st.sampled_from(history.rows)) if history.rows else None
        if row is None:
            questions.append(question)
            continue
        key = tuple(row[part] for part in view.entity.keys)
        questions.append(replace(question, key=key, own=row["id"]))
    return replace(history, view=view, questions=tuple(questions))


def check(history: History) -> None:
    wanted = oracle_rows(history)
    assert differences(training_rows(history), wanted) == []
    assert differences(audited_rows(history), wanted) == []
    assert differences(live_rows(history, MemoryStore()), wanted) == []
    for page in (1, 2):
        with small_records(page):
            store = MemoryStore()
            assert differences(restarted_rows(history, store, lambda same: same), wanted) == []


@pytest.mark.parametrize("kept", [None, 0, 3 * TICK, 40 * TICK])
def test_own_events_are_left_out(kept: int | None) -> None:
    """Also of all time, for as long as it is promised: `kept` is that span."""

    @settings(
        max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(about_own())
    def run(history: History) -> None:
        check(history)

    if kept is None:
        run()
        return
    with mock.patch("homeostat.declare.views.DAY", kept - LATENESS):
        run()


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(about_own())
def test_rows_that_are_no_requests_leave_nothing_out(history: History) -> None:
    rows = [dict(zip(history.view.entity.keys, q.key, strict=True)) for q in history.questions]
    schema = {key: FRAME[key] for key in history.view.entity.keys}
    at = pl.Series([q.at for q in history.questions]).cast(FRAME["at"])
    spine = pl.DataFrame(rows, schema).with_columns(at=at)
    found = point_in_time(history.view, history.events, spine)
    everything = replace(history, view=replace(history.view, exclude_own=False))
    assert differences(found, training_rows(everything)) == []
