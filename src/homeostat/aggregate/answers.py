"""The features of queries, from the pieces of their windows: every state is reduced once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from homeostat.aggregate.arrays import Bools, Floats, Ints
from homeostat.aggregate.block import Block
from homeostat.aggregate.exact import WEIGHT_LIMIT
from homeostat.aggregate.families import Aggregation, Extreme, Nearest, Sums
from homeostat.aggregate.gathered import Gathered
from homeostat.aggregate.layout import Gather, Layout, Read
from homeostat.aggregate.operations import OPERATIONS, SUMMARIZED, Totals, compared
from homeostat.aggregate.windows import Pieces

__all__ = ["Answers"]

V = TypeVar("V")
X = TypeVar("X")
S = TypeVar("S")


class Answers:
    """Reduces the windows of a block's queries at the instants `at`, and finalizes features.

    `windows` are the pieces of the queries per window of the layout. Windows that are read alike
    are stacked: one long array of pieces instead of several short ones. `not_exact` is, after
    `table`, how many values of each feature are missing because they cannot be computed exactly.
    """

    def __init__(self, layout: Layout, block: Block, at: Ints, windows: Sequence[Pieces]) -> None:
        self._layout, self._block, self._at, self._windows = layout, block, at, windows
        self.not_exact = np.zeros(len(layout.reads), np.int64)

    def table(self) -> Floats:
        """Return the features, float64 of shape (queries, features)."""
        found = np.empty((len(self._at), len(self._layout.reads)))
        self._sum(found)
        alike: dict[Any, list[tuple[int, Read]]] = {}
        for column, read in enumerate(self._layout.reads):
            if read.operation.select is not None:
                alike.setdefault((read.operation, read.signal), []).append((column, read))
        for reads in alike.values():
            self._select(reads, found)
        for gather in self._layout.gathers:
            found[:, gather.columns] = self._gathered(gather)[:, gather.parts]
        if self._block.weights:
            self._leave_out(found)
        return found

    def _sum(self, found: Floats) -> None:
        """Write what is read from sums."""
        reads = [
            (column, read)
            for column, read in enumerate(self._layout.reads)
            if read.operation.select is None and read.operation is not SUMMARIZED
        ]
        if not reads:
            return
        if all(window.single for window in self._windows):
            reads = self._sum_slices(found)
        self._sum_pieces(reads, found)

    def _sum_slices(self, found: Floats) -> list[tuple[int, Read]]:
        """Write what is read from sums of one slice per window; return the reads that are left."""
        from homeostat.aggregate.kernel import finalized_sums
        from homeostat.aggregate.read_plan import ReadPlan

        plan = ReadPlan.of(self._layout)
        begin = np.stack([window.begin for window in self._windows])
        end = np.stack([window.end for window in self._windows])
        finalized_sums(plan.steps, self._block.running, begin, end, found)
        return list(plan.trends)

    def _sum_pieces(self, reads: Sequence[tuple[int, Read]], found: Floats) -> None:
        """Write what is read from the sums of windows that may be in pieces."""
        if not reads:
            return
        spans = sorted({w for _, r in reads for w in (r.window, r.longer) if w >= 0})
        pieces = self._stacked(spans)
        adding = Sums(OPERATIONS["count"], ())
        totals = Totals(_states(adding, self._block.running, pieces))
        place = {window: self._place(spans, window) for window in spans}
        made: dict[Any, Floats] = {}
        for column, read in reads:
            if read.trend:
                now = totals.sums[place[read.window]]
                before = totals.sums[place[read.longer]] - now
                family = Sums(read.operation, read.lanes)
                value, past = (family.finalize(sums, self._at) for sums in (now, before))
                found[:, column] = compared(value, past, read.trend)
                continue
            key = (read.operation.columns, read.lanes)
            if key not in made:
                made[key] = read.operation.values(totals, read.lanes)
            found[:, column] = made[key][place[read.window]]

    def _leave_out(self, found: Floats) -> None:
        """Make what is read from sums missing where their magnitudes leave the exact range."""
        adding = Sums(OPERATIONS["count"], ())
        for column, read, place in self._layout.weighed:
            if place not in self._block.weights:
                continue
            index = self._block.weights[place]
            weight = _states(adding, index, self._windows[read.window])
            beyond = _is_beyond(weight)
            if read.trend:
                longer = _states(adding, index, self._windows[read.longer])
                beyond |= _is_beyond(longer - weight)
            found[beyond, column] = np.nan
            self.not_exact[column] += int(beyond.sum())

    def _select(self, reads: Sequence[tuple[int, Read]], found: Floats) -> None:
        """Write what is read from selected events of one signal."""
        operation, values = reads[0][1].operation, self._block.values[reads[0][1].signal]
        spans = sorted({read.window for _, read in reads})
        pieces, at = self._stacked(spans), np.tile(self._at, len(spans))
        if operation.select in ("least", "greatest"):
            extreme = Extreme(operation.select)
            made = extreme.finalize(_states(extreme, values, pieces), at)
        elif operation.select is not None:
            picked = self._block.rows if operation.of_row else values
            nearest = Nearest(operation.select, self._block.times, picked, operation.of_time)
            made = nearest.finalize(_states(nearest, nearest.prepare(values), pieces), at)
        for column, read in reads:
            found[:, column] = made[self._place(spans, read.window)]

    def _gathered(self, gather: Gather) -> Floats:
        block = self._block
        family = Gathered(gather.summary, block.times, block.ties)
        index = family.prepare(block.values[gather.signal])
        return family.finalize(_states(family, index, self._windows[gather.window]), self._at)

    def _place(self, spans: Sequence[int], window: int) -> slice:
        n, number = len(self._at), spans.index(window)
        return slice(number * n, number * n + n)

    def _stacked(self, spans: Sequence[int]) -> Pieces:
        """Return the pieces of several windows, one window after the other."""
        windows = [self._windows[span] for span in spans]
        if len(windows) == 1:
            return windows[0]
        before = np.cumsum([0, *(len(w.begin) for w in windows[:-1])]).tolist()
        return Pieces(
            np.concatenate([w.begin for w in windows]),
            np.concatenate([w.end for w in windows]),
            np.concatenate([w.first + n for w, n in zip(windows, before, strict=True)]),
            all(w.single for w in windows),
        )


def _states(family: Aggregation[V, X, S], index: X, pieces: Pieces) -> S:
    """Return the state of each query from those of its pieces."""
    found = family.reduce(index, pieces.begin, pieces.end)
    return found if pieces.single else family.merge(found, pieces.first)


def _is_beyond(weight: Ints) -> Bools:
    """Return where magnitudes, as upper and lower 31 bits, leave the exact range."""
    found: Bools = weight[:, 0] + (weight[:, 1] >> 31) >= WEIGHT_LIMIT >> 31
    return found
