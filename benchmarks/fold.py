"""Claim: one core folds 250,000 decoded events per second into a view, committed.

Five aggregations over three windows, 100 k entities, batches of 1 k to 200 k events, each batch one
synced transaction that also holds the offset. Beside it the floor: the same events grouped by key
with NumPy and appended to LMDB as raw rows, with no feature computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
import polars as pl

import homeostat as hs
from benchmarks.contest import Benchmark, Case, Work
from benchmarks.payments import CARD, EVENT_COLUMNS, payments, write_events
from homeostat.adapters.lmdb import LmdbStore
from homeostat.core.store import Writer

__all__ = ["BENCHMARK"]

VIEW = hs.FeatureView(
    "spending",
    CARD,
    payments,
    tuple(
        made.over("1h", "1d", "7d")
        for made in (
            hs.count(), hs.sum_("amount"), hs.mean("amount"), hs.maximum("amount"),
            hs.minimum("amount"),
        )
    ),
)  # fmt: skip


WITH_VARIANCE = hs.FeatureView(
    "spending",
    CARD,
    payments,
    (*VIEW.aggregations, hs.variance("amount").over("1h", "1d", "7d")),
    exclude_own=VIEW.exclude_own,
)


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """Batches of four sizes; as many events as take a few seconds."""
    entities, warm = (1_000, 2_000) if small else (100_000, 200_000)
    sizes = {1_000: 40_000, 10_000: 200_000, 50_000: 400_000, 200_000: 800_000}
    if small:
        sizes = {100: 2_000, 10_000: 20_000}
    return [
        Case(
            f"batches of {batch / 1000:g} k",
            folder / f"fold-{entities}-{batch}",
            {
                "events": warm + total,
                "warm": warm,
                "batch": batch,
                "entities": entities,
                "keys": "uniform",
                "tick": 1,
            },
        )
        for batch, total in sizes.items()
    ]


def prepare(case: Case) -> None:
    """Write the events."""
    write_events(case)


def ours(case: Case) -> Work:
    """Prepare and apply each batch."""
    return _folded(case, VIEW)


def with_variance(case: Case) -> Work:
    """The same, and the sums of the squares."""
    return _folded(case, WITH_VARIANCE)


def _folded(case: Case, view: hs.FeatureView) -> Work:
    from homeostat.features.fold import ViewFold

    fold = ViewFold(view)

    def append(writer: Writer, batch: pl.DataFrame) -> None:
        fold.apply(writer, fold.prepare(batch), 0, batch.height)

    return _folding(case, append)


def floor(case: Case) -> Work:
    """Group by key, read, append, write: rows of (time, tie, amount)."""

    def append(writer: Writer, batch: pl.DataFrame) -> None:
        card = batch["card"].to_numpy()
        rows = np.empty((len(card), 3), np.int64)
        rows[:, 0] = batch["_event_time"].to_physical().to_numpy()
        rows[:, 1] = batch["_tie"].to_numpy()
        rows[:, 2] = batch["amount"].to_numpy().view(np.int64)
        order = np.argsort(card, kind="stable")
        sorted_card = card[order]
        packed = rows[order].tobytes()
        cuts = np.flatnonzero(np.diff(sorted_card, prepend=-1)).tolist()
        found = sorted_card[cuts].tolist()
        for key, begin, end in zip(found, cuts, [*cuts[1:], len(card)], strict=True):
            name = b"%d" % key
            writer.put(name, (writer.get(name) or b"") + packed[begin * 24 : end * 24])

    return _folding(case, append)


def _folding(case: Case, append: Callable[[Writer, pl.DataFrame], None]) -> Work:
    events = pl.read_parquet(case.folder / "events/*.parquet", columns=EVENT_COLUMNS)
    folder = TemporaryDirectory(dir=case.folder)
    store = LmdbStore(Path(folder.name))
    warm, size = case["warm"], case["batch"]
    with store.writer() as writer:
        append(writer, events[:warm])
    batches = [events[at : at + size] for at in range(warm, events.height, size)]

    def work() -> dict[str, float]:
        began, used = perf_counter(), process_time()
        for number, batch in enumerate(batches):
            with store.writer() as writer:
                append(writer, batch)
                writer.put(b"offset/payments", number.to_bytes(8, "big"))
        wall, cpu = perf_counter() - began, process_time() - used
        total = events.height - warm
        store.close()
        folder.cleanup()
        return {"events_per_s": total / wall, "events_per_cpu_s": total / cpu}

    return work


BENCHMARK = Benchmark(
    name="fold",
    claim="Fold: five aggregations over three windows into the live state, committed",
    module=__name__,
    systems={
        "homeostat": "ours",
        "homeostat, with a variance": "with_variance",
        "NumPy and LMDB, raw rows": "floor",
    },
    cases=cases,
    prepare=prepare,
    figures=("events_per_s", "events_per_cpu_s"),
    note=(
        "Events are decoded frames; every batch is one synced transaction with the offset. The raw "
        "rows are what an append alone costs: no sums, no order, no eviction."
    ),
)
