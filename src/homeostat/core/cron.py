"""Instants of cron expressions, in UTC: there is no daylight saving time to be wrong about."""

from __future__ import annotations

import re

from homeostat.core.clock import from_micros, to_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError

__all__ = ["CronInvalid", "last_run", "next_run"]


_MINUTE = 60_000_000

_NAMES = {
    name: number
    for names, first in (
        ("jan feb mar apr may jun jul aug sep oct nov dec", 1),
        ("sun mon tue wed thu fri sat", 0),
    )
    for number, name in enumerate(names.split(), first)
}
_LAST = (59, 23, 31, 12, 6)
_RANGELESS = re.compile(r"(\w+)/(\d+)", re.ASCII)
_STEPPED = re.compile(r"(\w+)-(\w+)/0*[1-9]\d*", re.ASCII)


class CronInvalid(HomeostatError, ValueError):
    """A text that is no cron expression, or one that never comes true."""

    def __init__(self, expression: object, found: str) -> None:
        self.found = found
        super().__init__(
            f"cron expression {expression!r}: {found}; allowed: minute, hour, day of month, month "
            "and day of week, as Debian's cron reads them, in UTC; write '0 3 * * *' for each day "
            "at three"
        )


def next_run(expression: str, after: Micros) -> Micros:
    """Return the first instant after `after` at which a cron expression holds.

    >>> from_micros(next_run("0 0 L 2 *", 0)).isoformat()
    '1970-02-28T00:00:00+00:00'
    """
    return _nearest(expression, after, reverse=False)


def last_run(expression: str, until: Micros) -> Micros:
    """Return the last instant that is not after `until` at which a cron expression holds.

    >>> last_run("0 * * * *", 7_200_000_000)
    7200000000
    """
    return _nearest(expression, until // _MINUTE * _MINUTE + _MINUTE, reverse=True)


def _nearest(expression: str, start: Micros, *, reverse: bool) -> Micros:
    from cronsim import CronSim, CronSimError

    fields = expression.split() if isinstance(expression, str) else ()
    if len(fields) != 5:
        raise CronInvalid(expression, f"{len(fields)} fields")
    for field, last in zip(fields, _LAST, strict=True):
        for part in field.split(","):
            found = _RANGELESS.fullmatch(part)
            if found is not None:  # Debian refuses it, others begin there, and some end there
                written = f"{found[1]}-{last}/{found[2]}, or {found[1]}"
                raise CronInvalid(expression, f"{part!r} has a step without a range: {written}")
    try:
        plain = " ".join(map(_without_idle_steps, fields))
        return to_micros(next(CronSim(plain, from_micros(start), reverse=reverse)))
    except CronSimError as error:
        raise CronInvalid(expression, str(error)) from error
    except StopIteration:
        raise CronInvalid(expression, "no instant within 50 years") from None


def _without_idle_steps(field: str) -> str:
    """Return a field with `a` for each `a-a/n`, which cronsim reads as steps from a to the end.

    >>> _without_idle_steps("8-8/4,1-5/2,MON-1/3")
    '8,1-5/2,MON'
    """
    return ",".join(
        found[1] if (found := _STEPPED.fullmatch(part)) and _same(found[1], found[2]) else part
        for part in field.split(",")
    )


def _same(one: str, other: str) -> bool:
    numbers = [_NAMES.get(text.lower(), text.lstrip("0") or "0") for text in (one, other)]
    return str(numbers[0]) == str(numbers[1])
