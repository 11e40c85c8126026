"""Durations written as people write them, held as whole microseconds."""

from __future__ import annotations

import re
from datetime import timedelta

from homeostat.core.errors import HomeostatError

__all__ = ["DurationInvalid", "Micros", "format_duration", "parse_duration"]

Micros = int
"""A span or an instant: whole microseconds (instants since 1970-01-01 UTC)."""

_UNITS: dict[str, int] = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PART = re.compile(r"(\d+)(us|ms|s|m|h|d|w)")


class DurationInvalid(HomeostatError, ValueError):
    """A text that is no duration."""

    def __init__(self, got: object) -> None:
        super().__init__(
            f"duration {got!r} is not understood; allowed: whole numbers with a unit of us, ms, s, "
            "m, h, d or w, such as '90s', '1h30m' or '7d'"
        )


def parse_duration(value: str | timedelta) -> Micros:
    """Return `value` in microseconds; raise `DurationInvalid` if it is no duration.

    >>> parse_duration("1h30m")
    5400000000
    >>> parse_duration(timedelta(milliseconds=5))
    5000
    """
    if isinstance(value, timedelta):
        micros = value // timedelta(microseconds=1)
        if micros < 0:
            raise DurationInvalid(value)
        return micros
    if not isinstance(value, str):
        raise DurationInvalid(value)
    if value == "0":
        return 0
    parts = _PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise DurationInvalid(value)
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def format_duration(micros: Micros) -> str:
    """Return the text in days and smaller units that `parse_duration` reads back to `micros`.

    >>> format_duration(5_400_000_000)
    '1h30m'
    """
    if micros < 0:
        raise DurationInvalid(micros)
    if micros == 0:
        return "0s"
    text = ""
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, micros = divmod(micros, _UNITS[unit])
        if count:
            text += f"{count}{unit}"
    return text
