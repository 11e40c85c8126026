"""Claim: telling new events from those seen before costs 300 ns of CPU at 50 million ids.

Ids are digests. 1 M or 50 M of them are remembered, batches of 50,000 follow, each one synced
transaction. New ids only, and 1 % that came before, at any time. Beside ours: one key per id in
LMDB, a dictionary of Python, and the anti-join of Polars; the last two are gone with the process.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.contest import Benchmark, Case, Work
from homeostat.adapters.lmdb import LmdbStore
from homeostat.core.store import Writer
from homeostat.ingest.seen import FRESH, SeenIds

__all__ = ["BENCHMARK", "ids"]

Int64s = npt.NDArray[np.int64]
Judge = Callable[[Int64s, Int64s], int]
"""Judges ids at offsets, remembers the new ones and returns how many there were."""

CPU, SLOWEST, OPENED, MEMORY, BYTES = (
    "CPU ns per event", "slowest batch, CPU ms", "opened in ms", "memory MB", "bytes per id",
)  # fmt: skip
GIBIBYTE = 2**30
_PREFIX = b"seen/events/"


def ids(numbers: Int64s) -> Int64s:
    """Return the digest of each number, int64 of shape (n,): different, and as random ones are.

    >>> ids(np.arange(2)).tolist()
    [0, 6238072747940578789]
    """
    mixed = numbers.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))).view(np.int64)


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """Two sizes with new ids only, the larger with 1 % that come again."""
    unit, batch = (20_000, 1_000) if small else (1_000_000, 50_000)
    return [
        Case(
            f"{remembered * unit / 1e6:g} M ids" + f", {again:.0%} again" * bool(again),
            folder / f"dedup-{unit * remembered}",
            {"remembered": unit * remembered, "batch": batch, "again": again},
        )
        for remembered, again in ((1, 0.0), (50, 0.0), (50, 0.01))
    ]


def prepare(case: Case) -> None:
    """Fill the two stores."""
    remembered, batch = case["remembered"], case["batch"]
    with_runs = LmdbStore(case.folder / "runs", sync=False)
    seen = SeenIds("events", None)
    for begin in range(0, remembered, batch):
        offsets = np.arange(begin, min(begin + batch, remembered))
        with with_runs.writer() as writer:
            seen.judge(writer, ids(offsets), ids(~offsets), offsets, offsets)
    with_runs.close()
    _write_keys(case.folder / "keys", ids(np.arange(remembered)))


def _write_keys(folder: Path, ties: Int64s) -> None:
    """Write one key per id as `_put_each` would, all in their order, which is fast."""
    import lmdb

    order = np.argsort(ties.astype(np.uint64))
    folder.mkdir(exist_ok=True)
    with lmdb.open(str(folder), map_size=32 * GIBIBYTE, sync=False) as environment:
        for begin in range(0, len(order), 1_000_000):
            part = order[begin : begin + 1_000_000]
            keys = ties[part].astype(">i8").tobytes()
            values = np.stack([ids(~part), part.astype(">i8").view(np.int64)], axis=1).tobytes()
            items = (
                (_PREFIX + keys[8 * row : 8 * row + 8], values[16 * row : 16 * row + 16])
                for row in range(len(part))
            )
            with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(items, append=True)


def _put_each(writer: Writer, ties: Int64s, offsets: Int64s) -> int:
    """Remember ids as one key each, in the order of the keys; return how many are new."""
    keys, firsts = ties.astype(">i8").tobytes(), offsets.astype(">i8").tobytes()
    contents, new = ids(~offsets).tobytes(), 0
    get, put = writer.get, writer.put
    for begin in range(0, len(keys), 8):
        cut = slice(begin, begin + 8)
        key = _PREFIX + keys[cut]
        found = get(key)
        if found is None:
            put(key, contents[cut] + firsts[cut])
            new += 1
    return new


def ours(case: Case) -> Work:
    """Sorted runs, and a filter in memory."""
    import homeostat.ingest.seen_loops  # noqa: F401  # the compiler is not the index

    before = _private_mb()
    store, folder = _copied(case, "runs")
    seen = SeenIds("events", None)

    def judge(ties: Int64s, offsets: Int64s) -> int:
        with store.writer() as writer:
            found = seen.judge(writer, ties, ids(~offsets), offsets, offsets)
        return int(np.count_nonzero(found.verdicts == FRESH))

    return _judging(case, judge, 256, before, folder)


def one_key_each(case: Case) -> Work:
    """One key per id in LMDB, looked up in the order of the keys."""
    before = _private_mb()
    store, folder = _copied(case, "keys")

    def judge(ties: Int64s, offsets: Int64s) -> int:
        order = np.argsort(ties.astype(np.uint64))
        with store.writer() as writer:
            return _put_each(writer, ties[order], offsets[order])

    return _judging(case, judge, 12, before, folder)


def dictionary(case: Case) -> Work | str:
    """A dictionary from id to content and offset."""
    if case["remembered"] > 5_000_000:
        return "it needs 200 bytes of memory per id"
    before, remembered = _private_mb(), np.arange(case["remembered"])
    held = dict(
        zip(
            ids(remembered).tolist(),
            zip(ids(~remembered).tolist(), remembered.tolist(), strict=True),
            strict=True,
        )
    )

    def judge(ties: Int64s, offsets: Int64s) -> int:
        new = 0
        contents = ids(~offsets).tolist()
        for tie, content, offset in zip(ties.tolist(), contents, offsets.tolist(), strict=True):
            if tie not in held:
                held[tie] = (content, offset)
                new += 1
        return new

    return _judging(case, judge, 20, before)


def anti_join(case: Case) -> Work:
    """A frame of the remembered ids, and the rows of a batch that are not in it."""
    before, remembered = _private_mb(), np.arange(case["remembered"])
    held = [pl.DataFrame({"tie": ids(remembered), "content": ids(~remembered)})]

    def judge(ties: Int64s, offsets: Int64s) -> int:
        batch = pl.DataFrame({"tie": ties, "content": ids(~offsets)})
        new = batch.join(held[0], on="tie", how="anti")
        held[0] = held[0].vstack(new)
        return new.height

    return _judging(case, judge, 4, before)


def _copied(case: Case, name: str) -> tuple[LmdbStore, TemporaryDirectory[str]]:
    folder = TemporaryDirectory(dir=case.folder)
    shutil.copyfile(case.folder / name / "data.mdb", Path(folder.name, "data.mdb"))
    return LmdbStore(folder.name, map_size=32 * GIBIBYTE), folder


def _judging(
    case: Case,
    judge: Judge,
    batches: int,
    before: float,
    folder: TemporaryDirectory[str] | None = None,
) -> Work:
    """Return what judges a first batch of one id, which opens the index, then whole batches.

    `before` is the memory before there was anything, in MB.
    """
    remembered, size = case["remembered"], case["batch"]
    again = int(size * case["again"])
    numbers = np.random.default_rng(7)

    def batch(number: int) -> tuple[Int64s, Int64s]:
        offsets = np.arange(number * size, (number + 1) * size) + remembered + 1
        known = offsets.copy()
        known[:again] = numbers.integers(0, remembered, again)
        return ids(known), offsets

    def work() -> dict[str, float]:
        began = perf_counter()
        if judge(ids(np.array([remembered])), np.array([remembered])) != 1:
            raise RuntimeError(f"{case.name}: the first new id was not new")
        opened = perf_counter() - began
        used = []
        for number in range(batches):
            ties, offsets = batch(number)
            started = process_time()
            new = judge(ties, offsets)
            used.append(process_time() - started)
            if new > size - again or new < size - 2 * again:
                raise RuntimeError(f"{case.name}: {new} of {size} ids were new")
        memory = max(_private_mb() - before, 0.1)
        held = memory * 2**20
        if folder is not None:
            held = Path(folder.name, "data.mdb").stat().st_size
            folder.cleanup()
        return {
            CPU: sum(used) / (batches * size) * 1e9,
            SLOWEST: max(used) * 1e3,
            OPENED: opened * 1e3,
            MEMORY: memory,
            BYTES: held / (remembered + batches * size),
        }

    return work


def _private_mb() -> float:
    """Return the memory of the process alone: pages of files that it looks into are not in it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((float(ln.split()[1]) / 1024 for ln in lines if ln.startswith("RssAnon")), 0.0)


BENCHMARK = Benchmark(
    name="dedup",
    claim="Deduplication: new events told from those seen before, committed",
    module=__name__,
    systems={
        "homeostat": "ours",
        "LMDB, one key per id": "one_key_each",
        "Python, dictionary": "dictionary",
        "Polars, anti-join": "anti_join",
    },
    cases=cases,
    prepare=prepare,
    measure=CPU,
    figures=(CPU, SLOWEST, OPENED, MEMORY, BYTES),
    note=(
        "Batches of 50,000, each one synced transaction: 256 of ours, so that all merges of that "
        "many are in it, 12, 20 and 4 of the others. Memory is what the process needs besides the "
        "files it reads; it is opened by the first look-up. Bytes per id are those of the file, "
        "with what is free in it, or of memory where there is no file."
    ),
)
