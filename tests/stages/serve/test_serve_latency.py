"""The laws of the latency histogram."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.errors import HomeostatError
from homeostat.serve.latency import Histogram

DURATIONS = st.lists(st.integers(-5, 2**45) | st.integers(0, 200), max_size=40)


def of(durations: list[int]) -> Histogram:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    return histogram


@given(DURATIONS, DURATIONS, DURATIONS)
def test_merging_is_exact_in_any_grouping(a: list[int], b: list[int], c: list[int]) -> None:
    left, right = of(a), of(b)
    whole = of(a + b + c)
    assert left.merge(right).merge(of(c)) == left.merge(right.merge(of(c))) == whole
    assert (left, right) == (of(a), of(b))
    assert left.merge(right).count == len(a) + len(b)


@given(DURATIONS.filter(bool), st.floats(0, 1))
def test_a_percentile_bounds_the_true_one_closely(durations: list[int], q: float) -> None:
    kept = sorted(max(duration, 0) for duration in durations)
    true = next(d for place, d in enumerate(kept, 1) if place >= q * len(kept))
    found = of(durations).percentile(q)
    assert true <= found <= max(true * 1.033, 1)


@given(DURATIONS)
def test_counts_up_to_a_power_of_two_are_exact(durations: list[int]) -> None:
    for bound, count in of(durations).cumulative(range(50)):
        assert count == sum(max(duration, 0) <= bound for duration in durations)


@pytest.mark.parametrize("bad", [lambda h: h.percentile(0.5), lambda h: h.add(1, count=0)])
def test_nonsense_is_refused(bad: object) -> None:
    assert callable(bad)
    with pytest.raises(HomeostatError, match="allowed: 1 or more"):
        bad(Histogram())
    with pytest.raises(HomeostatError, match="allowed: 0 to 1"):
        of([1]).percentile(99)
