"""Instants of cron expressions, in UTC: there is no daylight saving time to be wrong about."""

from __future__ import annotations

from homeostat.core.clock import from_micros, to_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError

__all__ = ["CronInvalid", "last_run", "next_run"]


_MINUTE = 60_000_000


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
    try:
        return to_micros(next(CronSim(" ".join(fields), from_micros(start), reverse=reverse)))
    except CronSimError as error:
        raise CronInvalid(expression, str(error)) from error
    except StopIteration:
        raise CronInvalid(expression, "no instant within 50 years") from None
