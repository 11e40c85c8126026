"""Which runs of seen ids are merged, a bounded stretch at a time, and which are forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros
from homeostat.ingest.seen_runs import Job, Manifest, Position, Run, RunFiles, order_of

__all__ = ["SIZES", "Sizes", "add", "forget", "merge"]

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How the index is laid out; no verdict depends on it.

    Args:
        small: entries below which the newest run is rewritten with what comes next.
        fan: runs of about one size that are merged into one.
        chunk: entries of one value of the store.
        effort: entries that may be merged for one that is added.
        room: ids that each part of the filter has room for at least.
        kept: offsets after which an entry that is beyond the horizon may be forgotten.
    """

    small: int = 1_024
    fan: int = 16
    chunk: int = 32_768
    effort: int = 8
    room: int = 4_096
    kept: int = 4_194_304


SIZES = Sizes()


def add(files: RunFiles, state: Manifest, entries: Int64s, small: int) -> None:
    """Keep new entries, int64 of shape (4, n): with the newest run if that is small, or as one."""
    last = state.runs[-1] if state.runs else None
    if last is not None and last.entries < small and not _is_merged(state, last):
        parts = [files.chunk(last.number, chunk) for chunk in range(last.chunks)]
        together = np.concatenate([*parts, entries], axis=1)
        order = order_of(together[0], together[1])
        state.runs[-1] = files.write(last.number, np.take(together, order, axis=1))
        return
    state.runs.append(files.write(state.next_number, entries))
    state.next_number += 1


def forget(files: RunFiles, state: Manifest, oldest: Micros) -> None:
    """Drop the runs of which all was known before `oldest`."""
    for run in state.runs:
        if run.last_known < oldest and not _is_merged(state, run):
            files.drop(run)
    state.runs = [run for run in state.runs if run.last_known >= oldest or _is_merged(state, run)]


def _is_merged(state: Manifest, run: Run) -> bool:
    return state.job is not None and run.number in state.job.replaced


def merge(
    files: RunFiles, state: Manifest, sizes: Sizes, horizon_us: Micros | None, oldest: Micros | None
) -> None:
    """Merge as much as is owed; entries known before `oldest` are left out."""
    while state.owed >= sizes.chunk:
        if state.job is None:
            chosen = _chosen(state.runs, sizes, horizon_us)
            if not chosen:
                state.owed = 0
                return
            state.job = Job(
                Run(state.next_number, 0, 0, 0, 0, 0, 0),
                tuple(Position(run.number, 0, 0) for run in chosen),
                tuple(run.number for run in chosen),
            )
            state.next_number += 1
        _go_on(files, state, state.job, sizes.chunk, oldest)


def _chosen(runs: Sequence[Run], sizes: Sizes, horizon_us: Micros | None) -> list[Run]:
    """Return runs of about one size to be merged, the smallest and oldest first."""
    tiers: dict[int, list[Run]] = {}
    for run in runs[:-1] if runs and runs[-1].entries < sizes.small else runs:
        tiers.setdefault(_tier(run.entries, sizes), []).append(run)
    for _, tier in sorted(tiers.items()):
        if len(tier) < sizes.fan:
            continue
        for begin in range(len(tier)):
            taken = tier[begin : begin + sizes.fan]
            while _is_too_long(taken, sizes, horizon_us):
                taken.pop()
            if len(taken) >= max(2, sizes.fan // 4):
                return taken
    return []


def _is_too_long(runs: Sequence[Run], sizes: Sizes, horizon_us: Micros | None) -> bool:
    """Return whether a run of these would have to be kept long after most of it is past."""
    if horizon_us is None or len(runs) < 2:
        return False
    offsets = max(r.last_offset for r in runs) - min(r.first_offset for r in runs)
    known = max(r.last_known for r in runs) - min(r.first_known for r in runs)
    return known > horizon_us // 4 and offsets > sizes.kept // 4


def _tier(count: int, sizes: Sizes) -> int:
    tier, limit = 0, sizes.small * sizes.fan
    while count >= limit:
        tier, limit = tier + 1, limit * sizes.fan
    return tier


class _Output:
    """The run that a merge makes, written in whole chunks as far as it goes in one transaction."""

    def __init__(self, files: RunFiles, run: Run, chunk: int) -> None:
        self.run, self._files = run, files
        self._room, self._filled = np.empty((4, chunk), np.int64), 0

    def add(self, entries: Int64s, order: Int64s) -> None:
        from homeostat.ingest.seen_loops import gathered

        begin, chunk = 0, self._room.shape[1]
        while begin < len(order):
            part = order[begin : begin + chunk - self._filled]
            gathered(entries, part, self._room, self._filled)
            begin, self._filled = begin + len(part), self._filled + len(part)
            if self._filled == chunk:
                self.finish()

    def finish(self) -> None:
        """Write what is left, as a chunk that may be small."""
        if self._filled:
            started = self.run if self.run.chunks else None
            self.run = self._files.extend(started, self.run.number, self._room[:, : self._filled])
            self._filled = 0


def _go_on(files: RunFiles, state: Manifest, job: Job, chunk: int, oldest: Micros | None) -> None:
    """Go on with the merge until nothing is owed or it is done."""
    runs = {run.number: run for run in state.runs}
    inputs, output = job.inputs, _Output(files, job.output, chunk)
    while inputs and state.owed > 0:
        entries, inputs = _next(files, runs, inputs)
        state.owed -= entries.shape[1]
        order = order_of(entries[0], entries[1])
        if oldest is not None:
            order = order[entries[3][order] >= oldest]
        output.add(entries, order)
    output.finish()
    if inputs:
        state.job = Job(output.run, inputs, job.replaced)
        return
    for number in job.replaced:
        files.drop(runs[number])
    place = min(at for at, run in enumerate(state.runs) if run.number in job.replaced)
    state.runs = [run for run in state.runs if run.number not in job.replaced]
    if output.run.chunks:
        state.runs.insert(place, output.run)
    state.job = None


def _next(
    files: RunFiles, runs: dict[int, Run], inputs: tuple[Position, ...]
) -> tuple[Int64s, tuple[Position, ...]]:
    """Return the next entries of a merge, sorted piece by piece, in its room, and what is left.

    They reach to the end of the chunk that ends first: what comes after it is not there yet.
    """
    from homeostat.ingest.seen_loops import until

    views = [files.chunk(p.number, p.chunk)[:, p.entry :] for p in inputs]
    ends = [
        (int(view[0, -1]), int(view[1, -1]))
        for view, p in zip(views, inputs, strict=True)
        if p.chunk + 1 < runs[p.number].chunks
    ]
    taken, left = [], []
    for view, p in zip(views, inputs, strict=True):
        count = view.shape[1]
        cut = until(view[0], view[1], *min(ends)) if ends else count
        taken.append(view[:, :cut])
        if cut < count:
            left.append(Position(p.number, p.chunk, p.entry + cut))
        elif p.chunk + 1 < runs[p.number].chunks:
            left.append(Position(p.number, p.chunk + 1, 0))
    room = files.room.of(sum(part.shape[1] for part in taken))
    return np.concatenate(taken, axis=1, out=room), tuple(left)
