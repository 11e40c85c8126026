"""The live state of one entity in one view, as bytes that are read without parsing.

A record is a header and rows of int64 words (native order). The header holds what the rows no
longer can: the latest evicted event time, the latest known time, the magnitudes of the sums, the
events selected from the whole history, and the sizes of the summaries of the whole history, which
follow it. A row is (event time, tie, inclusive running sums of
the lanes, bits of the signals' values); row 0 is a sentinel before all time that carries the sums
of everything evicted. So the state of a slice is a difference of two rows, an event that arrives
in order is appended by joining bytes, and eviction cuts bytes off the front.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from homeostat.aggregate.arrays import Ints
from homeostat.aggregate.layout import Layout
from homeostat.aggregate.operations import Selection
from homeostat.features.whole import Whole

__all__ = ["BEFORE", "Record"]

BEFORE = -(2**63)
"""An instant before all others."""

SLACK = 60_000_000
"""Rows are kept this much longer than windows reach, in microseconds: clocks differ a little."""

FEWEST = 16
"""Smaller records are not looked at for eviction."""

_NAN_BITS = struct.unpack("<q", struct.pack("<d", float("nan")))[0]
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Kept:
    """A whole-history selection: where its (time, tie, value bits) lie in the header."""

    at: int
    select: Selection
    signal: int


class Record:
    """Reads and writes the records of one view; sizes and positions are in words of 8 bytes."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.heavy = layout.heavy
        at = 2 + len(self.heavy)
        self.kept: dict[tuple[Selection, int], _Kept] = {}
        for read in layout.reads:
            whole = layout.windows[read.window][0] is None
            if (
                whole
                and read.operation.select
                and (read.operation.select, read.signal) not in (self.kept)
            ):
                self.kept[read.operation.select, read.signal] = _Kept(
                    at, read.operation.select, read.signal
                )
                at += 3
        self.whole = Whole(layout, at)
        self.header = self.whole.end
        self._is_plain = not self.whole.places
        self.width = 2 + layout.width + len(layout.signals)
        self._header_format = struct.Struct(f"<{self.header}q")
        self._row_format = struct.Struct(f"<{self.width}q")
        self.lanes_format = struct.Struct(f"<{layout.width}q")
        self._reach = layout.view.longest_window + SLACK
        self.empty = self._empty()

    def _empty(self) -> bytes:
        header = [BEFORE, BEFORE, *(0 for _ in self.heavy)]
        header += [word for _ in self.kept for word in (BEFORE, 0, _NAN_BITS)]
        sizes, states = self.whole.empty()
        sentinel = [BEFORE, BEFORE, *(0 for _ in range(self.width - 2))]
        packed = self._row_format.pack(*sentinel)
        return b"".join((self._header_format.pack(*header, *sizes), *states, packed))

    def begin(self, header: Sequence[int]) -> int:
        """Return where the rows begin, in words, in a record with that header."""
        return self.header if self._is_plain else self.whole.begin(header)

    def appended(self, record: bytes, known: int, row: tuple[int, ...]) -> bytes | None:
        """Return the record with one more event, or None if the event is not the newest.

        `row` is (event time, tie, lanes, bits of values).
        """
        newest = self._row_format.unpack_from(record, len(record) - self._row_format.size)
        if row[:2] < newest[:2]:
            return None
        header = list(self._header_format.unpack_from(record))
        begin = self.header if self._is_plain else self.whole.begin(header)
        if known > header[1]:
            header[1] = known
        lanes = self.layout.width
        for place, lane in enumerate(self.heavy, 2):
            header[place] = min(header[place] + abs(row[2 + lane]), _MOST)
        if self.kept:
            self._select(header, row)
        words = [a + b for a, b in zip(newest[2 : 2 + lanes], row[2 : 2 + lanes], strict=True)]
        try:
            packed = self._row_format.pack(row[0], row[1], *words, *row[2 + lanes :])
        except struct.error:  # a sum left int64: wrap it, as columns do
            wrapped = [(word - BEFORE) % 2**64 + BEFORE for word in words]
            packed = self._row_format.pack(row[0], row[1], *wrapped, *row[2 + lanes :])
        body = self._evicted(memoryview(record)[begin * 8 :], header)
        if not self._is_plain:
            body = [*self.whole.absorbed(record, header, np.array([row], np.int64)), *body]
        return b"".join((self._header_format.pack(*header), *body, packed))

    def merged(self, record: bytes, known: int, rows: Ints) -> bytes:
        """Return the record with any events, in any order; `rows` has shape (n, width).

        Columns are as in `appended`; rows with equal time and tie must be in the log's order.
        """
        header = list(self._header_format.unpack_from(record))
        begin = self.begin(header)
        header[1] = max(header[1], known)
        for place, lane in enumerate(self.heavy, 2):
            size = sum(abs(word) for word in rows[:, 2 + lane].tolist())
            header[place] = min(header[place] + size, _MOST)
        if self.kept:
            for row in rows.tolist():
                self._select(header, row)
        old = np.frombuffer(record, np.int64, offset=begin * 8).reshape(-1, self.width)
        lanes = slice(2, 2 + self.layout.width)
        table = np.concatenate([old, rows])
        table[1 : len(old), lanes] = np.diff(old[:, lanes], axis=0)
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        table[:, lanes] = np.cumsum(table[:, lanes], axis=0)
        body = self._evicted(memoryview(table.tobytes()), header)
        if not self._is_plain:
            body = [*self.whole.absorbed(record, header, rows), *body]
        return b"".join((self._header_format.pack(*header), *body))

    def _select(self, header: list[int], row: tuple[int, ...] | list[int]) -> None:
        """Let one event into the selections of the whole history."""
        first = 2 + self.layout.width
        for kept in self.kept.values():
            bits = row[first + kept.signal]
            value = _float(bits)
            if isnan(value):
                continue
            time, tie, best = header[kept.at : kept.at + 3]
            if best == _NAN_BITS or _is_better(
                kept.select, (row[0], row[1], value), (time, tie, _float(best))
            ):
                header[kept.at : kept.at + 3] = row[0], row[1], bits

    def _evicted(self, rows: memoryview, header: list[int]) -> list[bytes | memoryview]:
        """Return the parts of `rows` that stay: those no later read can reach are cut off the
        front, once they are a quarter of all. The newest of them becomes the sentinel."""
        horizon, width = header[1] - self._reach, self.width
        words = rows.cast("q")
        count = len(words) // width
        if count < FEWEST or words[count // 4 * width] >= horizon:
            return [rows]
        low = bisect_left(words[::width], horizon, count // 4 + 1)
        last = (low - 1) * width
        header[0] = max(header[0], words[last])
        base = words[last + 2 : last + width].tolist()
        return [self._row_format.pack(BEFORE, BEFORE, *base), rows[low * width * 8 :]]


def _float(bits: int) -> float:
    found: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return found


def _is_better(select: Selection, new: tuple[int, int, float], old: tuple[int, int, float]) -> bool:
    if select == "least":
        return new[2] < old[2]
    if select == "greatest":
        return new[2] > old[2]
    if select == "latest":
        return new[:2] >= old[:2]
    return new[:2] < old[:2]
