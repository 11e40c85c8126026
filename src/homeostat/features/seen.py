"""What each row of a spine saw: the records of a snapshot, or what was known before its instant."""

from __future__ import annotations

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Ints
from homeostat.features.event_tables import EventTable, read_ahead

__all__ = ["NOT_RECORDED", "SEEN", "places_before", "seen_in"]

SEEN = "_seen_"
"""Columns of a spine: `_seen_SOURCE` is the last record of a source that a row's answer saw, -1 for
none; missing where the row sees what was known before its instant."""

NOT_RECORDED = -2
"""In offsets: this row sees what was known before its instant."""


def seen_in(spine: pl.DataFrame, source: str) -> Ints | None:
    """Return the offsets of a source that the rows of a spine saw, None where none says one.

    >>> seen_in(pl.DataFrame({"_seen_taps": [None, 4]}), "taps").tolist()
    [-2, 4]
    """
    name = SEEN + source
    if name not in spine.columns or spine[name].null_count() == spine.height:
        return None
    return spine[name].cast(pl.Int64).fill_null(NOT_RECORDED).to_numpy()


def places_before(table: EventTable, at: Ints) -> Ints:
    """Return for each instant one more than the offset of the last event known before it.

    Known times never decrease along a log, so the events up to that place are those known before.
    """
    found = np.zeros(len(at), np.int64)
    for run, events in read_ahead(table, range(len(table.parts)), ["_known_time", "_offset"]):
        if not table.is_log(table.parts[run[0]]):
            events = events.sort("_offset")
        known = events["_known_time"].to_physical().to_numpy()
        ends = np.append(0, events["_offset"].to_numpy().astype(np.int64) + 1)
        found = np.maximum(found, ends[np.searchsorted(known, at, "left")])
    return found
