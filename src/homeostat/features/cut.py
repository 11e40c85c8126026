"""The rows of one entity's record that lie inside a window, and what is read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

import numpy as np

from homeostat.aggregate.exact import WEIGHT_LIMIT, SumRefused
from homeostat.aggregate.layout import Gather, Read
from homeostat.aggregate.summaries import Rows
from homeostat.core.durations import Micros
from homeostat.features.record import BEFORE, Record

__all__ = ["Cut"]


@dataclass(slots=True)
class Cut:
    """The rows of a record from `begin` on, without the row `mine` (-1: none).

    Rows begin at the word `head`; row 0 is the sentinel, so a `begin` of 0 is the whole history.
    """

    shape: Record
    record: bytes
    at: Micros
    words: memoryview
    times: memoryview
    head: int
    count: int
    mine: int
    begin: int = 0

    @classmethod
    def of(cls, shape: Record, record: bytes, at: Micros, own: int | None) -> Cut:
        """Open a record for a read at `at`, by a request whose own event has the tie `own`."""
        words = memoryview(record).cast("q")
        head, width = shape.begin(words), shape.width
        count = (len(words) - head) // width
        mine = -1
        if own is not None:
            ties = np.frombuffer(words, np.int64)[head + 1 :: width]
            rows = np.flatnonzero(ties == own)
            mine = int(rows[-1]) if len(rows) and rows[-1] else -1
        return cls(shape, record, at, words, words[head::width], head, count, mine)

    def is_heavy(self) -> bool:
        """Whether a sum over everything the record ever held left its range."""
        heavy = len(self.shape.heavy)
        return max(self.words[2 : 2 + heavy], default=0) >= WEIGHT_LIMIT

    def sums_before(self, row: int) -> tuple[int, ...]:
        """Return the lanes of everything before a row."""
        place = self.head + (row - 1) * self.shape.width + 2
        return self.shape.lanes_format.unpack_from(self.record, place * 8)

    def without_own(self, sums: Sequence[int]) -> list[int]:
        """Return the sums without the request's own event."""
        after, before = self.sums_before(self.mine + 1), self.sums_before(self.mine)
        return [s - a + b for s, a, b in zip(sums, after, before, strict=True)]

    def watched(self, sums: Sequence[int]) -> list[int]:
        """Check the magnitudes of very large sums row by row, and undo their wrapping."""
        for place, lane in enumerate(self.shape.heavy, 2):
            if self.begin == 0:
                weight = int(self.words[place])
            else:
                steps = np.diff(self._table()[self.begin - 1 :, 2 + lane])
                if self.mine >= self.begin:
                    steps[self.mine - self.begin] = 0
                weight = sum(abs(step) for step in steps.tolist())
            if weight >= WEIGHT_LIMIT:
                raise SumRefused(f"view {self.shape.layout.view.name!r}")
        return [(word - BEFORE) % 2**64 + BEFORE for word in sums]

    def selected(self, read: Read) -> float:
        """Return a feature of the one event that is selected."""
        select = read.operation.select
        if select is None:
            return nan
        words, width = self.words, self.shape.width
        if self.begin == 0:
            time, _, bits = words[self.shape.kept[select, read.signal].at :][:3].tolist()
            if time == BEFORE:
                return nan
            value = float(np.int64(bits).view(np.float64))
            return (self.at - time) / 1e6 if read.operation.of_time else value
        first = self.head + self.begin * width
        signal = 2 + self.shape.layout.width + read.signal
        if select in ("least", "greatest"):
            values = np.frombuffer(self.record, np.float64)[first + signal :: width]
            if self.mine >= self.begin:
                values = np.delete(values, self.mine - self.begin)
            best = np.fmin if select == "least" else np.fmax
            return float(best.reduce(values, initial=nan))
        values_at = memoryview(self.record).cast("d")[first + signal :: width]
        count = len(values_at)
        for place in range(count - 1, -1, -1) if select == "latest" else range(count):
            value = values_at[place]
            if not isnan(value) and place + self.begin != self.mine:
                if not read.operation.of_time:
                    return value
                return (self.at - words[first + place * width]) / 1e6
        return nan

    def gathered(self, gather: Gather) -> Sequence[float]:
        """Return the features of a summary."""
        summary = gather.summary
        if self.begin == 0:
            state = self.shape.whole.state(self.record, self.words, (summary, gather.signal))
            return summary.value(state, self.at)
        table = self._table()[self.begin :]
        values = table[:, 2 + self.shape.layout.width + gather.signal].view(np.float64)
        rows = Rows(table[:, 0], table[:, 1], values)
        missing = np.isnan(values)
        if self.mine >= self.begin:
            missing[self.mine - self.begin] = True
        if missing.any():
            rows = rows[~missing]
        return summary.value(summary.state(rows), self.at)

    def _table(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """Return all rows, shape (count, width)."""
        return np.frombuffer(self.record, np.int64, offset=self.head * 8).reshape(
            self.count, self.shape.width
        )
