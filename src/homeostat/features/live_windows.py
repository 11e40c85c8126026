"""What is in the windows of records at one instant: sums, selected values, and whole rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from sys import byteorder

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.layout import Layout
from homeostat.aggregate.operations import SELECTIONS
from homeostat.aggregate.window import window_start
from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.core.store import Reader
from homeostat.declare.views import FeatureView
from homeostat.features.cut import Cut
from homeostat.features.keys import older_prefix, page_prefix, view_prefix
from homeostat.features.older import Older
from homeostat.features.pages import Pages
from homeostat.features.record import BEFORE, PAGES, Record

__all__ = ["LiveWindows", "Looked", "StateGone", "Stored"]

_WORDS = np.dtype(np.int64)
_NONE = np.frombuffer(bytes(8), _WORDS)[:0]
_NO_PAGES = (_NONE, np.empty(0, np.int64))


class StateGone(HomeostatError):
    """A read at an instant whose events the live state no longer holds."""

    def __init__(self, view: str, at: Micros) -> None:
        super().__init__(
            f"view {view!r}: a read at {from_micros(at).isoformat()} needs events that were "
            "evicted; allowed: instants from the latest known event on; compute older values "
            "from the lake (`point_in_time`)"
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """The record of an entity, empty for none, and the tie of the request's own event, or 0.

    `is_paged` says that the own event may be in a page of the record.
    """

    key: bytes
    record: bytes
    own: int
    is_paged: bool = False


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found in the windows of some records (`state_rows.looked_up`).

    `weights` has, of each record whose sums may leave their range, the magnitudes by window.
    """

    sums: Ints
    picks: Floats
    times: Ints
    states: Ints
    weights: dict[int, list[list[int]]] = field(default_factory=dict)

    @classmethod
    def room(cls, records: int, windows: int, record: Record) -> Looked:
        """Return room for some records."""
        return cls(
            np.empty((records, windows, record.lanes), np.int64),
            np.empty((records, windows, record.signals, len(SELECTIONS))),
            np.empty((records, windows, record.signals), np.int64),
            np.empty(records, np.int64),
        )

    def only(self, place: int) -> Looked:
        """Return the room of one of the records."""
        one = slice(place, place + 1)
        return Looked(self.sums[one], self.picks[one], self.times[one], self.states[one])


