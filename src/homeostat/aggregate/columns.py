"""From the columns of events to the states of single events: `prepare`, once for all executions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Bools, Floats, Ints
from homeostat.aggregate.codes import codes_of
from homeostat.aggregate.exact import ValueRefused, split, whole
from homeostat.aggregate.expressions import to_polars
from homeostat.aggregate.layout import Input, Layout, State

__all__ = ["Columns", "prepare"]


@dataclass(frozen=True, slots=True)
class Columns:
    """The states of n events: `lanes` int64 of shape (n, width), `values` one float64[n] per
    signal (NaN: the event has none; of a coded signal, the bits are those of the codes)."""

    lanes: Ints
    values: list[Floats]


class _Inputs:
    """Evaluates every condition once over one frame."""

    def __init__(self, layout: Layout, events: pl.DataFrame) -> None:
        self._layout, self._events = layout, events
        inputs = [state.input for state in layout.lanes] + layout.signals
        conditions = list(dict.fromkeys(i.where for i in inputs if i.where is not None))
        answers = events.select(
            to_polars(condition).cast(pl.Boolean).alias(str(number))
            for number, condition in enumerate(conditions)
        )
        self._answers = dict(zip(conditions, answers.get_columns(), strict=True))

    def known(self, needed: Input) -> Bools:
        """Whether the condition has an answer."""
        if needed.where is None:
            return np.ones(self._events.height, np.bool_)
        return self._spread(self._answers[needed.where].is_not_null())

    def present(self, needed: Input) -> Bools:
        """Whether the event meets the condition and has a value."""
        found = np.ones(self._events.height, np.bool_)
        if needed.where is not None:
            found = self._spread(self._answers[needed.where].fill_null(False))
        if needed.column is not None:
            column = self._events[needed.column]
            if column.null_count():
                found = found & column.is_not_null().to_numpy()
        return found

    def values(self, needed: Input, present: Bools) -> Floats:
        """The values as float64, 0 where there is none; negative zero becomes zero."""
        if needed.column is None:
            return np.ones(self._events.height)
        column = self._events[needed.column].cast(pl.Float64).fill_null(0.0).to_numpy()
        return np.where(present, column, 0.0) + 0.0

    def integers(self, needed: Input, present: Bools) -> Ints | None:
        """The values as int64, or None if the column holds floats."""
        if needed.column is None or self._events.schema[needed.column].is_float():
            return None
        column = self._events[needed.column].cast(pl.Int64).fill_null(0).to_numpy()
        return np.where(present, column, 0)

    def codes(self, needed: Input, present: Bools) -> Floats:
        """The codes of the values, as the bits of floats."""
        if needed.column is None:
            return np.zeros(self._events.height)
        column = self._events[needed.column]
        if column.dtype.is_float():
            self.check(needed, column.cast(pl.Float64).fill_null(0.0).to_numpy()[present])
        return codes_of(column)

    def check(self, needed: Input, values: Floats) -> None:
        """Refuse values that are no numbers."""
        if np.isnan(values).any():
            raise ValueRefused(self.where(needed), float("nan"))

    def where(self, needed: Input) -> str:
        return f"view {self._layout.view.name!r}, column {needed.column!r}"

    def _spread(self, answers: pl.Series) -> Bools:
        found: Bools = answers.to_numpy()
        return found if len(found) == self._events.height else np.repeat(found, self._events.height)


def prepare(layout: Layout, events: pl.DataFrame) -> Columns:
    """Return the state of each event; raise `ValueRefused` for one that has no exact state."""
    inputs = _Inputs(layout, events)
    lanes = np.empty((events.height, layout.width), np.int64)
    for state, at in layout.lanes.items():
        lanes[:, at[0] : at[-1] + 1] = _lane(state, inputs)
    values = [_signal(needed, inputs) for needed in layout.signals]
    return Columns(lanes, values)


def _lane(state: State, inputs: _Inputs) -> Ints:
    needed = state.input
    if state.kind == "known":
        return inputs.known(needed).astype(np.int64).reshape(-1, 1)
    present = inputs.present(needed)
    if state.kind == "count":
        return present.astype(np.int64).reshape(-1, 1)
    where = inputs.where(needed)
    if state.kind == "sum":
        integers = inputs.integers(needed, present)
        if integers is not None:
            return whole(integers, where)
    values = inputs.values(needed, present)
    if state.kind == "square":
        with np.errstate(over="ignore"):  # an infinite square is refused by name below
            values = values * values
    return split(values, where)


def _signal(needed: Input, inputs: _Inputs) -> Floats:
    present = inputs.present(needed)
    if needed.coded:
        return np.where(present, inputs.codes(needed, present), np.nan)
    values = inputs.values(needed, present)
    inputs.check(needed, values)
    integers = inputs.integers(needed, present)
    if integers is not None:
        whole(integers, inputs.where(needed))
    return np.where(present, values, np.nan)
