"""Loops over rows, shared among the cores of the process.

A loop over rows `[begin, end)` that writes to those rows alone, and reads nothing that it writes,
leaves the same behind whoever does which rows. Compiled loops let others run meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["RowThreads", "cores"]

FEWEST_ROWS = 16_384
"""A thread is not worth its start, a tenth of a millisecond, for fewer rows."""

MOST = 8
"""More threads wait for each other, and for the memory."""


def cores() -> int:
    """Return how many cores this process may use.

    >>> cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class RowThreads:
    """Runs loops over rows, in equal parts side by side; threads end with the loop.

    Args:
        most: how many parts there are at most; None for one per core, up to `MOST`.
        fewest_rows: how many rows a part has at least.

    >>> done = [0] * 5
    >>> def double(begin: int, end: int) -> None:
    ...     done[begin:end] = [2 * row for row in range(begin, end)]
    >>> RowThreads(most=3, fewest_rows=1).run(5, double)
    >>> done
    [0, 2, 4, 6, 8]
    """

    most: int | None = None
    fewest_rows: int = FEWEST_ROWS

    def run(self, rows: int, loop: Callable[[int, int], None]) -> None:
        """Call `loop(begin, end)` until all rows are done; raise what a call raises."""
        parts = rows // self.fewest_rows
        if parts > 1:
            parts = min(parts, min(cores(), MOST) if self.most is None else self.most)
        if parts <= 1:
            loop(0, rows)
            return
        cuts = [rows * part // parts for part in range(parts + 1)]
        with ThreadPoolExecutor(parts - 1, "homeostat-rows") as pool:
            others = [pool.submit(loop, *cut) for cut in pairwise(cuts[1:])]
            loop(*cuts[:2])
            for other in others:
                other.result()
