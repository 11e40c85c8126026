"""A block of sorted events with their accumulated states: what every window is cut from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.columns import prepare
from homeostat.aggregate.exact import WEIGHT_LIMIT
from homeostat.aggregate.layout import Layout
from homeostat.aggregate.slices import prefix
from homeostat.core.errors import HomeostatError

__all__ = ["Block", "LogDisordered"]


class LogDisordered(HomeostatError, ValueError):
    """Events whose known times decrease along their log."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where}: the known times of the events decrease along their offsets; allowed: the "
            "order of the log, in which they never do; read the events from the lake again"
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Events sorted by (group, event time, tie), with their states.

    `place` is each row's place in the order in which events became known; `latest` and `soonest`
    are its running maximum and its minimum from the end, within a group.
    """

    times: Ints
    ties: Ints
    place: Ints
    latest: Ints
    soonest: Ints
    first: Ints
    running: Ints
    weights: list[Ints]
    values: list[Floats]
    known: Ints
    offsets: Ints

    @classmethod
    def of(cls, layout: Layout, events: pl.DataFrame, group: Ints) -> Block:
        """Sort the events and accumulate their states."""
        known = events["_known_time"].dt.epoch("us").to_numpy()
        offsets = events["_offset"].to_numpy()
        times = events["_event_time"].dt.epoch("us").to_numpy()
        ties = events["_tie"].to_numpy()
        columns = prepare(layout, events)
        if (np.diff(known) < 0).any() or (np.diff(offsets) < 0).any():
            raise LogDisordered(f"view {layout.view.name!r}")
        n = len(times)
        order = np.lexsort((ties, times, group))
        group, place = group[order], order.astype(np.int64)
        lanes = columns.lanes[order]
        shifted = place + group * n
        latest = np.maximum.accumulate(shifted) - group * n
        soonest = np.minimum.accumulate(shifted[::-1])[::-1] - group * n
        groups = int(group[-1]) + 1 if n else 0
        first = np.searchsorted(group, np.arange(groups + 1))
        return cls(
            times[order], ties[order], place, latest, soonest, first, prefix(lanes),
            _weights(layout, lanes), [v[order] for v in columns.values], known, offsets,
        )  # fmt: skip

    def limit(self, at: Ints, offsets: Ints | None) -> Ints:
        """Return how many events, in the order of the log, each query sees."""
        if offsets is None:
            return np.searchsorted(self.known, at, side="left")
        return np.searchsorted(self.offsets, offsets, side="right")


def _weights(layout: Layout, lanes: Ints) -> list[Ints]:
    """Return running magnitudes of the sums that could leave their range; usually there are none.

    Each is split in two, upper and lower 31 bits, so that it cannot wrap either.
    """
    found = []
    for lane in layout.heavy:
        size = np.abs(lanes[:, lane])
        if size.astype(np.float64).sum() >= WEIGHT_LIMIT / 2:
            found.append(prefix(np.stack([size >> 31, size & 0x7FFF_FFFF], axis=1)))
    return found
