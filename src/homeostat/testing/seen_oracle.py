"""Which records are events seen before, in plain Python: obviously right, and never forgetful."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from homeostat.core.durations import Micros

__all__ = ["SeenRecord", "expected_verdicts"]


@dataclass(frozen=True, slots=True)
class SeenRecord:
    """A record: the digests of its id and its content, its place, and when it became known."""

    tie: int
    content: int
    offset: int
    known: Micros


def expected_verdicts(
    records: Iterable[SeenRecord], horizon_us: Micros | None
) -> dict[int, tuple[int, int]]:
    """Return by offset the verdict (0 fresh, 1 duplicate, 2 conflict) and the content remembered.

    `records` is the whole log, in its order.

    >>> a, b = SeenRecord(7, 1, 0, 10), SeenRecord(7, 2, 1, 30)
    >>> expected_verdicts([a, b], 20), expected_verdicts([a, b], 19)
    ({0: (0, 0), 1: (2, 1)}, {0: (0, 0), 1: (0, 0)})
    """
    newest: dict[int, SeenRecord] = {}
    verdicts: dict[int, tuple[int, int]] = {}
    for record in records:
        entry = newest.get(record.tie)
        if entry is None or (horizon_us is not None and record.known - entry.known > horizon_us):
            newest[record.tie] = record
            verdicts[record.offset] = 0, 0
        else:
            verdicts[record.offset] = 2 - (record.content == entry.content), entry.content
    return verdicts
