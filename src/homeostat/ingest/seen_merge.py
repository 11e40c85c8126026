"""Which runs of seen ids are merged, a bounded stretch at a time, and which are forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros
from homeostat.ingest.seen_runs import Job, Manifest, Position, Run, RunFiles, in_order

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
        kept: offsets after which an entry that is beyond the horizon may be forgotten.
    """

    small: int = 1_024
    fan: int = 16
    chunk: int = 32_768
    effort: int = 8
    kept: int = 4_194_304


SIZES = Sizes()


def add(files: RunFiles, state: Manifest, entries: Int64s, small: int) -> None:
    """Keep new entries, int64 of shape (4, n): with the newest run if that is small, or as one."""
    last = state.runs[-1] if state.runs else None
    if last is not None and last.count < small and not _is_merged(state, last):
        rest = [files.chunk(last.number, chunk) for chunk in range(last.chunks)]
        state.runs[-1] = files.write(last.number, in_order([*rest, entries]))
        return
    state.runs.append(files.write(state.next_number, entries))
    state.next_number += 1


def forget(files: RunFiles, state: Manifest, oldest: Micros) -> None:
    """Drop the runs of which all was known before `oldest`."""
    for run in state.runs:
        if run.last_known < oldest and not _is_merged(state, run):
            files.drop(run)
    state.runs = [
        run for run in state.runs if run.last_known >= oldest or _is_merged(state, run)
    ]


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
    for run in runs[:-1] if runs and runs[-1].count < sizes.small else runs:
        tiers.setdefault(_tier(run.count, sizes), []).append(run)
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


def _go_on(
    files: RunFiles, state: Manifest, job: Job, chunk: int, oldest: Micros | None
) -> None:
    """Go on with the merge until nothing is owed or it is done."""
    runs = {run.number: run for run in state.runs}
    inputs, output = job.inputs, job.output
    waiting: list[Int64s] = []
    while inputs and state.owed > 0:
        part, inputs = _next(files, runs, inputs)
        state.owed -= part.shape[1]
        if oldest is not None:
            part = np.compress(part[3] >= oldest, part, axis=1)
        waiting.append(part)
        if not inputs or state.owed <= 0 or sum(p.shape[1] for p in waiting) >= chunk:
            ready = np.concatenate(waiting, axis=1)
            # Whole chunks while there is more to come, so that chunks are not cut small.
            whole = ready.shape[1]
            if inputs and state.owed > 0:
                whole -= whole % chunk
            waiting = [ready[:, whole:]]
            if whole:
                started = output if output.chunks else None
                output = files.extend(started, output.number, ready[:, :whole])
    if inputs:
        state.job = Job(output, inputs, job.replaced)
        return
    place = min(number for number, run in enumerate(state.runs) if run.number in job.replaced)
    for number in job.replaced:
        files.drop(runs[number])
    made = [output] if output.chunks else []
    before = [run for run in state.runs[:place] if run.number not in job.replaced]
    after = [run for run in state.runs[place:] if run.number not in job.replaced]
    state.runs = [*before, *made, *after]
    state.job = None


def _next(
    files: RunFiles, runs: dict[int, Run], inputs: tuple[Position, ...]
) -> tuple[Int64s, tuple[Position, ...]]:
    """Return the next entries of a merge in their order, and what is left of its inputs.

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
    return in_order(taken), tuple(left)
