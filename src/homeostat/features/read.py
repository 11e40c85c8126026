"""Live features: the state of entities, read at one instant."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

import numpy as np

from homeostat.aggregate.arrays import Floats
from homeostat.aggregate.exact import WEIGHT_LIMIT, SumRefused
from homeostat.aggregate.layout import Layout, Read
from homeostat.aggregate.window import window_start
from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.core.ids import id_digest
from homeostat.core.store import Reader
from homeostat.declare.views import FeatureView
from homeostat.features.keys import KeyCodec
from homeostat.features.record import BEFORE, Record

__all__ = ["StateGone", "ViewReader"]


class StateGone(HomeostatError):
    """A read at an instant whose events the live state no longer holds."""

    def __init__(self, view: str, at: Micros) -> None:
        super().__init__(
            f"view {view!r}: a read at {from_micros(at).isoformat()} needs events that were "
            "evicted; allowed: instants from the latest known event on; compute older values "
            "from the lake (`point_in_time`)"
        )


@dataclass(frozen=True, slots=True)
class _Window:
    """One window and the features read over it, each with its column."""

    window: Micros | None
    hop: Micros
    reversible: tuple[tuple[int, Read], ...]
    selective: tuple[tuple[int, Read], ...]


class ViewReader:
    """Reads the features of a view from its records."""

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self._layout = Layout(view)
        self._record = Record(self._layout)
        self._codec = KeyCodec(view)
        reads = list(enumerate(self._layout.reads))
        self._windows = [
            _Window(
                window,
                hop,
                tuple((c, r) for c, r in reads if r.window == n and r.operation.one is not None),
                tuple((c, r) for c, r in reads if r.window == n and r.operation.one is None),
            )
            for n, (window, hop) in enumerate(self._layout.windows)
        ]
        nothing = [0] * self._layout.width
        self._nothing = [
            r.operation.one(nothing, r.lanes) if r.operation.one is not None else nan
            for r in self._layout.reads
        ]

    def read(
        self,
        reader: Reader,
        keys: Sequence[tuple[Any, ...]],
        at: Micros,
        own: Sequence[str | None] | None = None,
    ) -> Floats:
        """Return the features of each entity at `at`, float64 of shape (len(keys), features).

        `at` is not before the latest known time folded. `own` are the event ids of the requests
        themselves, needed if the view leaves them out. Raises `StateGone` where `at` is so old
        that evicted events would be needed.
        """
        found = np.empty((len(keys), len(self._nothing)))
        for row, parts in enumerate(keys):
            key = self._codec.key(parts)
            record = None if key is None else reader.get(key)
            if record is None:
                found[row] = self._nothing
                continue
            mine = own[row] if own is not None and self.view.exclude_own else None
            found[row] = self._entity(record, at, None if mine is None else id_digest(mine))
        return found

    def _entity(self, record: bytes, at: Micros, own: int | None) -> list[float]:
        shape = self._record
        words = memoryview(record).cast("q")
        head, width, lanes = shape.header, shape.width, self._layout.width
        count = (len(words) - head) // width
        times = words[head::width]
        newest = words[head + (count - 1) * width + 2 :][:lanes].tolist()
        mine = -1 if own is None else self._own_row(words, own)
        heavy = any(weight >= WEIGHT_LIMIT for weight in words[2 : 2 + len(shape.heavy)])
        found = self._nothing.copy()
        for window in self._windows:
            begin = 0
            if window.window is not None:
                start = window_start(at, window.window, window.hop)
                if words[0] >= start:
                    raise StateGone(self.view.name, at)
                begin = bisect_left(times, start, 1)
            if window.reversible:
                sums = newest
                if begin:
                    place = head + (begin - 1) * width + 2
                    base = words[place : place + lanes].tolist()
                    sums = [a - b for a, b in zip(newest, base, strict=True)]
                if mine >= begin > 0:
                    sums = self._without(sums, words, mine)
                if heavy:
                    sums = self._watched(sums, record, begin, mine)
                for column, read in window.reversible:
                    if read.operation.one is not None:
                        found[column] = read.operation.one(sums, read.lanes)
            for column, read in window.selective:
                found[column] = self._selected(read, record, words, (begin, mine, at))
        return found

    def _own_row(self, words: memoryview, own: int) -> int:
        """Return the row of the request's own event, or -1."""
        ties = np.frombuffer(words, np.int64)[self._record.header + 1 :: self._record.width]
        rows = np.flatnonzero(ties == own)
        return int(rows[-1]) if len(rows) and rows[-1] else -1

    def _without(self, sums: list[int], words: memoryview, row: int) -> list[int]:
        width, lanes = self._record.width, self._layout.width
        place = self._record.header + row * width + 2
        after = words[place : place + lanes].tolist()
        before = words[place - width : place - width + lanes].tolist()
        return [s - a + b for s, a, b in zip(sums, after, before, strict=True)]

    def _watched(self, sums: list[int], record: bytes, begin: int, mine: int) -> list[int]:
        """Check the magnitudes of very large sums row by row, and undo their wrapping."""
        words = np.frombuffer(record, np.int64)
        rows = words[self._record.header :].reshape(-1, self._record.width)
        for place, lane in enumerate(self._record.heavy, 2):
            if begin == 0:
                weight = int(words[place])
            else:
                steps = np.diff(rows[begin - 1 :, 2 + lane])
                if mine >= begin:
                    steps[mine - begin] = 0
                weight = sum(abs(step) for step in steps.tolist())
            if weight >= WEIGHT_LIMIT:
                raise SumRefused(f"view {self.view.name!r}")
        return [(word - BEFORE) % 2**64 + BEFORE for word in sums]

    def _selected(
        self, read: Read, record: bytes, words: memoryview, cut: tuple[int, int, Micros]
    ) -> float:
        begin, mine, at = cut
        select = read.operation.select
        if select is None:
            return nan
        if begin == 0:
            time, _, bits = words[self._record.kept[select, read.signal].at :][:3].tolist()
            if time == BEFORE:
                return nan
            value = float(np.int64(bits).view(np.float64))
            return (at - time) / 1e6 if read.operation.of_time else value
        head, width = self._record.header, self._record.width
        first = head + begin * width
        signal = 2 + self._layout.width + read.signal
        if select in ("least", "greatest"):
            values = np.frombuffer(record, np.float64)[first + signal :: width]
            if mine >= begin:
                values = np.delete(values, mine - begin)
            best = np.fmin if select == "least" else np.fmax
            return float(best.reduce(values, initial=nan))
        values_at = memoryview(record).cast("d")[first + signal :: width]
        count = len(values_at)
        for place in range(count - 1, -1, -1) if select == "latest" else range(count):
            value = values_at[place]
            if not isnan(value) and place + begin != mine:
                return (
                    (at - words[first + place * width]) / 1e6 if read.operation.of_time else value
                )
        return nan
