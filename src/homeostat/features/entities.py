"""Which entities a spine asks about, as small numbers, and whose events are whose."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.declare.views import FeatureView

__all__ = ["Codes", "Entities"]

Codes = npt.NDArray[np.uint32]
"""The number of an event's entity, from 1; 0 is one nobody asks about."""

CHUNK = 1 << 18
"""Keys that are looked up at once: they fit into the processor's cache."""

_WIDE = 8
"""Integer keys that range over at most this many times the spine's rows are looked up directly."""


class Entities:
    """The entities of a spine, numbered from 1 in the order of their keys.

    A row with a missing key asks about 0: nobody.
    """

    def __init__(self, view: FeatureView, events: pl.Schema, spine: pl.DataFrame) -> None:
        self._keys = list(view.entity.keys)
        types = {key: events[key] for key in self._keys}
        asked = spine.select(pl.col(key).cast(types[key]) for key in self._keys)
        low, high = self._range(asked)
        self._table: Codes | None = None
        if high is not None and low is not None and high - low < _WIDE * spine.height + 2**16:
            self._low, self._high = low - 1, high + 1
            self._table = np.zeros(high - low + 3, np.uint32)
            self._table[asked.to_series().drop_nulls().to_numpy().astype(np.int64) - low + 1] = 1
            found = np.flatnonzero(self._table)
            self.count = len(found)
            self._table[found] = np.arange(1, self.count + 1)
        else:
            known = asked.unique().drop_nulls().sort(self._keys)
            self.count = known.height
            self._known = known.with_row_index("_code", offset=1)
        self._first = asked.to_series().drop_nulls().unique().sort()
        self.asked = self.of(asked)

    def _range(self, asked: pl.DataFrame) -> tuple[int | None, int | None]:
        """Return the least and the greatest key, if there is one key of whole numbers."""
        column = asked.to_series()
        if asked.width > 1 or not column.dtype.is_integer():
            return None, None
        low, high = column.min(), column.max()
        if not isinstance(low, int) or not isinstance(high, int):
            return None, None
        return (low, high) if low > -(2**62) and high < 2**62 else (None, None)

    @property
    def key(self) -> str:
        """The first of the key columns."""
        return self._keys[0]

    def may_have(self, low: Any, high: Any) -> bool:
        """Whether some entity's first key is in [low, high]."""
        if self._first.dtype == pl.Boolean or not len(self._first):
            return len(self._first) > 0
        begin = self._first.search_sorted(low, "left")
        return begin < len(self._first) and bool(self._first[begin] <= high)

    def of(self, events: pl.DataFrame) -> Codes:
        """Return the number of each row's entity."""
        if self._table is None:
            wanted = events.select(self._keys)
            joined = wanted.join(self._known, on=self._keys, how="left", maintain_order="left")
            return joined["_code"].fill_null(0).to_numpy()
        found = np.empty(events.height, np.uint32)
        keys = events[self._keys[0]].cast(pl.Int64).fill_null(self._low).to_numpy()
        for begin in range(0, len(keys), CHUNK):
            piece = slice(begin, begin + CHUNK)
            place = np.clip(keys[piece], self._low, self._high)
            place -= self._low
            np.take(self._table, place, out=found[piece], mode="clip")
        return found
