"""Labels never change and need no order; the boundaries of the split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.errors import HomeostatError
from homeostat.declare.models import Model
from homeostat.testing.toy_training import TOY_LABEL, toy_model, toy_sample
from homeostat.train.dataset import Sample, TrainingRefused, describe_span, labelled, split

HOUR = 3_600_000_000
DELAY = TOY_LABEL.delay_us
INSTANT = pl.Datetime("us", "UTC")


class Request(NamedTuple):
    flight: str | None
    at: int


class Outcome(NamedTuple):
    flight: str | None
    known: int
    delay: float | None


def request_frame(requests: Sequence[Request]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "flight": [r.flight for r in requests],
            "_offset": range(len(requests)),
            "_known_time": [r.at for r in requests],
            "_event_time": [r.at for r in requests],
        },
        schema={
            "flight": pl.String,
            "_offset": pl.Int64,
            "_known_time": INSTANT,
            "_event_time": INSTANT,
        },
    )


def outcome_frame(
    outcomes: Sequence[Outcome], offsets: Sequence[int] | None = None
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "flight": [o.flight for o in outcomes],
            "delay": [o.delay for o in outcomes],
            "_offset": range(len(outcomes)) if offsets is None else offsets,
            "_known_time": [o.known for o in outcomes],
            "_event_time": [o.known for o in outcomes],
        },
        schema={
            "flight": pl.String,
            "delay": pl.Float64,
            "_offset": pl.Int64,
            "_known_time": INSTANT,
            "_event_time": INSTANT,
        },
    )


# Few instants, most of them on a boundary of another: request + delay, or the instant of training.
instants = st.sampled_from([0, 1, HOUR, 2 * HOUR - 1, 2 * HOUR, 2 * HOUR + 1, 3 * HOUR, 4 * HOUR])
flights = st.sampled_from(["a", "b", "", None])
delays = st.sampled_from([None, -5.0, 14.999, 15.0, 90.0])


@given(
    requests=st.lists(st.builds(Request, flights, instants), max_size=5),
    outcomes=st.lists(st.builds(Outcome, flights, instants, delays), max_size=8),
    until=instants,
    later=st.integers(0, 10 * HOUR),
)
def test_a_final_label_never_changes(
    requests: list[Request], outcomes: list[Outcome], until: int, later: int
) -> None:
    now = labelled(TOY_LABEL, request_frame(requests), outcome_frame(outcomes), until)
    then = labelled(TOY_LABEL, request_frame(requests), outcome_frame(outcomes), until + later)
    assert then.filter(pl.col("_offset").is_in(now["_offset"].to_list())).equals(now)


def test_the_order_of_the_frames_does_not_matter() -> None:
    requests = request_frame([Request("a", HOUR), Request("b", 0), Request("a", 0)])
    outcomes = outcome_frame(
        [Outcome("a", 2 * HOUR, 0.0), Outcome("b", HOUR, 90.0), Outcome("a", HOUR, 90.0)]
    )
    found = labelled(TOY_LABEL, requests, outcomes, 9 * HOUR)
    assert found["_offset"].to_list() == [0, 1, 2]
    assert found.equals(labelled(TOY_LABEL, requests, outcomes.reverse(), 9 * HOUR))
    turned = labelled(TOY_LABEL, requests.reverse(), outcomes, 9 * HOUR)
    assert turned.reverse().equals(found)


DAY = 24 * HOUR
UNTIL = 100 * DAY
END = UNTIL - DELAY


def spine(*instants: int) -> pl.DataFrame:
    return pl.DataFrame({"at": instants}, schema={"at": INSTANT})


def instants_of(frame: pl.DataFrame) -> list[int]:
    return frame["at"].dt.epoch("us").to_list()


class Reading(hs.Event):
    """A machine is asked about, or failed."""

    reading: str
    machine: str
    at: hs.Timestamp
    failed: bool


readings, failures = (
    hs.EventSource(name, Reading, event_id="reading", event_time="at")
    for name in ("readings", "failures")
)


def by_machine() -> Model:
    """Return the toy's model with a label that one outcome tells of many rows."""
    label = replace(
        TOY_LABEL,
        predicts=readings,
        outcome=failures,
        join_on="machine",
        value=hs.col("failed"),
        which="first",
    )
    plain = hs.Requirements(false_positive_cost=1, false_negative_cost=4)
    return replace(toy_model(), features=("failed",), label=label, requirements=plain)


