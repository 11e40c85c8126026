"""How each feature of a view is read from what was found in its windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from homeostat.aggregate.arrays import Ints
from homeostat.aggregate.kernel import AGE, COUNT, ELSEWHERE, MEAN, PICK, SHARE, SUM
from homeostat.aggregate.layout import Layout, Read
from homeostat.aggregate.operations import SELECTIONS

__all__ = ["ReadPlan"]

_HOW = {"count": COUNT, "sum": SUM, "mean": MEAN, "share": SHARE}


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Which features are read how.

    `steps` is what `kernel.finalized` follows; `sums` are the columns, with their reads, that are
    computed from the sums of a window in whole numbers of any size, and `trends` those that
    compare two windows. `watched` are the windows whose sums some feature reads.
    """

    steps: Ints
    sums: tuple[tuple[int, Read], ...]
    trends: tuple[tuple[int, Read], ...]
    watched: tuple[int, ...]

    @classmethod
    def of(cls, layout: Layout) -> ReadPlan:
        """Plan the reads of a view."""
        named = zip((spec.operation for spec in layout.view.features()), layout.reads, strict=True)
        steps = [_step(name, read) for name, read in named]
        from_sums = [(c, r) for c, r in enumerate(layout.reads) if r.operation.one is not None]
        return cls(
            np.array(steps, np.int64),
            tuple((c, r) for c, r in from_sums if steps[c][0] == ELSEWHERE and not r.trend),
            tuple((c, r) for c, r in from_sums if r.trend),
            tuple(sorted({w for _, r in from_sums for w in (r.window, r.longer) if w >= 0})),
        )


def _step(name: str, read: Read) -> tuple[int, int, int, int, int]:
    select = read.operation.select
    if select is not None:
        how = AGE if read.operation.of_time else PICK
        return how, read.window, read.signal, SELECTIONS.index(select), 0
    if name not in _HOW or read.trend:
        return ELSEWHERE, read.window, 0, 0, 0
    first, last = read.lanes[0], read.lanes[-1]
    return _HOW[name], read.window, first[0], last[0], len(last)
