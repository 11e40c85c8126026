"""A block of sorted events with their accumulated states: what every window is cut from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.columns import Arrays, running, signals
from homeostat.aggregate.exact import WEIGHT_LIMIT
from homeostat.aggregate.layout import Layout
from homeostat.aggregate.slices import Scale, Searchable, prefix
from homeostat.core.errors import HomeostatError

__all__ = ["Block", "LogDisordered", "Rows"]


class LogDisordered(HomeostatError, ValueError):
    """Events whose known times decrease along their log."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where}: the known times of the events decrease along their offsets; allowed: the "
            "order of the log, in which they never do; read the events from the lake again"
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Events of some entities: by `group`, and within each in the order of the log.

    `clock` says when each became known: its known time, or its offset. `ties` are the digests of
    the event ids, None where nothing depends on them; `rows` their numbers, where features are
    row numbers. `given` is what `columns.inputs` found.
    """

    group: Ints
    times: Ints
    clock: Ints
    ties: Ints | None
    rows: Floats | None
    given: Arrays


@dataclass(frozen=True, slots=True)
class Block:
    """Events sorted by (group, event time, tie), with their states.

    `first` is where each group begins. `latest` and `soonest` search the running maximum of the
    clock within a group, and its minimum from the end. `weights` are, by the place of a sum in
    `layout.heavy`, the running magnitudes of those that could leave their range.
    """

    group: Ints
    first: Ints
    clock: Ints
    times: Ints
    ties: Ints
    rows: Floats
    by_time: Searchable
    latest: Searchable
    soonest: Searchable
    running: Ints
    weights: dict[int, Ints]
    values: list[Floats]

    @classmethod
    def of(cls, layout: Layout, rows: Rows, groups: int) -> Block:
        """Sort the events and accumulate their states."""
        scale = Scale.of(rows.times, groups)
        keys = scale.keys(rows.group, rows.times)
        order = _order(keys, rows.ties)
        times, clock, given = rows.times, rows.clock, rows.given
        ties = np.empty(0, np.int64) if rows.ties is None else rows.ties
        numbers = np.empty(0) if rows.rows is None else rows.rows
        if order is not None:
            keys, times, clock = keys[order], times[order], clock[order]
            ties = ties[order] if len(ties) else ties
            numbers = numbers[order] if len(numbers) else numbers
            given = [found[order] for found in given]
        by_time = Searchable(scale, keys)
        sums = running(layout, given, len(times))
        return cls(
            rows.group, np.searchsorted(rows.group, np.arange(groups + 1)), clock, times, ties,
            numbers, by_time, *_known(clock, times, rows.group, by_time), sums,
            _weights(layout, sums), signals(layout, given, len(times)),
        )  # fmt: skip


def _order(keys: Ints, ties: Ints | None) -> Ints | None:
    """Return the order of (key, tie, log), or None if the rows are in it."""
    order: Ints | None = None
    if (keys[1:] < keys[:-1]).any():
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
    if ties is None:
        return order
    same = keys[1:] == keys[:-1]
    if not same.any():
        return order
    tied = np.zeros(len(keys), np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    places = np.flatnonzero(tied)
    if order is None:
        order = np.arange(len(keys))
    rows = order[places]
    order[places] = rows[np.lexsort((ties[rows], keys[places]))]
    return order


def _known(
    clock: Ints, times: Ints, group: Ints, by_time: Searchable
) -> tuple[Searchable, Searchable]:
    """Return the running maximum of the clock within each group, and its minimum from the end."""
    if clock is times or np.array_equal(clock, times):
        return by_time, by_time
    scale = Scale.of(clock, int(group[-1]) + 1)
    keys = scale.keys(group, clock)
    if (keys[1:] >= keys[:-1]).all():
        ordered = Searchable(scale, keys)
        return ordered, ordered
    return (
        Searchable(scale, np.maximum.accumulate(keys)),
        Searchable(scale, np.ascontiguousarray(np.minimum.accumulate(keys[::-1])[::-1])),
    )


def _weights(layout: Layout, sums: Ints) -> dict[int, Ints]:
    """Return running magnitudes of the sums that could leave their range; usually there are none.

    Each is split in two, upper and lower 31 bits, so that it cannot wrap either.
    """
    found = {}
    for place, lane in enumerate(layout.heavy):
        size = np.abs(np.diff(sums[:, lane]))
        if size.astype(np.float64).sum() >= WEIGHT_LIMIT / 2:
            found[place] = prefix(np.stack([size >> 31, size & 0x7FFF_FFFF], axis=1))
    return found
