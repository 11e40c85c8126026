"""Numbers and dates as the report and the terminal write them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

__all__ = [
    "clock",
    "days",
    "many",
    "month_name",
    "percent",
    "short_name",
    "signed",
    "three",
    "two",
    "whole",
]

SHORT = {"final": "ours", "frozen": "frozen", "without_streaming": "no streaming"}


def three(value: float) -> str:
    """Return a number with three decimals, nothing for one that is missing.

    >>> three(0.75), three(float("nan"))
    ('0.750', '')
    """
    return f"{value:.3f}" if math.isfinite(value) else ""


def two(value: float) -> str:
    """Return a number with two decimals, nothing for one that is missing."""
    return f"{value:.2f}" if math.isfinite(value) else ""


def whole(value: float) -> str:
    """Return a whole number with its thousands apart, nothing for one that is missing."""
    return f"{value:,.0f}" if math.isfinite(value) else ""


def percent(value: float) -> str:
    """Return a share in per cent, nothing for one that is missing."""
    return f"{value:.1%}" if math.isfinite(value) else ""


def signed(value: float) -> str:
    """Return a difference with its sign, three decimals.

    >>> signed(-0.01)
    '−0.010'
    """
    return f"{value:+.3f}".replace("-", "−") if math.isfinite(value) else ""


def many(count: float, noun: str) -> str:
    """Return a count with its noun.

    >>> many(1, "model"), many(2, "model")
    ('1 model', '2 models')
    """
    return f"{count:,.0f} {noun}" if count == 1 else f"{count:,.0f} {noun}s"


def clock(seconds: float) -> str:
    """Return a span of wall time.

    >>> clock(187.4), clock(42.0)
    ('3 min 07 s', '42 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def days(start: datetime, end: datetime) -> str:
    """Return a period by its first and last day; an end at midnight is the day before."""
    end -= timedelta(microseconds=1)
    first = f"{start.day} {start:%B}" + ("" if start.year == end.year else f" {start.year}")
    return f"{first} to {end.day} {end:%B %Y}"


def month_name(month: str) -> str:
    """Return the name of a month given as 2013-05; other texts as they are.

    >>> month_name("2013-05")
    'May 2013'
    """
    try:
        return f"{datetime.strptime(month + '-01+0000', '%Y-%m-%d%z'):%b %Y}"
    except ValueError:
        return month


def short_name(model: str) -> str:
    """Return the name of a compared model at the head of a column."""
    return SHORT.get(model, model.replace("_", " "))
