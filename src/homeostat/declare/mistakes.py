"""Where a declaration's mistakes go: raised on their line, or collected by a check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

from homeostat.core.durations import DurationInvalid, Micros, parse_duration
from homeostat.core.errors import DeclarationError, HomeostatError

__all__ = ["collecting", "duration", "report", "require"]

_collected: ContextVar[list[HomeostatError] | None] = ContextVar("mistakes", default=None)


@contextmanager
def collecting() -> Iterator[list[HomeostatError]]:
    """Collect the mistakes of declarations made inside, instead of raising the first.

    >>> with collecting() as mistakes:
    ...     report(HomeostatError("one"))
    ...     report(HomeostatError("two"))
    >>> len(mistakes)
    2
    """
    found: list[HomeostatError] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def report(mistake: HomeostatError) -> None:
    """Raise `mistake`, or add it to the list of a surrounding `collecting()`."""
    found = _collected.get()
    if found is None:
        raise mistake
    found.append(mistake)


def require(holds: bool, where: str, found: str, allowed: str, next_step: str) -> None:
    """Report a `DeclarationError` unless `holds`."""
    if not holds:
        report(DeclarationError(where, found, allowed, next_step))


def duration(value: str | timedelta | Micros, where: str, field: str) -> Micros:
    """Return a declared duration in microseconds; whole numbers are already microseconds."""
    if isinstance(value, int):
        require(value >= 0, where, f"{field}={value}", "at least 0", "write a text such as '1h'")
        return value
    try:
        return parse_duration(value)
    except DurationInvalid as invalid:
        report(DeclarationError(where, f"{field}: {invalid}", "a duration", "write '90s' or '7d'"))
        return 0
