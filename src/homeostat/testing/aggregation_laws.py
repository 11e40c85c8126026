"""The laws of an aggregation, as checks that anybody can run on their own.

for name, check in aggregation_checks(subject): check()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.families import Aggregation

__all__ = ["LawBroken", "Subject", "aggregation_checks"]

V = TypeVar("V")
X = TypeVar("X")
S = TypeVar("S")


class LawBroken(AssertionError):
    """Raised explicitly, so a check still bites under `python -O`."""


@dataclass(frozen=True)
class Subject(Generic[V, X, S]):
    """An aggregation with events to try it on.

    `make(begin, end)` returns the aggregation and its input for a run of `n` sample events, in the
    order of time; `oracle(begin, end, at)` says what it should give for that run: one number, or
    one per feature.
    """

    make: Callable[[int, int], tuple[Aggregation[V, X, S], V]]
    oracle: Callable[[int, int, int], float | Sequence[float]]
    n: int
    at: int


def aggregation_checks(subject: Subject[Any, Any, Any]) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield (name, check); the subject should hold five to fifteen events, some without a value."""
    whole, events = subject.make(0, subject.n)
    cuts = [(low, high) for low in range(subject.n + 1) for high in range(low, subject.n + 1)]
    begin, end = (np.array(side) for side in zip(*cuts, strict=True))
    at = np.full(len(cuts), subject.at)

    def windows() -> Floats:
        index = whole.prepare(events)
        return whole.finalize(whole.reduce(index, begin, end), at)

    def agrees_with_the_oracle() -> None:
        wanted = [subject.oracle(low, high, subject.at) for low, high in cuts]
        _require_same(windows(), np.array(wanted), cuts, "the oracle")

    def depends_on_its_own_events_only() -> None:
        alone = []
        for low, high in cuts:
            part, given = subject.make(low, high)
            index = part.prepare(given)
            states = part.reduce(index, np.array([0]), np.array([high - low]))
            alone.append(part.finalize(states, np.array([subject.at]))[0])
        _require_same(windows(), np.array(alone), cuts, "its events alone")

    def any_pieces_merge_to_the_whole() -> None:
        index = whole.prepare(events)
        for middle in range(subject.n + 1):
            split = np.clip(np.full(len(cuts), middle), begin, end)
            pieces = whole.reduce(index, _paired(begin, split), _paired(split, end))
            merged = whole.merge(pieces, np.arange(0, 2 * len(cuts), 2))
            _require_same(whole.finalize(merged, at), windows(), cuts, f"cut at {middle}")

    def arguments_stay_untouched() -> None:
        before = repr(events)
        index = whole.prepare(events)
        index_before = repr(index)
        states = whole.reduce(index, begin, end)
        states_before = repr(states)
        whole.merge(states, np.arange(0, len(cuts), 3))
        whole.finalize(states, at)
        if (before, index_before, states_before) != (repr(events), repr(index), repr(states)):
            raise LawBroken("an argument was changed")

    yield "agrees with the oracle", agrees_with_the_oracle
    yield "depends on its own events only", depends_on_its_own_events_only
    yield "any pieces merge to the whole", any_pieces_merge_to_the_whole
    yield "arguments stay untouched", arguments_stay_untouched


def _paired(left: Ints, right: Ints) -> Ints:
    return np.stack([left, right], axis=1).reshape(-1)


def _require_same(found: Floats, wanted: Floats, cuts: list[tuple[int, int]], what: str) -> None:
    """Compare bits; a window is named by its rows."""
    found, wanted = (np.ascontiguousarray(v).reshape(len(cuts), -1) for v in (found, wanted))
    unlike = np.flatnonzero((found.view(np.int64) != wanted.view(np.int64)).any(axis=1))
    if len(unlike):
        place = int(unlike[0])
        raise LawBroken(f"rows {cuts[place]}: {found[place]!r}, but {what} gives {wanted[place]!r}")
