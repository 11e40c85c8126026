"""Goal: a backlog of 20,000,000 events is worked off with memory below 1.5 GB.

A new process finds a log full of events, and brings them into lake and live features. The memory
of the process has two parts: what it has allocated, which must stay bounded, and pages of the
online store that it has touched, which are the system's cache of a file and are given up for
others when memory is short. Therefore it is also done inside a hard bound of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import perf_counter, process_time

from benchmarks.card_payments import NOW, PAYMENTS, SYSTEM, lines, parts
from benchmarks.contest import Benchmark, Case, Work
from benchmarks.engine_tally import rates
from benchmarks.memory_bound import bounded, unbounded_because
from homeostat.core.clock import ManualClock
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.runtime.app import App

__all__ = ["BENCHMARK"]

CARDS = 100_000
LOOK_S = 0.02
BOUND = 1_500_000_000


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """How memory grows is seen in two sizes."""
    sizes = (20_000,) if small else (2_000_000, 20_000_000)
    return [
        Case(
            f"{events / 1e6:g} M events" if events >= 10**6 else f"{events / 1000:g} k events",
            folder / f"backlog-{events}",
            {"events": events, "cards": min(CARDS, events // 20)},
        )
        for events in sizes
    ]


def prepare(case: Case) -> None:
    """Write the log, each event known when it happened; the file is removed with its folder."""
    path = case.folder / "log.db"
    path.unlink(missing_ok=True)
    log = SqliteLog(path)
    for part in parts(case["events"], case["cards"]):
        known = part["paid_at"].dt.epoch("us").to_numpy()
        log.append(PAYMENTS.name, known, lines(part).splitlines())
    log.close()


class Memory:
    """The greatest memory of this process while it is watched, in MB."""

    def __init__(self) -> None:
        self.own_mb = self.file_mb = 0.0
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            said = dict(
                line.split(":", 1)
                for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("Rss")
            )
            own, file = (int(said[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
            self.own_mb, self.file_mb = max(self.own_mb, own), max(self.file_mb, file)
            if self._stop.wait(LOOK_S):
                return


def worked_off(case: Case) -> Work | str:
    """Open a new home with the full log, fold everything and flush."""
    if not Path("/proc/self/status").exists():
        return "not run: memory by kind is read from /proc, which only Linux has"

    def work() -> dict[str, float]:
        log = SqliteLog(case.folder / "log.db")
        with (
            TemporaryDirectory(dir=case.folder) as folder,
            App(SYSTEM, Path(folder), ManualClock(NOW), log) as app,
            Memory() as memory,
        ):
            began, used = perf_counter(), process_time()
            counts = app.live.drain()[PAYMENTS.name]
            app.live.flush()
            wall, cpu = perf_counter() - began, process_time() - used
        if counts.accepted != case["events"]:
            raise RuntimeError(f"{case['events']} events, and {counts}")
        return rates(case["events"], wall, cpu) | {
            "own_mb": memory.own_mb,
            "file_mb": memory.file_mb,
        }

    return work


def worked_off_in_bound(case: Case) -> Work | str:
    """Do the same in a process that is killed when it needs more than 1.5 GB."""
    because, free = unbounded_because(), worked_off(case)
    if because is not None or isinstance(free, str):
        return f"not run: {because}" if because is not None else str(free)

    def work() -> dict[str, float]:
        with bounded(BOUND):
            found: dict[str, float] = free()
        return found

    return work


BENCHMARK = Benchmark(
    name="backlog",
    claim="A backlog in the log is worked off by a new process",
    module=__name__,
    systems={
        "homeostat": "worked_off",
        "homeostat, in 1.5 GB": "worked_off_in_bound",
    },
    cases=cases,
    prepare=prepare,
    figures=("events_per_s", "events_per_cpu_s", "own_mb", "file_mb"),
    note=(
        "Own is the memory that the process has allocated at most, of a file the pages of the "
        "online store that it has touched; the peak is of both. In 1.5 GB, the process and every "
        "page of a file that it reads or writes are in a control group with that limit. The log "
        "and the home of 20 M events take about 10 GB below `build/bench/data`, to be deleted by "
        "hand."
    ),
    limit_s=1_800,
)
