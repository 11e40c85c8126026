"""A rise of the share of rejected records is found when chance cannot explain it."""

from __future__ import annotations

from fractions import Fraction
from math import comb, isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.monitor.rejections import HOUR, Tally, judge_rejections, p_of_rise

DAY = 24 * HOUR
NOW = 1_000 * DAY


class Reading(hs.Event):
    """A sensor was read."""

    reading_id: str
    read_at: hs.Timestamp


READINGS = hs.EventSource("readings", Reading, event_id="reading_id", event_time="read_at")
WATCH = hs.Rejections(READINGS, window="6h", baseline="7d")


def counted(rejected: int, records: int, before_rejected: int, before: int) -> Fraction:
    """Return the same probability by counting every draw."""
    marked, everything = rejected + before_rejected, records + before
    ways = sum(
        comb(marked, k) * comb(everything - marked, records - k)
        for k in range(rejected, min(marked, records) + 1)
    )
    return Fraction(ways, comb(everything, records))


@given(st.integers(0, 60), st.integers(0, 300), st.integers(0, 60), st.integers(0, 300))
def test_the_test_is_exact(rejected: int, good: int, before_rejected: int, before: int) -> None:
    records, earlier = rejected + good, before_rejected + before
    p = p_of_rise(rejected, records, before_rejected, earlier)
    everything = records + earlier
    if rejected * everything <= (rejected + before_rejected) * records:
        assert p == 1.0
    else:
        expected = float(counted(rejected, records, before_rejected, earlier))
        assert isclose(p, expected, rel_tol=1e-9)


def test_large_counts_are_exact_too() -> None:
    p = p_of_rise(30, 1_000, 300, 30_000)
    assert isclose(p, float(counted(30, 1_000, 300, 30_000)), rel_tol=1e-9)
    halved, whole = p_of_rise(1_100, 10**6, 10**4, 10**7), p_of_rise(2_200, 2 * 10**6, 10**4, 10**7)
    assert 0 < whole < halved < 0.01
    assert p_of_rise(5_000, 100_000, 20_000, 20_000_000) == 0.0  # below what a float holds


def tallies(last: tuple[int, int], earlier: tuple[int, int]) -> list[Tally]:
    return [Tally(NOW - 2 * DAY, *earlier), Tally(NOW - 2 * HOUR, *last)]


@pytest.mark.parametrize(
    ("last", "earlier", "status"),
    [
        ((1_000, 50), (10_000, 10), "found"),
        ((1_000, 2), (10_000, 10), "clear"),  # chance
        ((100_000, 160), (1_000_000, 1_000), "clear"),  # no chance, and less than twice as many
        ((1_000, 20), (10_000, 0), "found"),
        ((1_000, 0), (10_000, 500), "clear"),
        ((0, 0), (10_000, 10), "not judged"),
        ((1_000, 1_000), (0, 0), "not judged"),
    ],
)
def test_a_rise_beyond_chance_is_found(
    last: tuple[int, int], earlier: tuple[int, int], status: str
) -> None:
    finding = judge_rejections(WATCH, tallies(last, earlier), {"malformed": last[1]}, NOW)
    assert (finding.status, finding.key) == (status, "rejections/readings")
    assert finding.evidence["rejected"] == last[1]
    if status == "found":
        assert f"of {last[0]:,} records of 6h are no events (malformed" in finding.reason


def test_each_hour_is_on_one_side() -> None:
    now = NOW + HOUR // 2
    hours = [Tally(now // HOUR * HOUR - n * HOUR, 10**n, 0) for n in range(8)]
    old = [Tally(now - 8 * DAY, 5, 0), Tally(now + HOUR, 7, 0)]
    found = judge_rejections(WATCH, [*hours, *old], {}, now).evidence
    assert found["records"] == sum(10**n for n in range(7))
    assert found["baseline_records"] == 10**7


@pytest.mark.parametrize(
    ("given", "said"), [({"level": 0}, "level=0"), ({"times": 0.5}, "times=0.5"),
                        ({"window": "0s"}, "window of nothing")],
)  # fmt: skip
def test_mistakes_are_said(given: dict[str, object], said: str) -> None:
    with pytest.raises(hs.HomeostatError, match=said):
        hs.Rejections(READINGS, **given)  # type: ignore[arg-type]
