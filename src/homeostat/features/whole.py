"""Summaries of the whole history, kept in an entity's record as merged states.

Their sizes, in words, are the last words of the record's header; the states follow the header one
after the other.
"""

from __future__ import annotations

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
        states = [empty_state(summary).reshape(-1) for summary, _ in self.places]
        return [len(state) for state in states], [state.tobytes() for state in states]

    def begin(self, words: Ints) -> int:
        """Return where the states of a record end."""
        return self.end + int(words[self.end - len(self.places) : self.end].sum())

    def state(self, words: Ints, wanted: tuple[Summary, int]) -> Ints:
        """Return one state as it lies in the record."""
        place = self.places[wanted]
        begin = self.end + int(words[self.end - len(self.places) : place].sum())
        return words[begin : begin + int(words[place])]

    def absorbed(self, words: Ints, rows: Ints) -> Ints:
        """Return a record whose states have seen more events.

        `rows` (n, width) are (event time, tie, lanes, bits of values), in any order.
        """
        header, states = words[: self.end].copy(), []
        for (summary, signal), place in self.places.items():
            state = self.state(words, (summary, signal))
            values = rows[:, self._first + signal].view(np.float64)
            present = ~np.isnan(values)
            if present.any():
                table = rows[present]
                new = Rows(table[:, 0], table[:, 1], values[present])
                state = summary.merge(state, summary.state(new)).reshape(-1)
                if len(state) > summary.most:
                    raise StateOversized(self._layout.view.name, summary, len(state))
            header[place] = len(state)
            states.append(state)
        return np.concatenate([header, *states, words[self.begin(words) :]])
