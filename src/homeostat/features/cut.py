"""The rows of one entity's record inside a window, for what loops do not read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from homeostat.aggregate.arrays import Bools, Ints
from homeostat.aggregate.layout import Gather
from homeostat.aggregate.summaries import Rows
from homeostat.core.durations import Micros
from homeostat.features.record import BEFORE, HEAVY, Record

__all__ = ["Cut"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A record without pages, read at `at` by a request with the tie `own` of its event (0: none).

    `rows` (n, width) begin with the sentinel.
    """

    shape: Record
    words: Ints
    rows: Ints
    at: Micros
    own: int

    @classmethod
    def of(cls, shape: Record, words: Ints, at: Micros, own: int) -> Cut:
        """Open a record."""
        _, end = shape.directory(words)
        return cls(shape, words, words[end:].reshape(-1, shape.width), at, own)

    def begin(self, start: Micros) -> int:
        """Return the first row at an instant or later."""
        return 1 + int(np.searchsorted(self.rows[1:, 0], start))

    def weights(self, start: Micros) -> list[int]:
        """Return the magnitudes of the sums of the window that begins at `start`."""
        is_whole, begin = start == BEFORE, 1 if start == BEFORE else self.begin(start)
        own, found = self._is_own(begin), list[int]()
        if is_whole:  # of all time it is left out as long as that is promised
            own &= self.rows[begin:, 0] >= self.at - self.shape.layout.view.own_kept
        for place, lane in enumerate(self.shape.heavy.tolist()):
            steps = np.abs(np.diff(self.rows[begin - 1 :, 2 + lane]))
            if is_whole:
                upper, lower = self.words[HEAVY + 2 * place : HEAVY + 2 * place + 2].tolist()
                found.append((upper << 31) + lower - sum(steps[own].tolist()))
            else:
                found.append(sum(steps[~own].tolist()))
        return found

    def gathered(self, gather: Gather, start: Micros) -> Sequence[float]:
        """Return the features of a summary over the window that begins at `start`."""
        summary = gather.summary
        if start == BEFORE:
            state = self.shape.whole.state(self.words, (summary, gather.signal))
            return summary.value(state, self.at)
        begin = self.begin(start)
        table = self.rows[begin:]
        values = table[:, 2 + self.shape.lanes + gather.signal].view(np.float64)
        rows = Rows(table[:, 0], table[:, 1], values)
        missing = np.isnan(values) | self._is_own(begin)
        if missing.any():
            rows = rows[~missing]
        return summary.value(summary.state(rows), self.at)

    def _is_own(self, begin: int) -> Bools:
        """Return which of the rows from `begin` on is the request's own: the last with its tie."""
        ties = self.rows[begin:, 1]
        found = np.zeros(len(ties), np.bool_)
        if self.own:
            found[np.flatnonzero(ties == self.own)[-1:]] = True
        return found
