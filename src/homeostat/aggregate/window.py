"""The one boundary predicate of a window; everything that cuts a window asks here."""

from __future__ import annotations

from typing import TypeVar

from homeostat.aggregate.arrays import Ints
from homeostat.core.durations import Micros

__all__ = ["window_start"]

Instant = TypeVar("Instant", int, Ints)


def window_start(at: Instant, window: Micros, hop: Micros) -> Instant:
    """Return the earliest event time inside the window that ends at `at`: floor_h(at - window).

    An event is in the window if its time is at least this one; nothing bounds it from above but
    what is known (DESIGN.md, section 4). `at` is one instant or an array of them, microseconds.

    >>> window_start(1_000, 300, 0), window_start(1_000, 300, 250), window_start(-10, 5, 10)
    (700, 500, -20)
    """
    tail = at - window
    return tail if hop == 0 else tail // hop * hop
