"""Which events were seen before: an index of ids in sorted runs, exact and of bounded cost.

The verdict on a record is a function of the log: of the entries remembered at smaller offsets,
within the horizon. Everything is kept in the transaction in which it is judged. In memory there is
only a filter, which may hold too much, and by which most new ids need no look into the runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros
from homeostat.core.ids import id_digest
from homeostat.ingest.seen_filter import IdFilter, segment_bounds
from homeostat.ingest.seen_merge import SIZES, Sizes, add, forget, merge
from homeostat.ingest.seen_runs import Manifest, Room, RunFiles, order_of

if TYPE_CHECKING:
    from homeostat.core.store import Reader, Writer

__all__ = ["CONFLICT", "DUPLICATE", "FRESH", "Judged", "Remembered", "SeenIds", "remembered"]

Int64s = npt.NDArray[np.int64]

FRESH, DUPLICATE, CONFLICT = 0, 1, 2
"""A new event; one that came before with the same content; with other content."""

_SPARE = 1.4
"""Room of a part of the filter that is made anew, relative to what it holds."""

_COVERED = 1_024
"""States of the index that are known to be in the filter; of any other it is made anew."""

_MARKS = 8
"""Marks in the stretch of the log that may be taken again."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What became of n records.

    Attributes:
        verdicts: `FRESH`, `DUPLICATE` or `CONFLICT`, int8 of shape (n,).
        remembered: the content that is remembered for the id, 0 where it is fresh, int64 of (n,).
    """

    verdicts: npt.NDArray[np.int8]
    remembered: Int64s


class SeenIds:
    """The ids of one source's events, remembered in the online store.

    A record is fresh if its id is not remembered by an entry with a smaller offset that was known
    at most `horizon_us` before it, or if the entry is its own. Then it is remembered. The same id
    within the horizon is a duplicate or, with other content, a conflict; beyond it, a new event.

    Any stretch of the log that begins at most `sizes.kept` offsets back may be taken again, in
    other batches, and is judged as it was the first time. Ids are compared by their digests.

    Args:
        source: the name of the source.
        horizon_us: for how long an id is remembered, in microseconds; None for good.
        sizes: how the index is laid out.

    >>> from homeostat.testing.memory_store import MemoryStore
    >>> seen, store = SeenIds("payments", 60_000_000), MemoryStore()
    >>> ids, contents = np.array([7, 8, 7]), np.array([1, 2, 3])
    >>> with store.writer() as writer:
    ...     judged = seen.judge(writer, ids, contents, np.arange(3), np.arange(3))
    >>> judged.verdicts.tolist(), judged.remembered.tolist()
    ([0, 0, 2], [0, 0, 1])
    """

    def __init__(self, source: str, horizon_us: Micros | None, sizes: Sizes = SIZES) -> None:
        self._source, self._horizon, self._sizes = source, horizon_us, sizes
        self._filter = IdFilter(sizes.room)
        self._rows, self._room = Room(), Room()
        self._covered: OrderedDict[bytes, None] = OrderedDict({Manifest().digest: None})

    def judge(
        self, writer: Writer, ties: Int64s, contents: Int64s, offsets: Int64s, known: Int64s
    ) -> Judged:
        """Judge records in log order, and remember those that are fresh.

        Args:
            writer: the transaction; what it does not commit was never judged.
            ties: the digests of the ids, int64 of shape (n,).
            contents: the digests of what the events say, int64 of shape (n,).
            offsets: where they are in the log, ascending, int64 of shape (n,).
            known: when they became known, in microseconds, never descending, int64 of shape (n,).

        Raises:
            SeenDamaged: the store holds something else than what was written.
        """
        count = len(ties)
        judged = Judged(np.zeros(count, np.int8), np.zeros(count, np.int64))
        if not count:
            return judged
        files = RunFiles(writer, self._source, self._sizes.chunk, self._room)
        raw = files.read_manifest()
        state = Manifest() if raw is None else Manifest.unpack(raw, self._source)
        self._cover(files, state)

        order = order_of(ties, offsets)
        rows = self._rows.of(count)
        for row, column in zip(rows, (ties, offsets, contents, known), strict=True):
            np.take(column, order, out=row, mode="clip")  # which writes without a buffer
        heads = _heads(rows[0])
        hits = self._filter.mark(rows[0] if heads is None else rows[0][heads])
        new = rows
        if heads is not None or hits.any():
            if heads is not None:
                hits = hits[np.cumsum(heads) - 1]
            new = self._look_up(files, state, rows, order, hits, judged)
        if new.shape[1]:
            self._remember(files, state, new, int(offsets[0]))
        return judged

    def may_hold(self, reader: Reader, event_id: str) -> bool:
        """Return whether a snapshot may know an id; False is sure. Any thread may ask.

        By the filter, where that holds all that the snapshot does.
        """
        raw = RunFiles(_lender(reader), self._source, self._sizes.chunk, self._room).read_manifest()
        if raw is None:
            return False
        return raw[16:32] not in self._covered or self._filter.holds(id_digest(event_id))

    def _cover(self, files: RunFiles, state: Manifest) -> None:
        """Let the filter hold every id of the index, and have room."""

        def parts(segment: int) -> list[Int64s]:
            return [
                part for run in state.runs for part in files.ties(run, *segment_bounds(segment))
            ]

        if state.digest not in self._covered:
            self._filter.rebuild_all(parts)
            self._covered = OrderedDict({state.digest: None})
        elif (full := self._filter.fullest()) is not None:
            self._filter.rebuild(full, parts(full), _SPARE)
            # What an earlier state held and this one forgot may be missing now.
            self._covered = OrderedDict({state.digest: None})

    def _look_up(
        self,
        files: RunFiles,
        state: Manifest,
        rows: Int64s,
        order: Int64s,
        hits: npt.NDArray[np.bool_],
        judged: Judged,
    ) -> Int64s:
        """Judge rows that are sorted by (tie, offset) and return those to remember."""
        from homeostat.ingest.seen_loops import judged as judge_rows

        asked = np.flatnonzero(hits)
        best = _find(files, state, np.take(rows, asked, axis=1), self._horizon)
        slots = np.full(len(order), -1, np.int64)
        slots[asked] = np.arange(len(asked))
        verdicts, remembered = np.empty(len(order), np.int8), np.empty(len(order), np.int64)
        new = np.empty(len(order), np.bool_)
        horizon = -1 if self._horizon is None else self._horizon
        judge_rows(rows, slots, best, horizon, verdicts, remembered, new)
        judged.verdicts[order], judged.remembered[order] = verdicts, remembered
        return rows if new.all() else np.compress(new, rows, axis=1)

    def _remember(self, files: RunFiles, state: Manifest, new: Int64s, first: int) -> None:
        """Keep the new entries, forget what is past, merge what is owed."""
        sizes = self._sizes
        last = int(new[1].argmax())
        oldest = None
        if self._horizon is not None:
            self._mark(state, int(new[1, last]), int(new[3, last]), first)
            offset, known = state.marks[0]
            if offset <= first - sizes.kept:  # nothing that may be taken again is before it
                oldest = known - self._horizon
                forget(files, state, oldest)
        add(files, state, new, sizes.small)
        state.owed += sizes.effort * new.shape[1]
        merge(files, state, sizes, self._horizon, oldest)
        files.write_manifest(state.pack(new[0]))
        self._covered[state.digest] = None
        if len(self._covered) > _COVERED:
            self._covered.popitem(last=False)

    def _mark(self, state: Manifest, offset: int, known: Micros, first: int) -> None:
        """Note when a record was known, every eighth of the stretch that may be taken again."""
        kept = self._sizes.kept
        if not state.marks or offset >= state.marks[-1][0] + max(kept // _MARKS, 1):
            state.marks.append((offset, known))
        while len(state.marks) > 1 and state.marks[1][0] <= first - kept:
            del state.marks[0]


class Remembered(NamedTuple):
    """The record that made an id known: its offset in the log, and its known time."""

    offset: int
    known: Micros


def remembered(
    reader: Reader, source: str, ids: Sequence[str], at: Micros, horizon_us: Micros | None
) -> dict[str, Remembered]:
    """Return by which records a snapshot knows ids, for an event that comes at `at`.

    An id that is not there, or too old to count, would be a fresh event's.
    """
    files = RunFiles(_lender(reader), source, SIZES.chunk, Room())
    raw = files.read_manifest()
    if raw is None or not ids:
        return {}
    by_tie = {id_digest(name): name for name in ids}
    ties = np.array(sorted(by_tie), np.int64)
    rows = np.zeros((4, len(ties)), np.int64)
    rows[0], rows[1], rows[3] = ties, np.iinfo(np.int64).max, at
    best = _find(files, Manifest.unpack(raw, source), rows, horizon_us)
    return {
        by_tie[tie]: Remembered(offset, known)
        for tie, (state, offset, _, known) in zip(ties.tolist(), best.tolist(), strict=True)
        if state and (horizon_us is None or at - known <= horizon_us)
    }


def _lender(reader: Reader) -> Writer:
    return cast("Writer", _Lender(reader))  # nothing is written


class _Lender:
    """A snapshot as runs are read from: what it returns may be kept."""

    def __init__(self, reader: Reader) -> None:
        self.get = self.lend = reader.get


def _find(files: RunFiles, state: Manifest, rows: Int64s, horizon: Micros | None) -> Int64s:
    """Return what the runs hold of each row, as `seen_loops.found` notes it."""
    from homeostat.ingest.seen_loops import found, placed

    ties, offsets = rows[0], rows[1]
    best = np.zeros((rows.shape[1], 4), np.int64)
    if not len(ties):
        return best
    since = int(rows[3].min()) - (horizon or 0)
    for run in reversed(state.runs):
        if horizon is not None and run.last_known < since:
            continue
        open_ = (best[:, 0] & 2 == 0) & ((best[:, 0] == 0) | (best[:, 1] < run.last_offset))
        asked = np.flatnonzero(open_)
        if not len(asked):
            continue
        chunks = np.zeros(len(asked), np.int64)
        if run.chunks > 1:
            first_ties, first_offsets = files.firsts(run)
            placed(first_ties, first_offsets, ties[asked], offsets[asked], chunks)
        cuts = [0, *(np.flatnonzero(np.diff(chunks)) + 1).tolist(), len(asked)]
        for begin, end in pairwise(cuts):
            there = files.chunk(run.number, int(chunks[begin]))
            found(there, ties, offsets, asked[begin:end], best)
    return best


def _heads(ties: Int64s) -> npt.NDArray[np.bool_] | None:
    """Return which of sorted ties are the first of equal ones, None if no two are equal."""
    heads = np.ones(len(ties), np.bool_)
    np.not_equal(ties[1:], ties[:-1], out=heads[1:])
    return None if heads.all() else heads
