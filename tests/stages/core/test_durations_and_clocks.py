"""Durations read back what they write; clocks stand, move on and never go back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.clock import ManualClock, OffsetClock, SystemClock, from_micros, to_micros
from homeostat.core.durations import DurationInvalid, format_duration, parse_duration
from homeostat.core.errors import HomeostatError

LONGEST = 10**18
"""A span beyond any that is declared: more than 30,000 years."""


@given(st.integers(0, LONGEST))
def test_every_span_reads_back(micros: int) -> None:
    assert parse_duration(format_duration(micros)) == micros


@given(st.timedeltas(min_value=timedelta(0)))
def test_a_timedelta_is_its_microseconds(span: timedelta) -> None:
    assert timedelta(microseconds=parse_duration(span)) == span


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.sampled_from(["us", "ms", "s", "m", "h", "d", "w"])),
        min_size=1,
        max_size=5,
    )
)
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert parse_duration(text) == sum(parse_duration(f"{n}{u}") for n, u in parts)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0", 0), ("0s", 0), ("1us", 1), ("5ms", 5_000), ("90s", 90_000_000), ("2m", 120_000_000),
        ("1h30m", 5_400_000_000), ("1d", 86_400_000_000), ("1w", 604_800_000_000),
    ],
)  # fmt: skip
def test_units(text: str, micros: int) -> None:
    assert parse_duration(text) == micros


@pytest.mark.parametrize(
    "wrong",
    ["", " ", "1", "h", "1 h", "-1h", "+1h", "1.5h", "1H", "1h ", "1y", "1hh", "h1", "0.0", "1h-2m",
     timedelta(microseconds=-1), None, 3.5, b"1h"],
)  # fmt: skip
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    with pytest.raises(DurationInvalid, match="allowed: whole numbers with a unit"):
        parse_duration(wrong)  # type: ignore[arg-type]


def test_a_negative_span_is_not_written() -> None:
    with pytest.raises(DurationInvalid):
        format_duration(-1)


@given(
    st.datetimes(
        min_value=datetime(1700, 1, 1),  # noqa: DTZ001
        max_value=datetime(2300, 1, 1),  # noqa: DTZ001
        timezones=st.builds(timezone, st.timedeltas(timedelta(hours=-20), timedelta(hours=20))),
    )
)
def test_instants_read_back_in_every_zone(instant: datetime) -> None:
    assert from_micros(to_micros(instant)) == instant
    assert from_micros(to_micros(instant)).tzinfo is UTC


@given(st.integers(-(10**16), 10**16))
def test_microseconds_read_back(micros: int) -> None:
    assert to_micros(from_micros(micros)) == micros


def test_an_instant_without_zone_is_refused() -> None:
    with pytest.raises(HomeostatError, match="no time zone"):
        to_micros(datetime(2013, 1, 1))  # noqa: DTZ001


def test_a_manual_clock_stands_until_it_is_moved() -> None:
    clock = ManualClock(5)
    assert (clock.now(), clock.now()) == (5, 5)
    clock.advance_to(5)
    clock.advance_to(6)
    with pytest.raises(HomeostatError, match="cannot move back"):
        clock.advance_to(5)
    assert clock.now() == 6


def test_an_offset_clock_runs_at_the_pace_of_its_base() -> None:
    base = ManualClock(1_000)
    clock = OffsetClock(base, 50)
    assert clock.now() == 50
    base.advance_to(1_007)
    assert clock.now() == 57


def test_the_system_clock_counts_microseconds_since_1970() -> None:
    assert to_micros(datetime(2024, 1, 1, tzinfo=UTC)) < SystemClock().now() < LONGEST
