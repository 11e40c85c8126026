"""The events of a view's source in the order of their log, and how they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Bools, Ints
from homeostat.aggregate.block import LogDisordered
from homeostat.aggregate.columns import inputs
from homeostat.aggregate.layout import Layout
from homeostat.declare.views import FeatureView
from homeostat.features.entities import Codes
from homeostat.features.event_tables import EventTable, read_ahead
from homeostat.features.events import wanted
from homeostat.features.lookups import lookups

__all__ = ["Log", "event_columns", "physical"]

CHUNK = 1 << 18
"""Events that are dealt at once: their columns fit into the processor's cache."""

_BEFORE = -(2**63)


def event_columns(view: FeatureView, *, at_offsets: bool = False, own: bool = True) -> list[str]:
    """Return the columns of the events frame that `point_in_time` looks at, sorted.

    `at_offsets` says whether it will be asked at offsets, `own` whether by requests whose own
    events may have to be left out. Reading no other columns saves time.
    """
    layout = Layout(view)
    wanted = {*view.entity.keys, *layout.columns, "_known_time", "_event_time", "_too_late"}
    if view.condition is not None:
        wanted |= view.condition.columns()
    if layout.ordered or (own and view.own_id):
        wanted.add("_tie")
    return sorted(wanted | ({"_offset"} if at_offsets else set()))


class Log:
    """The events of a view's source.

    First and last values of columns without gaps are found as row numbers, so that values are
    fetched only for the rows that are somebody's answer: `lookups` says which.
    """

    def __init__(
        self, view: FeatureView, table: EventTable, *, at_offsets: bool, own: bool = False
    ) -> None:
        self._view, self.table = view, table
        plain = frozenset(name for name in Layout(view).columns if not table.gaps(name))
        self.layout = Layout(view, plain)
        self.lookups = lookups(self.layout)
        used = set() if view.condition is None else view.condition.columns()
        self._clocks = ["_known_time", *(["_offset"] if at_offsets else [])]
        self.clock = self._clocks[-1]
        system = {*self._clocks, "_event_time", "_too_late"}
        self.columns = sorted(used | system | set(self.layout.columns))
        self._has_ties = "_tie" in event_columns(view, own=own)
        self._last = [_BEFORE] * len(self._clocks)

    @property
    def event_bytes(self) -> int:
        """How many bytes the arrays of one event take at most."""
        sources = sum(8 if source.kind == "value" else 1 for source in self.layout.sources)
        words = len(self._clocks) + 1 + self._has_ties + bool(self.lookups)
        return 4 + 8 * words + sources

    def chunks(
        self, codes: Sequence[Codes], entities: range | None
    ) -> Iterator[tuple[Codes, dict[Any, Any]]]:
        """Yield pieces of the log, from its beginning: what `chunk` returns.

        `codes` are the numbers of the entities of each part's events, 0 for those of no interest.
        Used are only events of `entities` (None: of all).
        """
        columns = [*self.columns, *(["_tie"] if self._has_ties else [])]
        self._last = [_BEFORE] * len(self._clocks)
        numbers = [n for n, part in enumerate(codes) if n == 0 or _only(part, entities).any()]
        for run, events in read_ahead(self.table, numbers, columns):
            part = self.table.parts[run[0]]
            is_log = self.table.is_log(part)
            whose = np.concatenate([_only(codes[number], entities) for number in run])
            for begin in range(0, max(len(whose), 1), CHUNK):
                piece = slice(begin, begin + CHUNK)
                yield self.chunk(part.start + begin, events[piece], whose[piece], is_log=is_log)

    def chunk(
        self, first: int, events: pl.DataFrame, codes: Codes, *, is_log: bool
    ) -> tuple[Codes, dict[Any, Any]]:
        """Return the entities of the used ones of the next events, and what is looked at of them.

        What is looked at has the number of its source in the layout, or a name; `row` is the
        number of the event, `first` that of the first one. `is_log` says whether they are in the
        order of the log.
        """
        n = events.height
        used = self.is_used(events, codes)
        every = bool(used.all())
        if not every:
            events, codes = events.filter(used), codes[used]
        arrays: dict[Any, Any] = dict(enumerate(inputs(self.layout, events)))
        *others, clock = self.clocks(events)
        self.check_order([*others, clock], is_log=is_log)
        times = physical(events, "_event_time")
        arrays["_event_time"] = times
        arrays[self.clock] = times if np.array_equal(clock, times) else clock
        if self._has_ties:
            arrays["_tie"] = physical(events, "_tie")
        if self.lookups:
            rows = np.arange(first, first + n, dtype=np.float64)
            arrays["row"] = rows if every else rows[used]
        return codes, arrays

    def is_used(self, events: pl.DataFrame, codes: Codes) -> Bools:
        """Return which events count for an entity of interest."""
        # An event without a whole key has the code 0.
        found: Bools = codes > 0
        if self._view.condition is not None or events["_too_late"].any():
            found &= events.select(wanted(self._view).alias("used"))["used"].to_numpy()
        return found

    def clocks(self, events: pl.DataFrame) -> list[Ints]:
        """Return when each event became known; the last clock is the one that is asked about."""
        return [physical(events, name) for name in self._clocks]

    def check_order(self, clocks: Sequence[Ints], *, is_log: bool = True) -> None:
        """Refuse a log whose clocks decrease, within the next used events or since the last.

        Events that are sorted by entity (not `is_log`) must come before what follows them.
        """
        for place, clock in enumerate(clocks):
            if not len(clock):
                return
            if not is_log:
                self._last[place] = max(self._last[place], int(clock.max()))
                continue
            if clock[0] < self._last[place] or (clock[1:] < clock[:-1]).any():
                raise LogDisordered(f"view {self._view.name!r}")
            self._last[place] = int(clock[-1])


def _only(codes: Codes, entities: range | None) -> Codes:
    """Return the codes of some entities (None: of all), 0 in place of others."""
    if entities is None:
        return codes
    asked = (codes >= max(entities.start, 1)) & (codes < entities.stop)
    return np.where(asked, codes, np.uint32(0))


def physical(events: pl.DataFrame, name: str) -> Ints:
    """Return a column as the whole numbers it is stored as."""
    found: Ints = events[name].to_physical().to_numpy()
    return found
