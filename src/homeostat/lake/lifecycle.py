"""Which days of a table leave a tier: a pure function of the policy, the days and the instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros

__all__ = ["Ages", "Leaving", "leaving"]


@dataclass(frozen=True, slots=True)
class Ages:
    """Ages in microseconds at which a day leaves; None for never.

    `need` is what features, late events and labels still ask for: no younger day is deleted, none
    at all if it is None.
    """

    hot: Micros | None
    keep: Micros | None
    need: Micros | None


@dataclass(frozen=True, slots=True)
class Leaving:
    """The days of a table that move to the cold place, and those that are deleted, in order.

    `held` are days that the policy would delete, and that are still needed.
    """

    table: str
    move: tuple[date, ...] = ()
    delete: tuple[date, ...] = ()
    held: tuple[date, ...] = ()


def leaving(
    table: str, hot: Sequence[date], cold: Sequence[date], ages: Ages, now: Micros
) -> Leaving:
    """Return what leaves at an instant. The newest day of a table never does.

    A day has an age when its last instant has.

    >>> day, week = 86_400_000_000, [date(1970, 1, n) for n in range(1, 8)]
    >>> found = leaving("taps", week, [], Ages(hot=2 * day, keep=4 * day, need=3 * day), 7 * day)
    >>> [d.day for d in found.move], [d.day for d in found.delete]
    ([4, 5], [1, 2, 3])
    """
    newest = max((*hot, *cold), default=date.min)
    over = [day for day in sorted({*hot, *cold}) if day < newest]
    expired = [day for day in over if _is_aged(day, ages.keep, now)]
    delete = tuple(day for day in expired if _is_aged(day, ages.need, now))
    held = tuple(day for day in expired if day not in delete)
    move = tuple(
        day for day in over if day in hot and day not in delete and _is_aged(day, ages.hot, now)
    )
    return Leaving(table, move, delete, held)


def _is_aged(day: date, age: Micros | None, now: Micros) -> bool:
    """Whether all instants of a day are at least so old."""
    return age is not None and now >= age and day < from_micros(now - age).date()
