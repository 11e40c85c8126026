"""Where a declaration's mistakes go: raised on their line, or collected by a check."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from homeostat.core.durations import DurationInvalid, Micros, parse_duration
from homeostat.core.errors import DeclarationError, HomeostatError

__all__ = ["collecting", "duration", "identifier", "report", "require", "several", "span"]

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

_Collected = tuple[list[HomeostatError], Callable[[HomeostatError], None]]

_collected: ContextVar[_Collected | None] = ContextVar("mistakes", default=None)


@contextmanager
def collecting(
    seen: Callable[[HomeostatError], None] = lambda mistake: None,
) -> Iterator[list[HomeostatError]]:
    """Collect the mistakes of declarations made inside, instead of raising the first.

    `seen` is told of each where it is made, so that it can look where that is.

    >>> with collecting() as mistakes:
    ...     report(HomeostatError("one"))
    ...     report(HomeostatError("two"))
    >>> len(mistakes)
    2
    """
    found: list[HomeostatError] = []
    token = _collected.set((found, seen))
    try:
        yield found
    finally:
        _collected.reset(token)


def report(mistake: HomeostatError) -> None:
    """Raise `mistake`, or add it to the list of a surrounding `collecting()`."""
    collected = _collected.get()
    if collected is None:
        raise mistake
    found, seen = collected
    seen(mistake)
    found.append(mistake)


def require(holds: bool, where: str, found: str, allowed: str, next_step: str) -> None:
    """Report a `DeclarationError` unless `holds`."""
    if not holds:
        report(DeclarationError(where, found, allowed, next_step))


def duration(value: str | timedelta | Micros, where: str, field: str) -> Micros:
    """Return a declared duration in microseconds; whole numbers are already microseconds."""
    if isinstance(value, int):
        require(value >= 0, where, f"{field}={value}", "at least 0", "write a text such as '1h'")
        return max(value, 0)
    try:
        return parse_duration(value)
    except DurationInvalid:
        report(
            DeclarationError(
                where,
                f"{field}={value!r} is no duration",
                "whole numbers with a unit of us, ms, s, m, h, d or w",
                "write '90s', '1h30m' or '7d'",
            )
        )
        return 1  # more than nothing, so that one mistake is not told as two


def span(value: str | timedelta | Micros, where: str, field: str) -> Micros:
    """Return a declared duration that must be longer than nothing, in microseconds."""
    found = duration(value, where, field)
    require(found > 0, where, f"{field} of nothing", "a span of time", "write '1h' or '14d'")
    return found


def several(value: Any) -> tuple[Any, ...]:
    """Return `value` as a tuple; one thing alone, a text included, becomes a tuple of one.

    >>> several("carrier"), several(["carrier", "origin"])
    (('carrier',), ('carrier', 'origin'))
    """
    return tuple(value) if isinstance(value, list | tuple | Iterator) else (value,)


def identifier(kind: str, name: str) -> None:
    """Report a name that cannot also name a table, a column and a file.

    >>> identifier("model", "late_arrival")
    """
    require(
        isinstance(name, str) and _IDENTIFIER.fullmatch(name) is not None,
        f"{kind} {name!r}",
        "a name that cannot name a table, a column and a file",
        "letters, digits and _, beginning with a letter",
        "rename it, as in 'late_arrival'",
    )
