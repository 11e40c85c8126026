"""Live features: the state of entities, read at one instant."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from homeostat.aggregate.arrays import Floats
from homeostat.aggregate.layout import Gather, Layout, Read
from homeostat.aggregate.operations import compared_one
from homeostat.aggregate.window import window_start
from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.core.ids import id_digest
from homeostat.core.store import Reader
from homeostat.declare.views import FeatureView
from homeostat.features.cut import Cut
from homeostat.features.keys import KeyCodec
from homeostat.features.record import Record
from homeostat.features.whole import empty_state

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
    """One window and the features read over it, each with its column.

    `is_compared` says that a trend needs its sums.
    """

    number: int
    window: Micros | None
    hop: Micros
    reversible: tuple[tuple[int, Read], ...]
    selective: tuple[tuple[int, Read], ...]
    gathers: tuple[Gather, ...]
    is_compared: bool

    @classmethod
    def of(cls, layout: Layout, number: int) -> _Window:
        here = [(c, r) for c, r in enumerate(layout.reads) if r.window == number and not r.trend]
        trends = [read for read in layout.reads if read.trend]
        return cls(
            number,
            *layout.windows[number],
            tuple((c, r) for c, r in here if r.operation.one is not None),
            tuple((c, r) for c, r in here if r.operation.select is not None),
            tuple(gather for gather in layout.gathers if gather.window == number),
            any(number in (read.window, read.longer) for read in trends),
        )


class ViewReader:
    """Reads the features of a view from its records."""

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self._layout = Layout(view)
        self._record = Record(self._layout)
        self._codec = KeyCodec(view)
        self._windows = [_Window.of(self._layout, n) for n in range(len(self._layout.windows))]
        self._trends = [(c, r) for c, r in enumerate(self._layout.reads) if r.trend]
        self._nothing = self._empty()

    def _empty(self) -> list[float]:
        """Return the features of an entity without events."""
        sums = [0] * self._layout.width
        found = [
            nan if r.operation.one is None else r.operation.one(sums, r.lanes)
            for r in self._layout.reads
        ]
        for column, read in self._trends:
            found[column] = compared_one(found[column], found[column], read.trend)
        for gather in self._layout.gathers:
            values = gather.summary.value(empty_state(gather.summary), 0)
            for column, part in zip(gather.columns, gather.parts, strict=True):
                found[column] = values[part]
        return found

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
        cut = Cut.of(self._record, record, at, own)
        heavy, newest = cut.is_heavy(), cut.sums_before(cut.count)
        found = self._nothing.copy()
        kept: dict[int, Sequence[int]] = {}
        for window in self._windows:
            cut.begin = 0
            if window.window is not None:
                start = window_start(at, window.window, window.hop)
                if cut.words[0] >= start:
                    raise StateGone(self.view.name, at)
                cut.begin = bisect_left(cut.times, start, 1)
            if window.reversible or window.is_compared:
                sums: Sequence[int] = newest
                if cut.begin:
                    base = cut.sums_before(cut.begin)
                    sums = [a - b for a, b in zip(newest, base, strict=True)]
                    if cut.mine >= cut.begin:
                        sums = cut.without_own(sums)
                if heavy:
                    sums = cut.watched(sums)
                for column, read in window.reversible:
                    if read.operation.one is not None:
                        found[column] = read.operation.one(sums, read.lanes)
                if window.is_compared:
                    kept[window.number] = sums
            for column, read in window.selective:
                found[column] = cut.selected(read)
            for gather in window.gathers:
                values = cut.gathered(gather)
                for column, part in zip(gather.columns, gather.parts, strict=True):
                    found[column] = values[part]
        for column, read in self._trends:
            found[column] = _trend(read, kept[read.window], kept[read.longer])
        return found


def _trend(read: Read, now: Sequence[int], longer: Sequence[int]) -> float:
    """Compare a window's sums with those of the window before, the rest of the longer one."""
    one = read.operation.one
    if one is None:
        return nan
    before = [a - b for a, b in zip(longer, now, strict=True)]
    return compared_one(one(now, read.lanes), one(before, read.lanes), read.trend)