@pytest.mark.parametrize("model", [toy_model(), by_machine()], ids=["own", "shared"])
def test_rows_whose_label_reaches_into_the_next_part_are_left_out(model: Model) -> None:
    test, validation = END - DAY, END - DAY - DELAY - 2 * DAY
    bounds = [END - 30 * DAY, validation - DELAY, validation, test - DELAY, test, END]
    rows = split(model, spine(*(b + d for b in bounds for d in (-1, 0))), UNTIL)
    assert instants_of(rows.train) == [bounds[0], validation - DELAY - 1]
    assert instants_of(rows.validation) == [validation, test - DELAY - 1]
    assert instants_of(rows.test) == [test, END - 1]
    left_out = [validation - DELAY, validation - 1, test - DELAY, test - 1]
    assert instants_of(rows.embargo) == left_out


@given(st.lists(st.integers(END - 40 * DAY, END - 1), max_size=30), st.booleans())
def test_no_label_reaches_into_the_next_part_and_no_row_is_lost_uncounted(
    instants: list[int], shared: bool
) -> None:
    rows = split(by_machine() if shared else toy_model(), spine(*instants), UNTIL)
    parts = [instants_of(part) for part in (rows.train, rows.validation, rows.test)]
    found = [instant for part in parts for instant in part] + instants_of(rows.embargo)
    assert sorted(found) == sorted(t for t in instants if t >= END - 30 * DAY)
    last_trained = END - DAY - DELAY - 2 * DAY - DELAY
    is_long = any(END - 30 * DAY <= t < last_trained for t in instants)
    if shared or (is_long and parts[1]):
        assert all(t + DELAY < END - DAY - DELAY - 2 * DAY for t in parts[0])
        for earlier, later in pairwise(parts):
            assert all(one + DELAY < other for one in earlier for other in later)


def test_a_history_too_short_for_the_embargo_is_used_whole_where_no_outcome_is_shared() -> None:
    instants = [END - 3 * DAY - 1, END - 2 * DAY, END - 1]
    own = split(toy_model(), spine(*instants), UNTIL)
    assert [p.height for p in (own.train, own.validation, own.test, own.embargo)] == [1, 1, 1, 0]
    shared = split(by_machine(), spine(*instants), UNTIL)
    assert (shared.train.height, shared.validation.height) == (0, 2)


def test_a_history_that_the_embargo_uses_up_is_refused() -> None:
    model = by_machine()
    whole = 3 * DAY + 2 * DELAY
    with pytest.raises(HomeostatError, match="longer than those together"):
        replace(model, split=replace(model.split, history=whole))
    replace(model, split=replace(model.split, history=whole + 1))


def test_without_history_every_older_row_trains() -> None:
    model = toy_model()
    model = replace(model, split=replace(model.split, history=None))
    assert len(split(model, spine(0, END - 50 * DAY), UNTIL).train) == 2


def test_a_span_is_described_by_its_rows_and_instants() -> None:
    assert describe_span(spine(DAY, 0)) == {
        "rows": 2,
        "first": "1970-01-01T00:00:00+00:00",
        "last": "1970-01-02T00:00:00+00:00",
    }
    assert describe_span(spine()) == {"rows": 0, "first": None, "last": None}


def test_a_sample_refuses_labels_of_other_rows() -> None:
    sample = toy_sample(4)
    with pytest.raises(TrainingRefused, match=r"4 rows of features, labels bool\[3\]"):
        Sample(sample.features, sample.labels[:3])
    with pytest.raises(TrainingRefused, match="one boolean label per row"):
        Sample(sample.features, sample.labels.astype(np.float64))
