"""The fold: accepted events into the live state of a view, in the order of the log."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Ints
from homeostat.aggregate.columns import prepare
from homeostat.aggregate.layout import Layout
from homeostat.core.store import Writer
from homeostat.declare.views import FeatureView
from homeostat.features.events import usable
from homeostat.features.keys import KeyCodec
from homeostat.features.record import Record

__all__ = ["Prepared", "ViewFold"]

_SINGLY = 8
"""Up to this many events of one entity are appended one by one, more are merged at once."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The states of one chunk of events, ready to be folded in slices of any size.

    `places[i]` is how many of the first i events of the chunk the view uses.
    """

    places: list[int]
    keys: list[bytes]
    known: list[int]
    table: Ints
    packed: bytes


class ViewFold:
    """Folds the events of a view's source into a store."""

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self._layout = Layout(view)
        self._record = Record(self._layout)
        self._codec = KeyCodec(view)
        self._row = struct.Struct(f"<{self._record.width}q")

    def prepare(self, events: pl.DataFrame) -> Prepared:
        """Return the states of `events`, a slice of the log in its order; done once per chunk."""
        used = events.select(usable(self.view).alias("used"))["used"]
        kept = events.filter(used)
        columns = prepare(self._layout, kept)
        table = np.empty((kept.height, self._record.width), np.int64)
        table[:, 0] = kept["_event_time"].dt.epoch("us").to_numpy()
        table[:, 1] = kept["_tie"].to_numpy()
        first = 2 + self._layout.width
        table[:, 2:first] = columns.lanes
        for signal, values in enumerate(columns.values):
            table[:, first + signal] = np.ascontiguousarray(values).view(np.int64)
        places = np.concatenate([[0], np.cumsum(used.to_numpy())]).tolist()
        known = kept["_known_time"].dt.epoch("us").to_list()
        return Prepared(places, self._codec.keys_of(kept), known, table, table.tobytes())

    def apply(self, writer: Writer, prepared: Prepared, begin: int, end: int) -> None:
        """Fold the events `[begin, end)` of the chunk; each must be folded exactly once."""
        low, high = prepared.places[begin], prepared.places[end]
        if high - low == 1:
            self._one(writer, prepared, low)
        elif high > low:
            rows: dict[bytes, list[int]] = {}
            for place, key in enumerate(prepared.keys[low:high], low):
                rows.setdefault(key, []).append(place)
            for key, places in rows.items():
                if len(places) <= _SINGLY:
                    self._few(writer, prepared, key, places)
                else:
                    self._many(writer, prepared, key, places)

    def _one(self, writer: Writer, prepared: Prepared, place: int) -> None:
        key = prepared.keys[place]
        record = writer.get(key) or self._record.empty
        row = self._row.unpack_from(prepared.packed, place * self._row.size)
        found = self._record.appended(record, prepared.known[place], row)
        if found is None:
            self._many(writer, prepared, key, [place])
        else:
            writer.put(key, found)

    def _few(self, writer: Writer, prepared: Prepared, key: bytes, places: list[int]) -> None:
        record = writer.get(key) or self._record.empty
        for number, place in enumerate(places):
            row = self._row.unpack_from(prepared.packed, place * self._row.size)
            found = self._record.appended(record, prepared.known[place], row)
            if found is None:
                rest = places[number:]
                last = prepared.known[rest[-1]]
                writer.put(key, self._record.merged(record, last, prepared.table[rest]))
                return
            record = found
        writer.put(key, record)

    def _many(self, writer: Writer, prepared: Prepared, key: bytes, places: list[int]) -> None:
        record = writer.get(key) or self._record.empty
        known = prepared.known[places[-1]]
        writer.put(key, self._record.merged(record, known, prepared.table[places]))
