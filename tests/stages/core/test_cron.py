"""Cron expressions against a plain reading of Debian's rules, day by day."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from homeostat.core.clock import from_micros, to_micros
from homeostat.core.cron import CronInvalid, last_run, next_run


def numbers(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


def holds(expression: str, day: datetime) -> bool:
    *_, dom, month, dow = expression.split()
    in_month = day.day in numbers(dom, 1, 31)
    in_week = (day.weekday() + 1) % 7 in {d % 7 for d in numbers(dow, 0, 7)}
    both = "*" in (dom[0], dow[0])
    in_days = in_month and in_week if both else in_month or in_week
    return day.month in numbers(month, 1, 12) and in_days


def part(rng: random.Random, low: int, high: int) -> str:
    first = rng.randint(low, high)
    last = rng.choice([first, rng.randint(first, high)])
    return rng.choice([str(first), f"{first}-{last}", f"{first}-{last}/{rng.randint(1, 9)}"])


def field(rng: random.Random, low: int, high: int) -> str:
    if rng.random() < 0.4:
        return rng.choice(["*", f"*/{rng.randint(1, high)}"])
    return ",".join(part(rng, low, high) for _ in range(rng.choice([1, 1, 2])))


def test_expressions_hold_on_the_days_they_say() -> None:
    rng, tried = random.Random(7), 0
    for _ in range(300):
        expression = f"30 6 {field(rng, 1, 31)} {field(rng, 1, 12)} {field(rng, 0, 7)}"
        start = datetime(2024, rng.randint(1, 12), rng.randint(1, 28), 7, tzinfo=UTC)
        days = (start + timedelta(days=n, minutes=-30) for n in range(1, 1_500))
        wanted = next((day for day in days if holds(expression, day)), None)
        if wanted is None:
            continue
        tried += 1
        assert from_micros(next_run(expression, to_micros(start))) == wanted, expression
        assert from_micros(last_run(expression, to_micros(wanted))) == wanted, expression
    assert tried > 250


@pytest.mark.parametrize(
    ("stepped", "plain"),
    [
        ("0 0 8-8/4 * *", "0 0 8 * *"), ("5-5/15 * * * *", "5 * * * *"),
        ("0 0 * feb-FEB/2 *", "0 0 * 2 *"), ("0 0 * * mon-1/3", "0 0 * * 1"),
        ("0 03-3/2 * * *", "0 3 * * *"), ("0 0 1,9-9/9,20-24/2 * *", "0 0 1,9,20,22,24 * *"),
    ],
)  # fmt: skip
def test_a_step_in_a_range_of_one_is_that_one(stepped: str, plain: str) -> None:
    at = to_micros(datetime(2024, 3, 4, 9, 7, tzinfo=UTC))
    for _ in range(5):
        assert next_run(stepped, at) == next_run(plain, at)
        at = next_run(stepped, at)


def test_a_step_without_a_range_is_refused_with_what_to_write() -> None:
    with pytest.raises(CronInvalid, match=r"'5/15' has a step without a range: 5-59/15, or 5;"):
        next_run("1,5/15 * * * *", 0)
    with pytest.raises(CronInvalid, match=r"'mon/2' has a step without a range: mon-6/2, or mon;"):
        next_run("0 0 * * mon/2", 0)


@pytest.mark.parametrize("expression", ["0 0 8-8/0 * *", "0 0 32-32/2 * *", "0 0 * 13-13/1 *"])
def test_a_range_of_one_is_still_checked(expression: str) -> None:
    with pytest.raises(CronInvalid):
        next_run(expression, 0)
