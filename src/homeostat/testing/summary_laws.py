"""The laws of a summary, as checks that anybody can run on their own.

for name, check in summary_checks(subject): check()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.summaries import Columnar, Rows, Slices, Summary, looped
from homeostat.testing.laws import LawBroken, hold

__all__ = ["SummarySubject", "summary_checks"]

V = TypeVar("V", Floats, Ints)


@dataclass(frozen=True)
class SummarySubject:
    """A summary with events to try it on, in the order of time; ten to forty of them will do.

    `oracle(rows, at)` says in plain words what the features of those rows should be.
    """

    summary: Summary
    rows: Rows
    oracle: Callable[[Rows, int], Sequence[float]]
    at: int


def summary_checks(subject: SummarySubject) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield (name, check); every check raises `LawBroken` where the law does not hold."""
    checks = (
        _agrees_with_the_oracle,
        _the_order_does_not_matter,
        _parts_merge_to_the_whole,
        _states_keep_their_bound,
        _nothing_is_the_same_at_any_instant,
        _arguments_stay_untouched,
        _columns_are_single_reads,
    )
    for check in checks:
        yield check.__name__.strip("_").replace("_", " "), _bound(check, subject)


def _bound(check: Callable[[SummarySubject], None], subject: SummarySubject) -> Callable[[], None]:
    return lambda: check(subject)


def _cuts(subject: SummarySubject) -> list[Rows]:
    """Return every run of the rows."""
    n = len(subject.rows.values)
    return [subject.rows[low:high] for low in range(n + 1) for high in range(low, n + 1)]


def _agrees_with_the_oracle(subject: SummarySubject) -> None:
    for rows in _cuts(subject):
        found = _value(subject, subject.summary.state(rows))
        wanted = np.array(subject.oracle(rows, subject.at), np.float64)
        _same(found, wanted, f"{len(rows.values)} events", "the oracle")


def _the_order_does_not_matter(subject: SummarySubject) -> None:
    n = len(subject.rows.values)
    state = subject.summary.state(subject.rows)
    for order in (np.arange(n)[::-1], np.roll(np.arange(n), n // 2), np.arange(n) * 7 % max(n, 1)):
        if len(set(order.tolist())) == n:
            _same(subject.summary.state(subject.rows[order]), state, "another order", "the first")


def _parts_merge_to_the_whole(subject: SummarySubject) -> None:
    summary, rows = subject.summary, subject.rows
    whole, n = summary.state(rows), len(rows.values)
    apart = [np.arange(n) < middle for middle in range(n + 1)] + [np.arange(n) % 2 == 0]
    for inside in apart:
        left, right = summary.state(rows[inside]), summary.state(rows[~inside])
        where = f"{inside.sum()} and {(~inside).sum()} events"
        _same(summary.merge(left, right), whole, where, "the whole")
        _same(summary.merge(right, left), whole, f"{where}, the other way", "the whole")
    singles = [summary.state(rows[place : place + 1]) for place in range(n)]
    folded = summary.state(rows[:0])
    for single in singles:
        folded = summary.merge(folded, single)
    _same(folded, whole, "one by one", "the whole")


def _states_keep_their_bound(subject: SummarySubject) -> None:
    for rows in _cuts(subject):
        state = subject.summary.state(rows)
        hold(state.dtype == np.int64 and state.ndim == 1, "a state is a flat array of int64")
        hold(
            len(state) <= subject.summary.most,
            f"a state has at most {subject.summary.most} words, found {len(state)}",
        )
    hash(subject.summary)


def _nothing_is_the_same_at_any_instant(subject: SummarySubject) -> None:
    nothing = subject.summary.state(subject.rows[:0])
    now, never = (
        np.array(subject.summary.value(nothing, at), np.float64) for at in (subject.at, 0)
    )
    _same(now, never, "no events now", "no events in 1970")


def _arguments_stay_untouched(subject: SummarySubject) -> None:
    summary, n = subject.summary, len(subject.rows.values)
    given = subject.rows
    rows = Rows(_frozen(given.times), _frozen(given.ties), _frozen(given.values))
    try:
        left, right = (_frozen(summary.state(part)) for part in (rows[: n // 2], rows[n // 2 :]))
        merged = _frozen(summary.merge(left, right))
        summary.value(merged, subject.at)
        if isinstance(summary, Columnar):
            _columns(subject, summary, rows, _windows(n))
    except ValueError as changed:  # NumPy: assignment destination is read-only
        raise LawBroken(f"an argument was changed: {changed}") from changed


def _columns_are_single_reads(subject: SummarySubject) -> None:
    summary, rows = subject.summary, subject.rows
    if isinstance(summary, Columnar):
        slices = _windows(len(rows.values))
        at = np.full(len(slices), subject.at)
        found = _columns(subject, summary, rows, slices)
        hold(found.shape == (len(slices), len(summary.parts)), "one column per part")
        _same(found, looped(summary, rows, slices, at), "columns", "single reads")


def _windows(n: int) -> Slices:
    """Return every run of n rows, then every run without one row of it."""
    runs = [(low, high) for low in range(n + 1) for high in range(low, n + 1)]
    pieces = [[run] for run in runs] + [[(0, hole), (hole + 1, n)] for hole in range(n)]
    begin, end = (np.array(side) for side in zip(*(p for q in pieces for p in q), strict=True))
    sizes = np.array([len(query) for query in pieces])
    return Slices(begin, end, np.cumsum(sizes) - sizes)


def _columns(
    subject: SummarySubject, summary: Columnar[object], rows: Rows, slices: Slices
) -> Floats:
    return summary.columns(summary.index(rows), slices, np.full(len(slices), subject.at))


def _value(subject: SummarySubject, state: Ints) -> Floats:
    found = np.array(subject.summary.value(state, subject.at), np.float64)
    hold(len(found) == len(subject.summary.parts), "a value has one number per part")
    return found


def _frozen(values: V) -> V:
    copied = values.copy()
    copied.flags.writeable = False
    return copied


def _same(found: Floats | Ints, wanted: Floats | Ints, where: str, what: str) -> None:
    """Compare bits."""
    is_same = found.shape == wanted.shape and found.tobytes() == wanted.tobytes()
    hold(is_same, f"{where}: {found!r}, but {what} gives {wanted!r}")
