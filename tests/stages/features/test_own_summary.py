"""A summary from outside the package: it keeps the laws, and runs wherever the built-in ones do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from homeostat.aggregate.summaries import Rows
from homeostat.core.errors import DeclarationError
from homeostat.core.hashing import content_hash
from homeostat.declare.aggregations import Aggregation
from homeostat.declare.expressions import col
from homeostat.declare.sources import Entity
from homeostat.declare.summaries import custom
from homeostat.declare.views import FeatureView
from homeostat.features.fold import ViewFold
from homeostat.features.whole import StateOversized
from homeostat.testing.executions import (
    audited_rows,
    differences,
    live_rows,
    oracle_rows,
    restarted_rows,
    training_rows,
)
from homeostat.testing.generators import START, History, events_frame, histories, readings
from homeostat.testing.memory_store import MemoryStore
from homeostat.testing.summary_laws import SummarySubject, summary_checks

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BusiestHour:
    """The hour of the day with the most events, and its share of them; the earlier of equals."""

    offset_hours: int = 0
    reads: ClassVar[Literal["code"]] = "code"
    parts: ClassVar[tuple[str, ...]] = ("hour", "share")
    most: ClassVar[int] = 24

    def state(self, rows: Rows) -> Ints:
        hours = (rows.times // 3_600_000_000 + self.offset_hours) % 24
        return np.bincount(hours, minlength=24)

    def merge(self, left: Ints, right: Ints) -> Ints:
        return left + right

    def value(self, state: Ints, at: int) -> Sequence[float]:
        total = int(state.sum())
        if not total:
            return [nan, nan]
        return [float(state.argmax()), int(state.max()) / total]


@dataclass(frozen=True)
class Spread:
    """The largest value less the smallest."""

    reads: ClassVar[Literal["value"]] = "value"
    parts: ClassVar[tuple[str, ...]] = ("",)
    most: ClassVar[int] = 2

    def state(self, rows: Rows) -> Ints:
        ends = np.sort(rows.values)[[0, -1]] if len(rows.values) else np.empty(0)
        return ends.view(np.int64)

    def merge(self, left: Ints, right: Ints) -> Ints:
        ends = np.sort(np.concatenate([left, right]).view(np.float64))
        return ends[[0, -1]].view(np.int64) if len(ends) else left

    def value(self, state: Ints, at: int) -> Sequence[float]:
        ends = state.view(np.float64).tolist()
        return [ends[1] - ends[0] if ends else nan]


def busiest(rows: Rows, at: int) -> list[float]:
    hours = [time // 3_600_000_000 % 24 for time in rows.times.tolist()]
    if not hours:
        return [nan, nan]
    most = max(sorted(set(hours)), key=hours.count)
    return [float(most), hours.count(most) / len(hours)]


def spread(rows: Rows, at: int) -> list[float]:
    values = rows.values.tolist()
    return [max(values) - min(values) if values else nan]


def sample() -> Rows:
    n = np.arange(12)
    return Rows(START + n * n * 1_700_000_000, n * 17 % 12, np.where(n % 3, 2.5, -n * 1.25))


@pytest.mark.parametrize(
    ("summary", "oracle"), [(BusiestHour(), busiest), (Spread(), spread)], ids=["hour", "spread"]
)
def test_it_keeps_the_laws(summary: BusiestHour | Spread, oracle: object) -> None:
    subject = SummarySubject(summary, sample(), oracle, START + 10**12)  # type: ignore[arg-type]
    for _, check in summary_checks(subject):
        check()


OWN = (
    custom(BusiestHour()).over("1h", "10s"),
    custom(BusiestHour(3), "place", col("amount") > 0).named("positive").over("1h", hop="17s"),
    custom(Spread(), "amount").over("5m"),
    custom(Spread(), "level"),
    custom(BusiestHour(), "id").named("whole"),
)


@settings(max_examples=40, deadline=None)
@given(histories(OWN))
def test_every_execution_gives_its_values(history: History) -> None:
    wanted = oracle_rows(history)
    assert differences(training_rows(history), wanted) == []
    assert differences(audited_rows(history), wanted) == []
    assert differences(live_rows(history, MemoryStore()), wanted) == []
    again = restarted_rows(history, MemoryStore(), lambda store: store)
    assert differences(again, wanted) == []


def view_of(*made: Aggregation) -> FeatureView:
    return FeatureView("v", Entity("place", "place"), readings, made)


def test_its_features_are_named_after_its_class_and_parts() -> None:
    names = [spec.name for spec in view_of(*OWN[:1], OWN[2]).features()]
    assert names == [
        "busiesthour_hour_1h", "busiesthour_hour_10s", "busiesthour_share_1h",
        "busiesthour_share_10s", "amount_spread_5m",
    ]  # fmt: skip


def test_its_definition_is_part_of_the_hash() -> None:
    hashes = {content_hash(view_of(custom(BusiestHour(n)))) for n in (0, 0, 1)}
    assert len(hashes) == 2
    made = [custom(kind(), "amount") for kind in (Spread, Inherited, Wider, Growing, BusiestHour)]
    codes = [dict(one.options)["code"] for one in made]
    assert codes[0] == codes[1]
    assert len(set(codes)) == 4


@dataclass(frozen=True)
class Inherited(Spread):
    """The same under another name."""


@dataclass(frozen=True)
class Wider(Spread):
    """One word more is allowed."""

    most: ClassVar[int] = 3


class NotOne:
    parts = ("",)


@dataclass
class Changeable:
    reads = "value"
    parts = ("",)
    most = 1
    state = merge = value = None


def test_what_is_no_summary_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(DeclarationError, match="it lacks reads, most, state, merge, value"):
        custom(NotOne())
    with pytest.raises(DeclarationError, match="no instance of a frozen dataclass"):
        custom(Changeable(), "amount")


def test_a_number_is_needed_where_values_are_read() -> None:
    with pytest.raises(DeclarationError, match="custom of a string"):
        view_of(custom(Spread(), "place"))
    view_of(custom(BusiestHour(), "place"))


@dataclass(frozen=True)
class Growing(Spread):
    """A summary that keeps everything."""

    def merge(self, left: Ints, right: Ints) -> Ints:
        return np.concatenate([left, right])


def test_a_state_that_outgrows_its_bound_is_refused() -> None:
    fold = ViewFold(view_of(custom(Growing(), "amount")))
    row = {
        "id": "e", "at": START, "place": "a", "site": 1, "amount": 1.0, "small": 1.0, "units": 1,
        "level": 1, "flag": True, "_offset": 0, "_known_time": START, "_event_time": START,
        "_id": "e", "_tie": 1, "_too_late": False,
    }  # fmt: skip
    rows = [{**row, "place": "a" if n else "b", "_event_time": START + n} for n in range(3)]
    prepared = fold.prepare(events_frame(rows))
    with MemoryStore().writer() as writer:
        fold.apply(writer, prepared, 0, 2)
        with pytest.raises(StateOversized, match=r"has 4 words; allowed: 2.*make its merge keep"):
            fold.apply(writer, prepared, 2, 3)
