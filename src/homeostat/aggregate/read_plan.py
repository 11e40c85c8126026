"""How each feature of a view is read from what was found in its windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from homeostat.aggregate.arrays import Ints
from homeostat.aggregate.kernel import (
    AGE,
    COUNT,
    DEVIATION,
    ELSEWHERE,
    MEAN,
    PICK,
    SHARE,
    SUM,
    VARIANCE,
)
from homeostat.aggregate.layout import Layout, Read
from homeostat.aggregate.operations import SELECTIONS

__all__ = ["ReadPlan"]

_HOW = {
    "count": COUNT, "sum": SUM, "mean": MEAN, "share": SHARE, "variance": VARIANCE,
    "std": DEVIATION,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Which features are read how.

    `steps` is what `kernel.finalized` follows; `trends` are the columns, with their reads, that
    compare two windows.
    """

    steps: Ints
    trends: tuple[tuple[int, Read], ...]

    @classmethod
    def of(cls, layout: Layout) -> ReadPlan:
        """Plan the reads of a view."""
        named = zip((spec.operation for spec in layout.view.features()), layout.reads, strict=True)
        steps = [_step(name, read) for name, read in named]
        return cls(
            np.array(steps, np.int64),
            tuple((c, r) for c, r in enumerate(layout.reads) if r.trend),
        )


def _step(name: str, read: Read) -> tuple[int, int, int, int, int, int, int]:
    select = read.operation.select
    if select is not None:
        how = AGE if read.operation.of_time else PICK
        return how, read.window, read.signal, SELECTIONS.index(select), 0, 0, 0
    if name not in _HOW or read.trend:
        return ELSEWHERE, read.window, 0, 0, 0, 0, 0
    count, total = read.lanes[0], read.lanes[1 if len(read.lanes) > 1 else 0]
    square = read.lanes[2] if len(read.lanes) > 2 else (0,)
    width = len(square) if len(read.lanes) > 2 else 0
    return _HOW[name], read.window, count[0], total[0], len(total), square[0], width
