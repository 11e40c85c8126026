"""From the columns of events to the states of single events, once for all executions.

`inputs` looks at a frame in the order of the log and gives one flat array per thing that some
aggregation looks at; `states` turns such arrays, in whatever order they are by then, into lanes and
values, and `running` into running sums of the lanes. `prepare` looks and turns into states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Bools, Floats, Ints
from homeostat.aggregate.codes import codes_of
from homeostat.aggregate.exact import (
    WHOLE_SQUARES,
    ValueRefused,
    running_squares,
    running_sums,
    split,
    squares,
    whole,
)
from homeostat.aggregate.expressions import to_polars
from homeostat.aggregate.layout import Input, Layout, Source, State

__all__ = ["Arrays", "Columns", "inputs", "numbers", "prepare", "running", "signals", "states"]

Arrays = Sequence[Any]
"""Per source of the layout: float64 with NaN for no value, or booleans."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The states of n events: `lanes` int64 of shape (n, width), `values` one float64[n] per
    signal (NaN: the event has none; of a coded signal, the bits are those of the codes)."""

    lanes: Ints
    values: list[Floats]


def prepare(layout: Layout, events: pl.DataFrame) -> Columns:
    """Return the state of each event; raise `ValueRefused` for one that is no number."""
    return states(layout, inputs(layout, events), events.height)


def inputs(layout: Layout, events: pl.DataFrame) -> list[Any]:
    """Return what the aggregations look at, one array of the frame's height per source."""
    conditions = list(dict.fromkeys(s.input.where for s in layout.sources if s.input.where))
    answered: dict[Any, pl.Series] = {}
    if conditions:
        answers = events.select(
            to_polars(condition).cast(pl.Boolean).alias(str(number))
            for number, condition in enumerate(conditions)
        )
        answered = dict(zip(conditions, answers.get_columns(), strict=True))
    return [
        _looked_at(layout, source, events, answered.get(source.input.where))
        for source in layout.sources
    ]


def _looked_at(
    layout: Layout, source: Source, events: pl.DataFrame, where: pl.Series | None
) -> Any:
    needed = source.input
    if source.kind == "known":
        return _spread(where is None or where.is_not_null(), events.height)
    met = _spread(True if where is None else where.fill_null(False), events.height)
    if source.kind == "present":
        return met & _has_value(events, needed)
    column = events[str(needed.column)]
    present = None if where is None else met
    if column.null_count():
        present = met & column.is_not_null().to_numpy()
    return _read(column, present, needed, _place(layout, needed))


def _place(layout: Layout, needed: Input) -> str:
    return f"view {layout.view.name!r}, column {needed.column!r}"


def _spread(answers: pl.Series | bool, n: int) -> Bools:
    if isinstance(answers, bool):
        return np.full(n, answers)
    found: Bools = answers.to_numpy()
    return found if len(found) == n else np.repeat(found, n)


def _has_value(events: pl.DataFrame, needed: Input) -> Bools | np.bool_:
    if needed.column is None or not events[needed.column].null_count():
        return np.True_
    return events[needed.column].is_not_null().to_numpy()


def _read(column: pl.Series, present: Bools | None, needed: Input, place: str) -> Floats:
    """Return the values of a column, or their codes as the bits of floats; NaN for none."""
    if not needed.coded:
        return numbers(column, present, place)
    if column.dtype.is_float():
        numbers(column, present, place)
    codes = codes_of(column)
    return codes if present is None else np.where(present, codes, np.nan)


def numbers(column: pl.Series, present: Bools | None, place: str) -> Floats:
    """Return a column as float64, NaN where it is not `present` (None: every value is).

    Refuses what is not a number.
    """
    if not column.dtype.is_float():
        values = column.cast(pl.Int64).fill_null(0).to_numpy().astype(np.float64)
    else:
        values = column.cast(pl.Float64).fill_null(0.0).to_numpy()
        unknown = np.isnan(values)
        if unknown.any() and (present is None or (unknown & present).any()):
            raise ValueRefused(place, float("nan"))
    return values if present is None else np.where(present, values, np.nan)


def states(layout: Layout, given: Arrays, n: int) -> Columns:
    """Return the states of n events from what `inputs` found of them, in the same order."""
    lanes = np.empty((layout.width, n), np.int64).T
    for (state, at), place in zip(layout.lanes.items(), layout.lane_sources, strict=True):
        found = 1 if place is None else _lane(layout, state, given[place])
        lanes[:, at[0] : at[-1] + 1] = found
    return Columns(lanes, signals(layout, given, n))


def running(layout: Layout, given: Arrays, n: int) -> Ints:
    """Return the running sums of the lanes of n events, int64 of shape (n + 1, width).

    They are those of `states`, in wrapping int64. Each lane lies in one piece: lanes are read one
    by one.
    """
    found = np.empty((layout.width, n + 1), np.int64)
    found[:, 0] = 0
    for (state, at), place in zip(layout.lanes.items(), layout.lane_sources, strict=True):
        if place is None:
            found[at[0]] = np.arange(n + 1)
        elif len(at) == 1:
            np.cumsum(_lane(layout, state, given[place])[:, 0], out=found[at[0], 1:])
        elif state.kind == "square":
            here = found[at[0] : at[-1] + 1]
            running_squares(given[place], here, is_whole=len(at) == WHOLE_SQUARES)
        else:
            place_of = _place(layout, state.input)
            running_sums(given[place], found[at[0] : at[-1] + 1], place_of)
    return found.T


def signals(layout: Layout, given: Arrays, n: int) -> list[Floats]:
    """Return the values of n events by signal."""
    return [
        _signal(needed, None if place is None else given[place], n)
        for needed, place in zip(layout.signals, layout.signal_sources, strict=True)
    ]


def _lane(layout: Layout, state: State, found: Any) -> Ints:
    if state.kind in ("count", "known"):
        present: Bools = found if found.dtype == np.bool_ else ~np.isnan(found)
        return present.astype(np.int64).reshape(-1, 1)
    at = layout.lanes[state]
    if state.kind == "square":
        return squares(found, is_whole=len(at) == WHOLE_SQUARES)
    values = np.where(np.isnan(found), 0.0, found)
    return whole(values) if len(at) == 1 else split(values, _place(layout, state.input))


def _signal(needed: Input, found: Any, n: int) -> Floats:
    """Return the values of a signal (None: of every event); negative zero becomes zero."""
    event = 0.0 if needed.coded else 1.0
    if found is None:
        return np.full(n, event)
    if found.dtype == np.bool_:
        return np.where(found, event, np.nan)
    values: Floats = found
    return values if needed.coded else values + 0.0
