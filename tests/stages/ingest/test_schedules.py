"""Runs are due at the instants of a schedule, whatever the calendar and the clock do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import from_micros, to_micros
from homeostat.core.cron import CronInvalid, last_run, next_run
from homeostat.core.errors import DeclarationError
from homeostat.declare.feeds import Schedule
from homeostat.ingest.schedules import Due, due

MINUTE = 60_000_000


def at(text: str) -> int:
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


def said(instant: int) -> str:
    return from_micros(instant).isoformat(sep=" ").removesuffix("+00:00")


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 0 29 2 *", "2024-02-29 00:00", "2028-02-29 00:00:00"),
        ("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00:00"),
        ("0 6 31 * *", "2024-01-31 06:00", "2024-03-31 06:00:00"),
        ("59 23 L * *", "2023-02-01 00:00", "2023-02-28 23:59:00"),
        ("0 0 1 1 *", "2024-12-31 23:59:59.999999", "2025-01-01 00:00:00"),
        ("30 2 * * *", "2024-03-31 01:59", "2024-03-31 02:30:00"),
        ("0 9 * * MON-FRI", "2024-03-01 09:00", "2024-03-04 09:00:00"),
        ("*/15 * * * *", "2024-03-01 09:00:00.000001", "2024-03-01 09:15:00"),
    ],
)
def test_the_next_instant_of_a_cron_expression(expression: str, after: str, expected: str) -> None:
    found = next_run(expression, at(after))
    assert said(found) == expected
    assert last_run(expression, found) == found
    assert last_run(expression, found - 1) <= at(after) < found


@given(
    minute=st.sampled_from(["*", "*/7", "0", "5,50", "59"]),
    hour=st.sampled_from(["*", "0", "23", "1-3"]),
    day=st.sampled_from(["*", "1", "29", "31"]),
    now=st.datetimes(datetime(2023, 12, 28), datetime(2024, 3, 4)),  # noqa: DTZ001
)
def test_cron_agrees_with_looking_at_every_minute(
    minute: str, hour: str, day: str, now: datetime
) -> None:
    def holds(instant: datetime) -> bool:
        return (
            _is_in(minute, instant.minute)
            and _is_in(hour, instant.hour)
            and _is_in(day, instant.day)
        )

    expression, instant = f"{minute} {hour} {day} * *", to_micros(now.replace(tzinfo=UTC))
    whole = now.replace(second=0, microsecond=0)
    later = whole + timedelta(minutes=1)
    while not holds(later):
        later += timedelta(minutes=1)
    earlier = whole
    while not holds(earlier):
        earlier -= timedelta(minutes=1)
    assert said(next_run(expression, instant)) == later.isoformat(sep=" ")
    assert said(last_run(expression, instant)) == earlier.isoformat(sep=" ")


def _is_in(field: str, value: int) -> bool:
    if field.startswith("*"):
        return value % int(field[2:] or 1) == 0
    parts = [part.partition("-") for part in field.split(",")]
    return any(int(low) <= value <= int(high or low) for low, _, high in parts)


@pytest.mark.parametrize(
    "expression", ["", "@daily", "* * * *", "61 * * * *", "* * * * * *", "0 0 30 2 *", "0 0 31 2 *"]
)
def test_what_is_no_cron_expression_is_told_in_the_declaration(expression: str) -> None:
    with pytest.raises(CronInvalid, match="allowed: minute, hour"):
        next_run(expression, 0)
    with pytest.raises(DeclarationError, match="write '0 3 \\* \\* \\*' for each day at three"):
        hs.Folder("in", cron=expression)


HOURLY = Schedule(every=60 * MINUTE, cron=None)
DAILY = Schedule(every=None, cron="0 3 * * *")


def test_a_new_source_runs_at_once_or_at_its_first_instant() -> None:
    now = at("2024-03-01 09:30")
    assert due(HOURLY, None, now).planned == at("2024-03-01 09:00")
    assert due(DAILY, None, now) == Due(None, now, at("2024-03-02 03:00"))


def test_missed_runs_are_caught_up_once_or_each() -> None:
    last, now = at("2024-02-27 03:00"), at("2024-03-01 09:30")
    assert due(DAILY, last, now).planned == at("2024-03-01 03:00")
    each = Schedule(every=None, cron="0 3 * * *", catch_up="each")
    made = []
    while (planned := due(each, last, now).planned) is not None:
        made.append(said(planned)[8:10])
        last = planned
    assert made == ["28", "29", "01"]


def test_a_run_is_due_to_the_microsecond_and_once() -> None:
    planned = at("2024-03-01 10:00")
    last = at("2024-03-01 09:00")
    assert due(HOURLY, last, planned - 1) == Due(None, None, planned)
    assert due(HOURLY, last, planned).planned == planned
    assert due(HOURLY, planned, planned) == Due(None, None, planned + 60 * MINUTE)


def test_a_clock_that_goes_back_a_little_makes_no_run_twice() -> None:
    made = at("2024-03-01 03:00")
    found = due(DAILY, made, at("2024-03-01 02:59:59"))
    assert found == Due(None, None, at("2024-03-02 03:00"))


def test_a_clock_that_was_far_ahead_does_not_stop_the_schedule() -> None:
    now = at("2024-03-01 09:30")
    found = due(DAILY, at("2025-03-01 03:00"), now)
    assert (found.planned, found.anchor) == (None, at("2024-03-01 03:00"))
    assert due(DAILY, found.anchor, at("2024-03-02 03:00")).planned == at("2024-03-02 03:00")


@given(
    schedule=st.sampled_from([HOURLY, DAILY, Schedule(every=7 * MINUTE, cron=None)]),
    moves=st.lists(st.integers(-3 * 24 * 60, 3 * 24 * 60), min_size=1, max_size=12),
)
def test_however_the_clock_moves_runs_go_on(schedule: Schedule, moves: list[int]) -> None:
    last, now, made = None, at("2024-02-28 12:34:56"), []
    for move in [*moves, 2 * 24 * 60]:
        now += move * MINUTE
        found = due(schedule, last, now)
        assert found.next > now
        last = last if found.anchor is None else found.anchor
        if found.planned is not None:
            assert found.planned <= now
            assert last is None or found.planned > last
            last = found.planned
            made.append(last)
    assert due(schedule, last, now + 4 * 24 * 60 * MINUTE).planned is not None, "it never stalls"
