"""The fold: accepted events into the live state of a view, in the order of the log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Ints
from homeostat.aggregate.columns import prepare
from homeostat.aggregate.layout import Layout
from homeostat.core.store import Writer
from homeostat.declare.views import FeatureView
from homeostat.features.events import usable
from homeostat.features.keys import KeyCodec, older_prefix, page_prefix, view_prefix
from homeostat.features.older import Older
from homeostat.features.pages import Pages
from homeostat.features.record import OLDER, Record

__all__ = ["Prepared", "ViewFold"]

KEYS = 2_048
"""Entities whose records are folded at once: bounds the memory, and keeps what is read near."""

SPARE = 2_048
"""Bytes that are written with a record: its pages are half empty on average."""

_ONE = np.array([0, 1])


@dataclass(frozen=True, slots=True)
class Prepared:
    """The states of one chunk of events, ready to be folded in slices of any size.

    `places[i]` is how many of the first i events of the chunk the view uses. `keys` are the
    different store keys, `codes` says which of them each used event has. A row of `table` is
    (event time, tie, lanes, bits of values).
    """

    places: Ints
    keys: list[bytes]
    codes: Ints
    known: Ints
    table: Ints


class ViewFold:
    """Folds the events of a view's source into a store."""

    def __init__(self, view: FeatureView) -> None:
        self.view, self._written = view, 0
        self._layout = Layout(view)
        self._record = Record(self._layout)
        self._pages = Pages(self._record, (view_prefix(view), page_prefix(view)))
        self._older = Older(self._record, (view_prefix(view), older_prefix(view)))
        self._codec = KeyCodec(view)

    def prepare(self, events: pl.DataFrame) -> Prepared:
        """Return the states of `events`, a slice of the log in its order; done once per chunk."""
        used = events.select(usable(self.view).alias("used"))["used"]
        kept = events if used.all() else events.filter(used)
        columns = prepare(self._layout, kept)
        table = np.empty((kept.height, self._record.width), np.int64)
        table[:, 0] = kept["_event_time"].to_physical().to_numpy()
        table[:, 1] = kept["_tie"].to_numpy()
        first = 2 + self._layout.width
        table[:, 2:first] = columns.lanes
        for signal, values in enumerate(columns.values):
            table[:, first + signal] = np.ascontiguousarray(values).view(np.int64)
        places = np.zeros(len(used) + 1, np.int64)
        np.cumsum(used.to_numpy(), out=places[1:])
        known = kept["_known_time"].to_physical().to_numpy()
        return Prepared(places, *self._codec.grouped(kept), known, table)

    def written(self) -> int:
        """Return about how many bytes were put into the store since the last call."""
        written, self._written = self._written, 0
        return written

    def apply(self, writer: Writer, prepared: Prepared, begin: int, end: int) -> None:
        """Fold the events `[begin, end)` of the chunk; each must be folded exactly once."""
        low, high = int(prepared.places[begin]), int(prepared.places[end])
        if high - low == 1:
            keys = [prepared.keys[prepared.codes[low]]]
            self._fold(writer, prepared, keys, np.array([low]), _ONE)
        elif high > low:
            self._several(writer, prepared, low, high)

    def _several(self, writer: Writer, prepared: Prepared, low: int, high: int) -> None:
        from homeostat.aggregate.kernel import grouped

        codes, keys = prepared.codes[low:high], prepared.keys
        if len(keys) > high - low:
            some, codes = np.unique(codes, return_inverse=True)
            keys = [keys[code] for code in some.tolist()]
        order, cuts = grouped(codes, len(keys))
        here = np.flatnonzero(np.diff(cuts))
        if len(here) < len(keys):
            keys = [keys[code] for code in here.tolist()]
            cuts = np.append(cuts[here], high - low)
        order += low
        for begin in range(0, len(keys), KEYS):
            cut = cuts[begin : begin + KEYS + 1]
            some = order[cut[0] : cut[-1]]
            self._fold(writer, prepared, keys[begin : begin + KEYS], some, cut - cut[0])

    def _fold(
        self,
        writer: Writer,
        prepared: Prepared,
        keys: list[bytes],
        order: Ints,
        cuts: Ints,
        *,
        wholly: bool = False,
    ) -> None:
        """Fold the events `order[cuts[i]:cuts[i + 1]]` into the record of each key.

        The older rows of a record are loaded where its recent ones become too many, or if the
        records are to be folded `wholly`: where some event comes before the recent rows.
        """
        from homeostat.features.state_rows import folded

        record = self._record
        firsts = [writer.get(key) or record.empty for key in keys]
        old, ends = _joined(firsts)
        is_split = old[ends[:-1] + OLDER] != 0
        is_long = np.diff(ends) + np.diff(cuts) * record.width > record.longest
        is_loaded = is_split & (is_long | wholly)
        if is_loaded.any():
            for place in np.flatnonzero(is_loaded).tolist():
                firsts[place] = b"".join(self._older.parts(writer, keys[place], firsts[place]))
            old, ends = _joined(firsts)
            old[ends[:-1][is_loaded] + OLDER] = 0
        out = np.empty(len(old) + len(order) * record.width, np.int64)
        out_ends, left = np.zeros_like(ends), np.empty(len(keys), np.int64)
        late = folded(
            record.shape, record.heavy, record.selected, prepared.table, prepared.known,
            order, cuts, old, ends, out, out_ends, left,
        )  # fmt: skip
        packed, bounds = memoryview(out.data).cast("B"), (out_ends * 8).tolist()
        self._written += bounds[-1] + SPARE * len(keys)
        again = is_split & ~is_loaded & (left != 0)
        is_done = (left == 0) & ~is_loaded & (np.diff(out_ends) <= record.longest)
        if record.whole.places:
            is_done[:] = False
        for place in np.flatnonzero(is_done).tolist():
            writer.put(keys[place], packed[bounds[place] : bounds[place + 1]])
        for place in np.flatnonzero(~is_done & ~again).tolist():
            words = out[out_ends[place] : out_ends[place + 1]]
            rows, key = order[cuts[place] : cuts[place + 1]], keys[place]
            if left[place]:
                belated = prepared.table[late[np.isin(late, rows)]]
                words = self._paged(writer, key, words, int(left[place]), belated)
            if record.whole.places:
                words = record.whole.absorbed(words, prepared.table[rows])
            self._older.write(writer, key, words, was_split=bool(is_split[place]))
        if again.any():
            some = np.flatnonzero(again).tolist()
            parts = [order[cuts[place] : cuts[place + 1]] for place in some]
            cuts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
            self._fold(
                writer, prepared, [keys[place] for place in some], np.concatenate(parts), cuts,
                wholly=True,
            )  # fmt: skip

    def _paged(self, writer: Writer, key: bytes, words: Ints, left: int, late: Ints) -> Ints:
        """Return a record after what was left to do with its pages."""
        from homeostat.features.state_rows import EVICTABLE, FULL, LATE

        if left & LATE:
            words = self._pages.insert(writer, key, words, late)
        if left & EVICTABLE:
            words = self._pages.evict(writer, key, words)
        if left & FULL:
            words = self._pages.cut_off(writer, key, words)
        return words


def _joined(records: list[bytes]) -> tuple[Ints, Ints]:
    """Return the words of records one after the other, and where each begins and ends."""
    ends = np.zeros(len(records) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, records), np.int64, len(records)) // 8, out=ends[1:])
    return np.frombuffer(bytearray().join(records), np.int64), ends
