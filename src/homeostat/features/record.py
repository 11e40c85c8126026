"""The live state of one entity in one view, as bytes that are read without parsing.

A record is a header, states of the whole history, a directory of pages, and rows, all of int64
words (native order).

- The header holds what the rows no longer can: the latest evicted event time, the latest known
  time, how many pages there are and the number of the next one, how many words lie in a value of
  their own (`older.py`), the magnitudes of the sums, the events selected from the whole history,
  and the sizes of the summaries of the whole history.
- A row is (event time, tie, inclusive running sums of the lanes, bits of the signals' values), in
  the order of time and tie. Row 0 is a sentinel before all time that carries the sums of everything
  older. So the state of a slice is a difference of two rows, and an event that arrives in order is
  appended.
- A busy entity has its older rows in pages of their own, whose running sums begin with the page, so
  that a late event rewrites one page. The directory says of each page, from the oldest on, what a
  window that contains all of it needs: its sums, and per signal its least, greatest, first and
  last value.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from homeostat.aggregate.arrays import Ints
from homeostat.aggregate.layout import Layout
from homeostat.aggregate.operations import SELECTIONS, Selection
from homeostat.core.durations import Micros
from homeostat.declare.views import FeatureView
from homeostat.features.whole import Whole

__all__ = ["BEFORE", "EVICTED", "HEAVY", "KNOWN", "NEXT", "OLDER", "PAGES", "Record"]

BEFORE = -(2**63)
"""An instant before all others."""

SLACK = 60_000_000
"""Rows are kept this much longer than windows reach, in microseconds: clocks differ a little."""

FEWEST = 16
"""Smaller records are not looked at for eviction."""

PAGE = 256
"""Rows of a page; a record has up to twice as many of its own."""

HALF_A_PAGE = 2_000
"""Bytes of a value of which LMDB puts two into one of its pages; longer ones get pages alone."""

FEWEST_RECENT = 8
"""Rows that are written together with every event at least."""

EVICTED, KNOWN, PAGES, NEXT, OLDER, HEAVY = range(6)
"""Places in the header; from the last one on are the magnitudes of the sums, each as its upper
and its lower 31 bits, two words that add up without wrapping."""

_NAN_BITS = int(np.array(np.nan).view(np.int64))


@dataclass(frozen=True, slots=True)
class Kept:
    """A whole-history selection: where it lies in the header.

    Twice (time, tie, value bits), of the selected event and of the one that is selected without it:
    a request's own event is left out.
    """

    at: int
    select: Selection
    signal: int


class Record:
    """Where everything is in the records of one view; sizes and positions are in words of 8 bytes.

    `shape` tells the loops of `state_rows` the same: width of a row, lanes, signals, size of the
    header, where the sizes of whole-history states begin in it, words per page in the directory,
    reach, fewest rows to evict from, rows of a page, how many magnitudes the header has.

    A record of more than `longest` words has its last `recent` rows apart from the older ones; not
    if it has states of summaries, which change with every event.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.lanes, self.signals = layout.width, len(layout.signals)
        self.width = 2 + self.lanes + self.signals
        self.entry = 5 + self.lanes + 6 * self.signals
        at = HEAVY + 2 * len(layout.heavy)
        self.kept: dict[tuple[Selection, int], Kept] = {}
        for read in layout.reads:
            select = read.operation.select
            if select and layout.windows[read.window][0] is None:
                key = (select, read.signal)
                if key not in self.kept:
                    self.kept[key] = Kept(at, *key)
                    at += 6
        self.whole = Whole(layout, at)
        self.header = self.whole.end
        self.heavy = np.array(layout.heavy, np.int64)
        self.selected = np.array(
            [(k.at, SELECTIONS.index(k.select), k.signal) for k in self.kept.values()], np.int64
        ).reshape(-1, 3)
        self.reach, self.page = _reach(layout.view) + SLACK, PAGE
        self.shape = np.array(
            [
                self.width, self.lanes, self.signals, self.header, at, self.entry, self.reach,
                FEWEST, PAGE, len(self.heavy),
            ],
            np.int64,
        )  # fmt: skip
        room = (HALF_A_PAGE - 8 * self.header) // (8 * self.width)
        self.recent = min(max(room // 2, FEWEST_RECENT), PAGE)  # a record with pages has PAGE rows
        together = self.header + (2 * self.recent + 1) * self.width
        self.longest = sys.maxsize if self.whole.places else together
        self.empty = self._empty()

    def _empty(self) -> bytes:
        header = [BEFORE, BEFORE, 0, 0, 0, *(0 for _ in range(2 * len(self.heavy)))]
        header += [word for _ in self.kept for word in 2 * (BEFORE, 0, _NAN_BITS)]
        sizes, states = self.whole.empty()
        sentinel = [BEFORE, BEFORE, *(0 for _ in range(self.width - 2))]
        words = np.array([*header, *sizes], np.int64).tobytes()
        return b"".join((words, *states, np.array(sentinel, np.int64).tobytes()))

    def directory(self, words: Ints) -> tuple[int, int]:
        """Return where the directory of a record begins and ends."""
        begin = self.whole.begin(words)
        return begin, begin + int(words[PAGES]) * self.entry


def _reach(view: FeatureView) -> Micros:
    """Return how far back rows are needed: for windows, and to leave own events out of all time."""
    is_whole = any(spec.window is None for spec in view.features())
    return max(view.longest_window, view.own_kept if is_whole and view.own_id else 0)
