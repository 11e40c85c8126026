"""Summaries of the whole history, kept in an entity's record as merged states.

Their sizes, in words, are the last words of the record's header; the states follow the header one
after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homeostat.aggregate.arrays import Ints
from homeostat.aggregate.layout import Layout
from homeostat.aggregate.summaries import Rows, Summary
from homeostat.core.errors import HomeostatError

__all__ = ["StateOversized", "Whole", "empty_state"]


class StateOversized(HomeostatError, ValueError):
    """A state beyond the bound that its summary declares."""

    def __init__(self, view: str, summary: Summary, words: int) -> None:
        super().__init__(
            f"view {view!r}: the state of {summary!r} has {words} words; allowed: {summary.most}, "
            "its `most`; make its merge keep the bound, or declare a larger one"
        )


def empty_state(summary: Summary) -> Ints:
    """Return the state of no events."""
    none = np.empty(0, np.int64)
    return summary.state(Rows(none, none, np.empty(0)))


class Whole:
    """The states of one view's whole-history summaries in its records.

    `places` says where in the header the size of each is; the header ends at `end`.
    """

    def __init__(self, layout: Layout, at: int) -> None:
        self._layout = layout
        self.places: dict[tuple[Summary, int], int] = {}
        for gather in layout.gathers:
            if layout.windows[gather.window][0] is None:
                self.places[gather.summary, gather.signal] = at + len(self.places)
        self.end = at + len(self.places)
        self._first = 2 + layout.width

    def empty(self) -> tuple[list[int], list[bytes]]:
        """Return the sizes and the states of a record without events."""
        states = [empty_state(summary) for summary, _ in self.places]
        return [len(state) for state in states], [state.tobytes() for state in states]

    def begin(self, header: Sequence[int]) -> int:
        """Return where the states end and the rows begin."""
        return self.end + sum(header[place] for place in self.places.values())

    def state(self, record: bytes, header: Sequence[int], wanted: tuple[Summary, int]) -> Ints:
        """Return one state as it lies in the record."""
        place = self.places[wanted]
        before = sum(header[other] for other in range(self.end - len(self.places), place))
        return np.frombuffer(record, np.int64, header[place], (self.end + before) * 8)

    def absorbed(self, record: bytes, header: list[int], rows: Ints) -> list[bytes]:
        """Return the states with more events, and write their sizes into the header.

        `rows` are as in `Record.merged`.
        """
        old = [self.state(record, header, wanted) for wanted in self.places]
        parts = []
        for state, ((summary, signal), place) in zip(old, self.places.items(), strict=True):
            values = rows[:, self._first + signal].view(np.float64)
            present = ~np.isnan(values)
            found = state
            if present.any():
                table = rows[present]
                new = Rows(table[:, 0], table[:, 1], values[present])
                found = summary.merge(state, summary.state(new))
                if len(found) > summary.most:
                    raise StateOversized(self._layout.view.name, summary, len(found))
            header[place] = len(found)
            parts.append(found.tobytes())
        return parts
