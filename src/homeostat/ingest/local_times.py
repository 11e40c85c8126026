"""Local times of the hour that comes twice when the clocks go back."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

__all__ = ["is_repeated", "repeated_since"]


def is_repeated(value: object, zone: ZoneInfo | None) -> bool:
    """Return whether an instant, or its text, has no zone and comes twice in `zone`.

    >>> berlin = ZoneInfo("Europe/Berlin")
    >>> is_repeated("2024-10-27 02:30:00", berlin), is_repeated("2024-10-27 02:30:00Z", berlin)
    (True, False)
    """
    return _span(_local(value), zone) > timedelta()


def repeated_since(value: object, zone: ZoneInfo | None) -> object:
    """Return the beginning of the repeated hour that a local time lies in, else the value itself.

    >>> repeated_since("2024-10-27 02:59:00", ZoneInfo("Europe/Berlin"))
    '2024-10-27 02:00:00'
    """
    local = _local(value)
    span = _span(local, zone)
    if local is None or not span:
        return value
    before, within = local - span, local
    while within - before > timedelta(microseconds=1):
        middle = before + (within - before) / 2
        before, within = (before, middle) if _span(middle, zone) else (middle, within)
    return within.isoformat(sep=value[10:11] or " ") if isinstance(value, str) else within


def _local(value: object) -> datetime | None:
    """Return an instant without a zone, None for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, datetime) and value.tzinfo is None else None


def _span(local: datetime | None, zone: ZoneInfo | None) -> timedelta:
    """Return how much comes twice where a local time does, nothing where it comes once."""
    if local is None or zone is None:
        return timedelta()
    first, second = (local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    if first is None or second is None:
        return timedelta()
    return max(first - second, timedelta())  # less than nothing: an hour that is left out
