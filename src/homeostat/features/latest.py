"""Latest values at a point in time: one sweep along the log, beside the questions in its order.

What an entity's latest event is changes only when an event becomes known. So events are met part
by part, each as it becomes known, and a question is answered when the first event comes that it
does not see. Nothing is sorted but the questions, and no event is held but the latest of each
entity. Ties are read from the first part on in which they decide something; usually they never do.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.layout import Input, Layout
from homeostat.aggregate.slices import in_order
from homeostat.aggregate.window import window_start
from homeostat.features.entities import Codes, Entities
from homeostat.features.event_tables import read_ahead
from homeostat.features.log import Log, physical
from homeostat.features.lookups import look_up

__all__ = ["ENTITY_BYTES", "is_latest", "latest_values"]

ENTITY_BYTES = 24
"""What is held of an entity: the time, the row and the tie of its latest event."""

_UNREAD = np.empty(0, np.int64)

Events = tuple[Codes, Ints, Ints, Ints]
"""Entities, clocks, event times and ties, as `sweep.swept` takes them."""


def is_latest(log: Log) -> bool:
    """Whether a view is made of nothing but the latest of all events (values that are looked up by
    row number, and ages), and its events come in the order of the log."""
    reads, signals = log.layout.reads, log.layout.signals
    return (
        bool(log.lookups)
        and all(map(log.table.is_log, log.table.parts))
        and all(read.operation.select == "latest" for read in reads)
        and all(signals[read.signal] == Input(None, None) for read in reads)
    )


def latest_values(log: Log, entities: Entities, at: Ints, limits: Ints) -> tuple[Floats, Ints]:
    """Return the features of a view that `is_latest`, float64 of shape (questions, features), and
    the row of the latest event of each question, negative for none.

    Args:
        log: the events of the view.
        entities: who is asked about.
        at: int64[n], the instant of each question, microseconds.
        limits: int64[n], the clock at which each question looks: it sees the events of before.
    """
    layout = log.layout
    timed = any(read.operation.of_time for read in layout.reads) or layout.windows != [(None, 0)]
    rows, times = _Sweep(log, entities, limits, timed=timed).seen()
    seen = [_inside(layout, window, at, times, rows) for window in range(len(layout.windows))]
    found = np.empty((len(at), len(layout.reads)))
    for place, read in enumerate(layout.reads):
        if read.operation.of_time:
            found[:, place] = np.where(seen[read.window] >= 0, (at - times) / 1e6, np.nan)
    wanted = [(lookup, seen[lookup.window]) for lookup in log.lookups]
    look_up(layout, log.table, wanted, found)
    return found, rows


def _inside(layout: Layout, window: int, at: Ints, times: Ints, rows: Ints) -> Ints:
    """Return the rows of events inside a window, -1 in place of others.

    Nobody but the latest event of all can be the latest of a window.
    """
    length, hop = layout.windows[window]
    if length is None:
        return rows
    return np.where(times >= window_start(at, length, hop), rows, -1)


class _Sweep:
    """Meets events and questions in the order of the log."""

    def __init__(self, log: Log, entities: Entities, limits: Ints, *, timed: bool) -> None:
        self._log, self._table, self._entities = log, log.table, entities
        limits, self._places = in_order(limits)
        self._questions = limits, entities.asked[self._places]
        self._answered = 0
        self._rows = np.empty(len(limits), np.int64)
        self._times = np.empty(len(limits) if timed else 0, np.int64)
        self._latest = np.empty((entities.count + 1, 2), np.int64)
        self._latest[:] = -(2**63), -1
        self._ties = np.zeros(len(self._latest), np.int64)
        self._has_ties = False

    def seen(self) -> tuple[Ints, Ints]:
        """Return the row, negative for none, and the time of the latest event that each question
        sees; no times if they are not wanted."""
        number = 0
        while number < len(self._table.parts):
            number = self._run(number)
        left = slice(self._answered, None)
        times, rows = self._latest[self._questions[1][left]].T
        self._rows[left] = rows
        self._times[left] = times[: len(self._times)]
        return self._in_place(self._rows), self._in_place(self._times)

    def _in_place(self, answers: Ints) -> Ints:
        found = np.empty_like(answers)
        found[self._places[: len(answers)]] = answers
        return found

    def _run(self, begin: int) -> int:
        """Meet the events from a part on; return the part to go on with, from where on ties are
        read too, or the end."""
        parts, ties = self._table.parts, {"_tie"} if self._has_ties else set()
        columns = sorted({*self._entities.keys, *self._log.columns, *ties})
        for (number,), part in read_ahead(self._table, range(begin, len(parts)), columns):
            events = self._events(part)
            tied = self._meet(events, 0, parts[number].start)
            if tied >= 0:
                events = (*events[:-1], self._learn(number))
                self._meet(events, tied, parts[number].start)
                return number + 1
        return len(parts)

    def _events(self, part: pl.DataFrame) -> Events:
        whose = self._entities.of(part)
        used = self._log.is_used(part, whose)
        clocks = self._log.clocks(part)
        if not used.all():
            whose = np.where(used, whose, np.uint32(0))
            self._log.check_order([clock[used] for clock in clocks])
        else:
            self._log.check_order(clocks)
        ties = physical(part, "_tie") if self._has_ties else _UNREAD
        return whose, clocks[-1], physical(part, "_event_time"), ties

    def _meet(self, events: Events, begin: int, first: int) -> int:
        """Meet the events of a part, from one on; return the first that was not met, or -1."""
        from homeostat.features.sweep import swept

        counts = np.array([first, self._answered])
        state, answers = (self._latest, self._ties), (self._rows, self._times)
        tied = int(swept(events, begin, self._questions, counts, state, answers))
        self._answered = int(counts[1])
        return tied

    def _learn(self, last: int) -> Ints:
        """Read the ties of the latest events so far, none of which is after the part `last`.

        Returns the ties of all events of that part; from here on they are read with the others.
        """
        self._has_ties, rows, ties = True, self._latest[:, 1], _UNREAD
        for number, part in enumerate(self._table.parts[: last + 1]):
            here = np.flatnonzero((rows >= part.start) & (rows < part.stop))
            if len(here) or number == last:
                ties = physical(self._table.read(part, ["_tie"]), "_tie")
                self._ties[here] = ties[rows[here] - part.start]
        return ties