class LiveWindows:
    """Looks into the windows of one view's records."""

    def __init__(self, view: FeatureView, layout: Layout) -> None:
        from homeostat.features.state_rows import GONE, HEAVY, LOADED, looked_up, pages_wanted

        self._view, self._layout = view, layout
        self._record = Record(layout)
        self._pages = Pages(self._record, (view_prefix(view), page_prefix(view)))
        self.record = Older(self._record, (view_prefix(view), older_prefix(view))).read
        self._look_up, self._pages_wanted = looked_up, pages_wanted
        self._gone, self._heavy, self._loaded = GONE, HEAVY, LOADED

    def starts(self, at: Micros) -> Ints:
        """Return where each window of the view begins, `BEFORE` for the whole history."""
        return np.array(
            [
                BEFORE if window is None else window_start(at, window, hop)
                for window, hop in self._layout.windows
            ],
            np.int64,
        )

    def look(self, reader: Reader, stored: Sequence[Stored], at: Micros) -> Looked:
        """Return what is in the windows of every record."""
        starts = self.starts(at)
        looked = Looked.room(len(stored), len(starts), self._record)
        stored = [self._placed(reader, one) for one in stored]
        own = np.array([one.own for one in stored], np.int64)
        records = [one.record for one in stored]
        # A single record is given the pages that it needs at once.
        alone = stored[0] if len(stored) == 1 and not stored[0].is_paged else None
        pages = _NO_PAGES if alone is None else self._wanted(reader, alone, starts)
        since = at - self._view.own_kept
        self._read(records, own, since, starts, pages, looked)
        for place in np.flatnonzero(looked.states).tolist():
            one = stored[place]
            if looked.states[place] == self._loaded:
                self._read_paged(reader, one, since, starts, looked.only(place))
            state = int(looked.states[place])
            if state == self._gone:
                raise StateGone(self._view.name, at)
            if state == self._heavy:
                cut = self._weighed(reader, one, at, starts)
                looked.weights[place] = [cut.weights(start) for start in starts.tolist()]
        return looked

    def cut(self, reader: Reader, one: Stored, at: Micros) -> Cut:
        """Return the record with all its rows at hand."""
        words = np.frombuffer(one.record, _WORDS)
        if words[PAGES]:
            words = self._pages.whole(reader, one.key, words)
        return Cut.of(self._record, words, at, one.own)

    def _weighed(self, reader: Reader, one: Stored, at: Micros, starts: Ints) -> Cut:
        """Return the record with all rows that may weigh: its pages only where a window begins
        before the rows that are not in pages, or where the request's own event may be in one."""
        cut = Cut.of(self._record, np.frombuffer(one.record, _WORDS), at, one.own)
        bounded = starts[starts != BEFORE]
        if one.own or (bounded <= cut.rows[1:2, 0]).any() or len(cut.rows) < 2:
            return self.cut(reader, one, at)
        return cut

    def _read(
        self, records: Sequence[bytes], own: Ints, since: Micros, starts: Ints,
        pages: tuple[Ints, Ints], looked: Looked,
    ) -> None:  # fmt: skip
        ends = np.zeros(len(records) + 1, np.int64)
        ends[1:] = [len(record) // 8 for record in records]
        self._look_up(
            self._record.shape, self._record.selected, starts, _words(records), ends.cumsum(), own,
            since, *pages, looked.sums, looked.picks, looked.times, looked.states,
        )  # fmt: skip

    def _read_paged(
        self, reader: Reader, one: Stored, since: Micros, starts: Ints, looked: Looked
    ) -> None:
        """Read a record with its pages; all of them where the request's own event may be in one."""
        record, pages = one.record, _NO_PAGES
        if one.is_paged:
            words = self._pages.whole(reader, one.key, np.frombuffer(record, _WORDS))
            record = words.tobytes()
        else:
            pages = self._wanted(reader, one, starts)
        self._read([record], np.array([one.own], np.int64), since, starts, pages, looked)

    def _placed(self, reader: Reader, one: Stored) -> Stored:
        """Find out where the own event of a request is: among the rows, perhaps in a page, or not.

        Usually it is nowhere, and nothing is done about it.
        """
        if not one.own or not _pages_of(one.record):
            return one
        words = np.frombuffer(one.record, _WORDS)
        _, rows = self._record.directory(words)
        if (words[rows + 1 :: self._record.width] == one.own).any():
            return one
        is_paged = self._pages.may_have(reader, one.key, words, one.own)
        return replace(one, own=one.own if is_paged else 0, is_paged=is_paged)

    def _wanted(self, reader: Reader, one: Stored, starts: Ints) -> tuple[Ints, Ints]:
        """Return the pages of a record that are needed, and where each begins."""
        if not _pages_of(one.record):
            return _NO_PAGES
        words = np.frombuffer(one.record, _WORDS)
        entries = self._pages.entries(words)
        page_at, size, loaded = np.zeros(len(entries), np.int64), 0, []
        for page in self._pages_wanted(self._record.shape, starts, words).tolist():
            loaded.append(self._pages.raw(reader, one.key, int(entries[page, 0])))
            page_at[page] = size
            size += len(loaded[-1]) // 8
        return _words(loaded), page_at


def _pages_of(record: bytes) -> int:
    """Return how many pages a record has."""
    return int.from_bytes(record[8 * PAGES : 8 * PAGES + 8], byteorder)


def _words(parts: Sequence[bytes]) -> Ints:
    joined = parts[0] if len(parts) == 1 else b"".join(parts)
    return np.frombuffer(joined, _WORDS) if joined else _NONE
