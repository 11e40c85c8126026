"""Values of events that were found as row numbers, fetched from their table in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.exact import ValueRefused
from homeostat.aggregate.layout import Layout
from homeostat.features.event_tables import EventTable, read_ahead

__all__ = ["Lookup", "look_up", "lookups"]

SHIFT = 12
"""Of every 2^SHIFT rows the part of the first is known, to find that of the others from there."""

BLOCK = 1 << 12
"""Answers that are written at once, column by column: they stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Features that fetch their values from the same events: those selected in one window.

    `places[i]` of the view's features is the value of the column `names[i]`.
    """

    window: int
    places: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def lookups(layout: Layout) -> list[Lookup]:
    """Return what a layout leaves to be looked up."""
    found: dict[tuple[object, int], Lookup] = {}
    for place, (spec, read) in enumerate(zip(layout.view.features(), layout.reads, strict=True)):
        if read.operation.of_row and spec.column is not None:
            same = found.setdefault((read.operation.select, read.window), Lookup(read.window))
            same.places.append(place)
            same.names.append(spec.column)
    return list(found.values())


def look_up(
    layout: Layout, table: EventTable, wanted: Sequence[tuple[Lookup, Ints]], found: Floats
) -> None:
    """Write values of the table into the columns of `found` (n, features).

    `wanted` has, per look-up, int64[n], the row of each value; negative for none.
    """
    dealt = [_by_part(table, rows) for _, rows in wanted]
    for lookup, rows in wanted:
        missing = np.flatnonzero(rows < 0)
        found[missing[:, None], lookup.places] = np.nan
    asked = np.sum([np.diff(cuts) for cuts, _ in dealt], axis=0)
    names = sorted({name for lookup, _ in wanted for name in lookup.names})
    for run, events in read_ahead(table, np.flatnonzero(asked).tolist(), names):
        columns = {name: events[name].cast(pl.Float64).to_numpy() for name in names}
        first = table.parts[run[0]].start
        for number in run:
            part = table.parts[number]
            mine = slice(part.start - first, part.stop - first)
            values = {name: column[mine] for name, column in columns.items()}
            for (lookup, _), (cuts, (places, near)) in zip(wanted, dealt, strict=True):
                begin, end = cuts[number : number + 2].tolist()
                for at in range(begin, end, BLOCK):
                    here = slice(at, min(at + BLOCK, end))
                    _fetch(layout, lookup, values, (near[here], places[here]), found)


def _fetch(
    layout: Layout,
    lookup: Lookup,
    columns: Mapping[str, Floats],
    wanted: tuple[Ints, Ints],
    found: Floats,
) -> None:
    """Write the values of some rows to their places."""
    from homeostat.features.sweep import fetched

    for place, name in zip(lookup.places, lookup.names, strict=True):
        refused = fetched(columns[name], *wanted, found, place)
        if refused >= 0:
            where = f"view {layout.view.name!r}, column {name!r}"
            raise ValueRefused(where, float(columns[name][refused]))


def _by_part(table: EventTable, rows: Ints) -> tuple[Ints, tuple[Ints, Ints]]:
    """Return where the rows of each part begin, their places, and how far in the part they are."""
    from homeostat.features.sweep import by_part

    ends = [part.stop for part in table.parts]
    first = np.array([table.parts[0].start, *ends])
    cells = np.arange(0, first[-1] + 1, 1 << SHIFT)
    guesses = np.searchsorted(first[1:], cells, side="right")
    found: tuple[Ints, tuple[Ints, Ints]] = by_part(
        np.ascontiguousarray(rows), first, guesses, SHIFT
    )
    return found
