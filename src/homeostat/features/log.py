"""The events of a view's source in the order of their log, and how they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Bools, Floats, Ints
from homeostat.aggregate.block import LogDisordered
from homeostat.aggregate.columns import inputs
from homeostat.aggregate.exact import LARGEST, ValueRefused
from homeostat.aggregate.layout import Layout
from homeostat.declare.views import FeatureView
from homeostat.features.entities import Codes
from homeostat.features.event_tables import EventTable, read_ahead
from homeostat.features.events import wanted

__all__ = ["Log", "event_columns"]

CHUNK = 1 << 18
"""Events that are dealt at once: their columns fit into the processor's cache."""


def event_columns(view: FeatureView, *, at_offsets: bool = False) -> list[str]:
    """Return the columns of the events frame that `point_in_time` looks at, sorted.

    `at_offsets` says whether it will be asked at offsets. Reading no other columns saves time.
    """
    layout = Layout(view)
    wanted = {*view.entity.keys, *layout.columns, "_known_time", "_event_time", "_too_late"}
    if view.condition is not None:
        wanted |= view.condition.columns()
    if layout.ordered or view.exclude_own:
        wanted.add("_tie")
    return sorted(wanted | ({"_offset"} if at_offsets else set()))


class Log:
    """The events of a view's source.

    `codes` are the numbers of the entities of each part's events, 0 for those of no interest.
    First and last values of columns without gaps are found as row numbers, so that values are
    fetched only for the rows that are somebody's answer: `look_up` does that in the end.
    """

    def __init__(
        self, view: FeatureView, table: EventTable, codes: Sequence[Codes], *, at_offsets: bool
    ) -> None:
        self._view, self._table, self._codes = view, table, codes
        plain = frozenset(name for name in Layout(view).columns if not table.gaps(name))
        self.layout = Layout(view, plain)
        # One row may be where several features fetch their values.
        self._fetched: dict[tuple[object, int], list[tuple[int, str]]] = {}
        for place, (spec, read) in enumerate(zip(view.features(), self.layout.reads, strict=True)):
            if read.operation.of_row and spec.column is not None:
                window = (read.operation.select, read.window)
                self._fetched.setdefault(window, []).append((place, spec.column))
        used = set() if view.condition is None else view.condition.columns()
        self._used = sorted({*used, "_too_late"})
        self._clocks = ["_known_time", *(["_offset"] if at_offsets else [])]
        self.clock = self._clocks[-1]
        self._system = [*self._clocks, "_event_time"]
        if "_tie" in event_columns(view):
            self._system.append("_tie")
        self._last: list[int] = []

    @property
    def event_bytes(self) -> int:
        """How many bytes the arrays of one event take at most."""
        sources = sum(8 if source.kind == "value" else 1 for source in self.layout.sources)
        return 4 + 8 * (len(self._system) + bool(self._fetched)) + sources

    def chunks(self, entities: range | None) -> Iterator[tuple[Codes, dict[Any, Any]]]:
        """Yield pieces of the log: the entities of its used events, and what is looked at of them.

        Used are only events of `entities` (None: of all). What is looked at has the number of its
        source in the layout, or a name.
        """
        columns = sorted({*self._used, *self._system, *self.layout.columns})
        self._last = [-(2**63)] * len(self._clocks)
        numbers = [
            n for n, codes in enumerate(self._codes) if n == 0 or _only(codes, entities).any()
        ]
        for run, events in read_ahead(self._table, numbers, columns):
            part = self._table.parts[run[0]]
            is_log = self._table.is_log(part)
            whose = np.concatenate([_only(self._codes[number], entities) for number in run])
            for begin in range(0, max(len(whose), 1), CHUNK):
                piece = slice(begin, begin + CHUNK)
                yield self._chunk(part.start + begin, events[piece], whose[piece], is_log)

    def _chunk(
        self, first: int, events: pl.DataFrame, codes: Codes, is_log: bool
    ) -> tuple[Codes, dict[Any, Any]]:
        n = events.height
        used = self._is_used(events, codes)
        every = bool(used.all())
        if not every:
            events, codes = events.filter(used), codes[used]
        arrays: dict[Any, Any] = dict(enumerate(inputs(self.layout, events)))
        arrays |= {name: _physical(events, name) for name in self._system}
        self._check_order(arrays, is_log)
        if np.array_equal(arrays[self.clock], arrays["_event_time"]):
            arrays[self.clock] = arrays["_event_time"]
        if self._fetched:
            rows = np.arange(first, first + n, dtype=np.float64)
            arrays["row"] = rows if every else rows[used]
        dealt = {name: values for name, values in arrays.items() if name not in self._clocks[:-1]}
        return codes, dealt

    def _is_used(self, events: pl.DataFrame, codes: Codes) -> Bools:
        # An event without a whole key has the code 0.
        found: Bools = events.select(wanted(self._view).alias("used"))["used"].to_numpy()
        return found & (codes > 0)

    def _check_order(self, arrays: dict[Any, Any], is_log: bool) -> None:
        """Refuse a log whose clocks decrease; a sorted day must come before what follows it."""
        for place, name in enumerate(self._clocks):
            clock = arrays[name]
            if not len(clock):
                return
            if not is_log:
                self._last[place] = max(self._last[place], int(clock.max()))
                continue
            if clock[0] < self._last[place] or (clock[1:] < clock[:-1]).any():
                raise LogDisordered(f"view {self._view.name!r}")
            self._last[place] = int(clock[-1])

    def look_up(self, found: Floats) -> None:
        """Put the values of events in place of their row numbers."""
        if not self._fetched:
            return
        from homeostat.aggregate.kernel import grouped

        first = np.array([part.start for part in self._table.parts])
        asked = []
        for fetches in self._fetched.values():
            rows = found[:, fetches[0][0]]
            known = np.flatnonzero(~np.isnan(rows))
            numbers = rows[known].astype(np.int64)
            parts = np.searchsorted(first, numbers, side="right") - 1
            order, cuts = grouped(parts, len(first))
            asked.append((known[order], numbers[order], cuts, fetches))
        names = sorted({name for *_, fetches in asked for _, name in fetches})
        held = [cuts[1:] > cuts[:-1] for _, _, cuts, _ in asked]
        wanted = np.flatnonzero(np.logical_or.reduce(held)).tolist()
        for run, events in read_ahead(self._table, wanted, names):
            begin = self._table.parts[run[0]].start
            for known, numbers, cuts, fetches in asked:
                here = slice(int(cuts[run[0]]), int(cuts[run[-1] + 1]))
                near = numbers[here] - begin
                # Row by row, so that what belongs to one answer lies together.
                values = self._values([events[name] for _, name in fetches], near)
                places = [place for place, _ in fetches]
                together = places == list(range(places[0], places[-1] + 1))
                if together:
                    found[known[here], places[0] : places[-1] + 1] = values
                else:
                    found[known[here][:, None], places] = values

    def _values(self, columns: Sequence[pl.Series], rows: Ints) -> Floats:
        """Return some rows, float64; refuse a number that has no exact state."""
        found = np.empty((len(rows), len(columns)))
        for place, column in enumerate(columns):
            found[:, place] = np.take(column.cast(pl.Float64).to_numpy(), rows)
        known = np.abs(found) < LARGEST
        if not known.all():
            row, place = np.argwhere(~known)[0].tolist()
            where = f"view {self._view.name!r}, column {columns[place].name!r}"
            raise ValueRefused(where, float(found[row, place]))
        found += 0.0  # negative zero becomes zero
        return found


def _only(codes: Codes, entities: range | None) -> Codes:
    """Return the codes of some entities (None: of all), 0 in place of others."""
    if entities is None:
        return codes
    asked = (codes >= max(entities.start, 1)) & (codes < entities.stop)
    return np.where(asked, codes, np.uint32(0))


def _physical(events: pl.DataFrame, name: str) -> Ints:
    found: Ints = events[name].to_physical().to_numpy()
    return found
