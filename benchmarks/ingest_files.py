"""Goal: 200,000 events per second and core come from a file into the lake and the live features.

JSON lines of 140 bytes, ten days of payments by card. Ours reads the file, appends it to the log,
validates, deduplicates, folds it into one view of three windows and commits lake and live state,
all synced. Bytewax, PyFlink and Pathway only aggregate: count and mean of three windows by card,
from the same file, kept in memory. Everybody has one core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from benchmarks.card_payments import NOW, SYSTEM, lines, parts, write_payments
from benchmarks.contest import Benchmark, Case, Foreign
from benchmarks.engine_tally import lines_of, rates
from homeostat.core.clock import ManualClock
from homeostat.runtime.app import App

__all__ = ["BENCHMARK", "cases", "ours", "prepare"]

WARM = 2_000
"""Events of a first run, which compiles what is compiled on first use."""


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """Two sizes: slow engines are asked for the first only."""
    sizes = ((4_000, 200),) if small else ((200_000, 10_000), (2_000_000, 100_000))
    return [
        Case(
            f"{events / 1000:g} k events, {cards / 1000:g} k cards",
            folder / f"files-{events}",
            {"events": events, "cards": cards},
        )
        for events, cards in sizes
    ]


def prepare(case: Case) -> None:
    """Write the events."""
    write_payments(case.folder, case["events"], case["cards"])


def ours(case: Case) -> Callable[[], dict[str, float]]:
    """Ingest the file as history, and flush."""
    warm = case.folder / "warm.ndjson"
    warm.write_bytes(lines(next(parts(WARM, WARM))))
    ingested(warm, case.folder, WARM)
    return lambda: ingested(lines_of(case), case.folder, case["events"])


def ingested(path: Path, folder: Path, events: int) -> dict[str, float]:
    """Ingest a file into a new home, and say how fast."""
    with (
        TemporaryDirectory(dir=folder) as home,
        App(SYSTEM, Path(home), ManualClock(NOW)) as app,
    ):
        began, used = perf_counter(), process_time()
        counts = app.ingest("payments", path, history=True)
        app.live.flush()
        wall, cpu = perf_counter() - began, process_time() - used
    if counts.accepted != events:
        raise RuntimeError(f"{events} events, and {counts}")
    return rates(events, wall, cpu)


BENCHMARK = Benchmark(
    name="ingest_files",
    claim="Files: JSON lines to the lake and the live features, committed and synced, on one core",
    module=__name__,
    systems={
        "homeostat": "ours",
        "Bytewax, fold_window": Foreign("bytewax", "benchmarks.ingest_bytewax", "tumbling"),
        "Bytewax, exact by hand": Foreign("bytewax", "benchmarks.ingest_bytewax", "sliding"),
        "PyFlink SQL, batch": Foreign("flink", "benchmarks.ingest_flink", "batch"),
        "PyFlink SQL, streaming": Foreign("flink", "benchmarks.ingest_flink", "streaming"),
        "PyFlink SQL, exact": Foreign("flink", "benchmarks.ingest_flink", "exact"),
        "Pathway, windowby": Foreign("pathway", "benchmarks.ingest_pathway", "tumbling"),
    },
    cases=cases,
    prepare=prepare,
    measure="wall_s",
    figures=("events_per_s", "events_per_cpu_s"),
    note=(
        "The others aggregate in memory and do nothing else: no validation, deduplication, log, "
        "lake or durable state, and no answer in between. They have one tumbling window of each "
        "length per event, the least that can be done; the exact ones have, as we do, the windows "
        "that end at each event. A first run over 2,000 lines is not counted, nor is starting the "
        "JVM; Bytewax and Pathway have nothing to warm."
    ),
    one_core=True,
)
