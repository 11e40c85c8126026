"""Every summary keeps the laws, and the laws bite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from homeostat.aggregate.catalogue import SUMMARIES, summary_of
from homeostat.aggregate.codes import mixed
from homeostat.aggregate.columns import prepare
from homeostat.aggregate.decayed import _weights
from homeostat.aggregate.gathered import Gathered
from homeostat.aggregate.layout import Layout
from homeostat.aggregate.summaries import Rows, Summary
from homeostat.core.ids import event_tie
from homeostat.declare.aggregations import Aggregation
from homeostat.declare.sources import Entity
from homeostat.declare.summaries import (
    decayed_sum,
    distinct_count,
    last_n,
    quantile,
    top_share,
    top_values,
)
from homeostat.declare.views import FeatureView
from homeostat.testing.aggregation_laws import Subject, aggregation_checks
from homeostat.testing.generators import START, TICK, events_frame, readings
from homeostat.testing.laws import LawBroken
from homeostat.testing.oracle import feature_value
from homeostat.testing.oracle_summaries import _weight
from homeostat.testing.summary_laws import SummarySubject, summary_checks

AMOUNTS = (None, 0.1, -7.5, 1e6, 1e-6, 0.1, -0.0, 0.1, 3.0, -7.5, None, 3.5, 0.1, 2.0**-80, -7.5)
AT = START + 100 * TICK

MADE = {
    made.label + "/" + str(number): made
    for number, made in enumerate(
        (
            last_n("amount", 1), last_n("amount", 4), last_n("units", 3),
            distinct_count("amount"), distinct_count("place", 2), distinct_count("level", 3),
            distinct_count("at", 5), distinct_count("flag", 2),
            quantile("amount", 0.5, 0.99, 0.000001), quantile("units", 0.3, error=0.2),
            top_share("place"), top_share("amount", 2, 3), top_share("level", 2, 4),
            top_values("amount", 3), top_values("amount", 2, 3), top_values("level", 2, 4),
            decayed_sum("amount", "10s"), decayed_sum("level", "1s"), decayed_sum("units", "1d"),
        )
    )
}  # fmt: skip


def rows() -> list[dict[str, Any]]:
    return [
        {
            "id": f"e{n}", "at": START + n * n * TICK // 2, "place": "abcab"[n % 5], "site": 1,
            "amount": amount, "small": amount, "units": n % 4 - 1 if n % 3 else None,
            "level": n * n % 7 * 2**40, "flag": n % 2 == 0, "_offset": n,
            "_known_time": START + n * n * TICK // 2, "_event_time": START + n * n * TICK // 2,
            "_id": f"e{n}", "_tie": event_tie(f"e{n}"), "_too_late": False,
        }
        for n, amount in enumerate(AMOUNTS)
    ]  # fmt: skip


def view_of(made: Aggregation) -> FeatureView:
    return FeatureView("v", Entity("site", "site"), readings, (made,))


def subject(made: Aggregation) -> SummarySubject:
    """The summary of a declaration with the rows that have a value, judged by the oracle."""
    view = view_of(made)
    layout, frame = Layout(view), events_frame(rows())
    values = prepare(layout, frame).values[0]
    times = frame["_event_time"].dt.epoch("us").to_numpy()
    ties = frame["_tie"].to_numpy()
    kept = ~np.isnan(values)
    events = {event["_tie"]: event for event in frame.to_dicts()}
    summary = summary_of(view.features()[0])
    assert summary is not None

    def oracle(given: Rows, at: int) -> list[float]:
        chosen = [events[tie] for tie in given.ties.tolist()]
        return [feature_value(view, spec, chosen, (1,), at) for spec in view.features()]

    return SummarySubject(summary, Rows(times[kept], ties[kept], values[kept]), oracle, AT)


@pytest.mark.parametrize("name", MADE)
def test_the_laws_hold(name: str) -> None:
    for _, check in summary_checks(subject(MADE[name])):
        check()


@pytest.mark.parametrize("name", MADE)
def test_as_an_aggregation_of_the_kernel_the_laws_hold(name: str) -> None:
    made = subject(MADE[name])
    all_rows = made.rows

    def make(begin: int, end: int) -> tuple[Any, Any]:
        taken = all_rows[begin:end]
        return Gathered(made.summary, taken.times, taken.ties), taken.values

    def oracle(begin: int, end: int, at: int) -> Any:
        return made.oracle(all_rows[begin:end], at)

    for _, check in aggregation_checks(Subject(make, oracle, len(all_rows.values), AT)):
        check()


def test_every_summary_is_tried() -> None:
    assert {made.operation for made in MADE.values()} == set(SUMMARIES)


def test_weights_are_correctly_rounded() -> None:
    assert _weights().tolist() == [_weight(age) for age in range(1025)]


def test_a_step_that_leaves_its_range_is_missing_as_long_as_it_is_seen() -> None:
    fading = summary_of(decayed_sum("amount", "1d").features()[0])
    assert fading is not None
    day = 86_400_000_000
    for made in ([2.0**51] * 4, [1.0, 2.0**52, 1.0, 1.0], [-(2.0**51)] * 2 + [2.0**51] * 2):
        state = fading.state(Rows(np.zeros(4, np.int64), np.arange(4), np.array(made)))
        assert np.isnan(fading.value(state, 10))
        for _ in range(70):
            state = fading.merge(state, state)
        assert state[4] == 2**63 - 1
        new = fading.state(Rows(np.array([30 * day]), np.array([9]), np.array([1.0])))
        assert np.isnan(fading.value(fading.merge(state, new), 31 * day))
        assert fading.value(fading.merge(state, new), 40 * day) == [2.0**-10]


@pytest.mark.parametrize("k", [16, 256, 1024])
def test_a_distinct_count_beyond_k_is_within_its_stated_error(k: int) -> None:
    errors = []
    for trial in range(30):
        numbers = np.arange(20_000) + trial * 10**7
        summary = summary_of(distinct_count("level", k).features()[0])
        assert summary is not None
        codes = mixed(numbers).view(np.float64)
        found = summary.value(summary.state(Rows(numbers, numbers, codes)), 0)[0]
        errors.append(found / 20_000 - 1)
    assert np.sqrt(np.mean(np.square(errors))) < 1.5 / np.sqrt(k - 1)


@pytest.mark.parametrize("error", [0.001, 0.01, 0.05])
def test_a_quantile_is_within_its_stated_error(error: float) -> None:
    random = np.random.default_rng(7)
    for scale in (1e-6, 1.0, 1e9):
        values = np.exp(random.normal(0, 3, 999)) * scale * random.choice([-1.0, 1.0], 999)
        summary = summary_of(quantile("amount", 0.01, 0.5, 0.99, error=error).features()[0])
        assert summary is not None
        found = summary.value(summary.state(Rows(np.arange(999), np.arange(999), values)), 0)
        wanted = np.sort(values)[[9, 499, 989]]
        assert (np.abs(found - wanted) <= error * np.abs(wanted)).all()


def test_a_sampled_share_is_within_its_stated_error() -> None:
    random = np.random.default_rng(7)
    values = np.where(random.random(50_000) < 0.3, 1.0, np.arange(50_000) + 2.0)
    ties = np.array([event_tie(str(n)) for n in range(50_000)])
    summary = summary_of(top_share("level", 1, 512).features()[0])
    assert summary is not None
    found = summary.value(summary.state(Rows(ties, ties, values)), 0)[0]
    assert abs(found - 0.3) < 4 / (2 * np.sqrt(512))


@dataclass(frozen=True)
class Largest:
    """The two largest values, with one part of it broken, or none."""

    fault: str
    reads: ClassVar[Any] = "value"
    parts: ClassVar[tuple[str, ...]] = ("1", "2")
    most: ClassVar[int] = 2

    def state(self, given: Rows) -> Any:
        values = given.values
        if self.fault == "takes the last":
            return values[-2:].view(np.int64)
        if self.fault == "sorts in place":
            values.sort()
        if self.fault == "skips one":
            values = np.sort(values)[:-1] if len(values) > 3 else values
        kept = 3 if self.fault == "grows" else 2
        return np.sort(values)[::-1][:kept].view(np.int64)

    def merge(self, left: Any, right: Any) -> Any:
        if self.fault == "forgets the right":
            return left
        both = np.concatenate([left, right]).view(np.float64)
        kept = 3 if self.fault == "grows" else 2
        return np.sort(both)[::-1][:kept].view(np.int64)

    def value(self, state: Any, at: int) -> list[float]:
        found: list[float] = state.view(np.float64).tolist()[:2]
        empty = at / 1e6 if self.fault == "knows the time" and not found else np.nan
        return found + [empty] * (2 - len(found))

    def index(self, given: Rows) -> Rows:
        return given

    def columns(self, index: Rows, slices: Any, at: Any) -> Any:
        found = np.full((len(slices), 2), np.nan)
        for query in range(len(slices)):
            pieces = slice(
                slices.first[query], np.append(slices.first, len(slices.begin))[query + 1]
            )
            if self.fault == "reads one piece":
                pieces = slice(pieces.start, pieces.start + 1)
            taken = [
                index.values[low:high]
                for low, high in zip(slices.begin[pieces], slices.end[pieces], strict=True)
            ]
            values = np.sort(np.concatenate(taken))[::-1][:2]
            found[query, : len(values)] = values
        return found


BITES = {
    "skips one": "agrees with the oracle",
    "takes the last": "the order does not matter",
    "forgets the right": "parts merge to the whole",
    "grows": "states keep their bound",
    "knows the time": "nothing is the same at any instant",
    "sorts in place": "arguments stay untouched",
    "reads one piece": "columns are single reads",
}


def broken(fault: str) -> dict[str, Callable[[], None]]:
    sound = subject(last_n("amount", 1))

    def oracle(given: Rows, at: int) -> list[float]:
        return [*sorted(given.values.tolist(), reverse=True), np.nan, np.nan][:2]

    kind: Summary = Largest(fault)
    return dict(summary_checks(SummarySubject(kind, sound.rows, oracle, AT)))


@pytest.mark.parametrize("fault", BITES)
def test_each_law_bites(fault: str) -> None:
    with pytest.raises(LawBroken):
        broken(fault)[BITES[fault]]()


def test_every_law_has_a_fault_that_breaks_it() -> None:
    checks = broken("none")
    assert set(checks) == set(BITES.values())
    for check in checks.values():
        check()
