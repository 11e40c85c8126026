"""Goal: a second core makes ingestion from files faster, and one core is no slower than before.

The same work as ours of `ingest_files`, held to one core, and to two. The results are the same to
the bit (the tests compare them).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from time import thread_time

from benchmarks.contest import Benchmark, Case, Work
from homeostat.core.row_threads import cores

__all__ = ["BENCHMARK"]


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """The larger size of the files: the smaller one is a batch or two."""
    from benchmarks import ingest_files

    return ingest_files.cases(small, folder)[-1:]


def prepare(case: Case) -> None:
    """Write the events."""
    from benchmarks import ingest_files

    ingest_files.prepare(case)


def on_one(case: Case) -> Work | str:
    """Ingest on one core."""
    return _held(case, 1)


def on_two(case: Case) -> Work | str:
    """Ingest on two cores."""
    return _held(case, 2)


def _held(case: Case, number: int) -> Work | str:
    """Hold the process to so many cores before Polars is imported, which then makes its pool."""
    if not hasattr(os, "sched_setaffinity"):
        return "not run: only Linux holds a process to some cores"
    if cores() < number:
        return f"not run: there are {cores()} cores"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-number:])
    from benchmarks import ingest_files

    ingest = ingest_files.ours(case)

    def work() -> dict[str, float]:
        began = thread_time()
        found: dict[str, float] = dict(ingest())
        return found | {"thread_cpu_s": thread_time() - began}

    return work


BENCHMARK = Benchmark(
    name="ingest_cores",
    claim="Files, on one core and on two: JSON lines to the lake and the live features, synced",
    module=__name__,
    systems={"homeostat, one core": "on_one", "homeostat, two cores": "on_two"},
    cases=cases,
    prepare=prepare,
    measure="wall_s",
    figures=("events_per_s", "events_per_cpu_s", "thread_cpu_s"),
    note=(
        "thread_cpu_s is the processor time of the thread that reads, appends and folds: what is "
        "left is done beside it."
    ),
)
