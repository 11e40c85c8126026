"""Live features: the state of entities, read at one instant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.exact import WEIGHT_LIMIT
from homeostat.aggregate.layout import Layout, Read
from homeostat.aggregate.operations import compared_one
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.core.ids import event_tie
from homeostat.core.store import Reader, Snapshot
from homeostat.declare.views import FeatureView
from homeostat.features.cut import Cut
from homeostat.features.keys import KeyCodec, view_prefix
from homeostat.features.live_windows import LiveWindows, StateGone, Stored
from homeostat.features.whole import empty_state

__all__ = ["NotExact", "StateGone", "ViewReader"]


class NotExact(HomeostatError, ArithmeticError):
    """Why a value is missing: a sum left the range in which it is exact. It is told, not raised."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where}: the values of a window add up to 2^52 or more in magnitude, or one of them "
            "is that large; allowed: sums below 2^52 (2^62 for whole numbers); the value is "
            "missing for that entity: change the unit of the column, shorten the window, or leave "
            "large values out (where=)"
        )


class ViewReader:
    """Reads the features of a view from its records.

    Args:
        view: the declared view.
        told: told the name of a feature for each of its values that is missing because it cannot
            be computed exactly.
    """

    def __init__(self, view: FeatureView, told: Callable[[str], None] = lambda name: None) -> None:
        from homeostat.aggregate.kernel import finalized
        from homeostat.aggregate.read_plan import ReadPlan

        self.view, self._told = view, told
        self._layout = Layout(view)
        self._plan = ReadPlan.of(self._layout)
        self._windows = LiveWindows(view, self._layout)
        self._codec = KeyCodec(view)
        id_field = view.source.schema.field(view.source.event_id, view.name)
        self._is_numbered = id_field.kind == "integer"
        self._finalize = finalized
        self._nothing = self._empty()

    def _empty(self) -> list[float]:
        """Return the features of an entity without events."""
        sums = [0] * self._layout.width
        found = [
            nan if r.operation.one is None else r.operation.one(sums, r.lanes)
            for r in self._layout.reads
        ]
        for column, read in self._plan.trends:
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
        themselves, None where nobody asks: the view leaves their events out. Raises `StateGone`
        where `at` is so old that evicted events would be needed.
        """
        found = np.empty((len(keys), len(self._nothing)))
        if not len(keys):
            return found
        left_out = own if self.view.own_id else None
        stored = []
        for place, parts in enumerate(keys):
            key = self._codec.key(parts)
            record = b"" if key is None else self._windows.record(reader, key)
            mine = None if left_out is None else left_out[place]
            stored.append(Stored(key or b"", record, 0 if mine is None else self._tie(mine)))
        self._read(reader, stored, at, found)
        return found

    def warm(self, reader: Snapshot, at: Micros) -> None:
        """Read an entity that is there, so that the first request finds all compiled code loaded.

        Where none is there, that of none is read: then this is all that a request needs, too.
        """
        first = next(iter(reader.scan(view_prefix(self.view))), None)
        key = b"" if first is None else first[0]
        record = b"" if first is None else self._windows.record(reader, key)
        own = 1 if self.view.own_id else 0
        self._read(reader, [Stored(key, record, own)], at, np.empty((1, len(self._nothing))))

    def _read(self, reader: Reader, stored: Sequence[Stored], at: Micros, found: Floats) -> None:
        """Write the features of records at an instant."""
        looked = self._windows.look(reader, stored, at)
        self._finalize(self._plan.steps, looked.sums, looked.picks, looked.times, at, found)
        if self._plan.trends:
            for place, windows in enumerate(looked.sums.tolist()):
                self._compare(windows, found[place])
        for place, weights in looked.weights.items():
            self._leave_out(weights, found[place])
        if self._layout.gathers:
            starts = self._windows.starts(at)
            for place, one in enumerate(stored):
                if one.record:
                    self._gather(self._windows.cut(reader, one, at), starts, found[place])
                else:
                    found[place] = self._nothing

    def _tie(self, own: str) -> int:
        """Return the tie of a request's own event, 0 for none."""
        if not self._is_numbered:
            return event_tie(own)
        return event_tie(own, is_number=True) if own.removeprefix("-").isdecimal() else 0

    def _compare(self, windows: Sequence[Sequence[int]], found: Floats) -> None:
        """Write what compares two windows, of one entity."""
        for column, read in self._plan.trends:
            found[column] = _trend(read, windows[read.window], windows[read.longer])

    def _leave_out(self, weights: Sequence[Sequence[int]], found: Floats) -> None:
        """Make what is read from sums missing where their magnitudes leave the exact range."""
        for column, read, place in self._layout.weighed:
            weight = weights[read.window][place]
            before = weights[read.longer][place] - weight if read.trend else 0
            if max(weight, before) >= WEIGHT_LIMIT:
                found[column] = nan
                self._told(read.name)

    def _gather(self, cut: Cut, starts: Ints, found: Floats) -> None:
        """Write what is read from summaries, of one entity."""
        for gather in self._layout.gathers:
            values = cut.gathered(gather, int(starts[gather.window]))
            for column, part in zip(gather.columns, gather.parts, strict=True):
                found[column] = values[part]


def _trend(read: Read, now: Sequence[int], longer: Sequence[int]) -> float:
    """Compare a window's sums with those of the window before, the rest of the longer one."""
    one = read.operation.one
    if one is None:
        return nan
    before = [a - b for a, b in zip(longer, now, strict=True)]
    return compared_one(one(now, read.lanes), one(before, read.lanes), read.trend)
