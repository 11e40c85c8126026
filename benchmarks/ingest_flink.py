"""PyFlink as a contender of `ingest_files`: the aggregation alone; imports nothing of ours.

SQL of the Table API: Flink's own reader of JSON lines, its own windows and its own sink, all in
the JVM that PyFlink starts, none of it in Python. `batch` and `streaming` have one tumbling window
per length and event, the least that can be done; `exact` answers what we answer, the windows that
end at each event. Starting the JVM and a first run over few lines are not timed.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from pyflink.table import EnvironmentSettings, StatementSet, TableEnvironment

from benchmarks.contest import Case, Work
from benchmarks.engine_tally import Tally, lines_of, rates

__all__ = ["batch", "exact", "streaming"]

WARM = 2_000
"""Lines of the first run."""

MINI_BATCHES = {
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "1 s",
    "table.exec.mini-batch.size": "10000",
}
"""What the tuning page advises."""

TUMBLING = (
    "SELECT COUNT(*), AVG(amount) FROM TABLE(TUMBLE(TABLE {lines}, DESCRIPTOR(paid_at), {length})) "
    "GROUP BY card, window_start, window_end"
)
EXACT = (
    "SELECT COUNT(*) OVER w, AVG(amount) OVER w FROM {lines} WINDOW w AS "
    "(PARTITION BY card ORDER BY paid_at RANGE BETWEEN {length} PRECEDING AND CURRENT ROW)"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What Flink is asked for, and how; `check` judges the answers."""

    query: str
    check: Callable[[Tally], None]
    mode: EnvironmentSettings
    settings: dict[str, str] = field(default_factory=dict)


def batch(case: Case) -> Work:
    """Tumbling windows in batch mode."""
    mode = EnvironmentSettings.in_batch_mode()
    return _work(case, Asked(TUMBLING, Tally.check_tumbling, mode))


def streaming(case: Case) -> Work:
    """Tumbling windows in streaming mode, with mini-batches."""
    mode = EnvironmentSettings.in_streaming_mode()
    return _work(case, Asked(TUMBLING, Tally.check_tumbling, mode, MINI_BATCHES))


def exact(case: Case) -> Work:
    """The windows up to each event, in streaming mode: batch mode cannot compile them."""
    mode = EnvironmentSettings.in_streaming_mode()
    return _work(case, Asked(EXACT, Tally.check_exact, mode, MINI_BATCHES))


def _work(case: Case, asked: Asked) -> Work:
    tally, lines = Tally(case), lines_of(case)
    folder = TemporaryDirectory(dir=case.folder)
    out = Path(folder.name)
    tables = TableEnvironment.create(asked.mode)
    common = {"parallelism.default": "1", "table.local-time-zone": "UTC"}
    for name, value in (common | asked.settings).items():
        tables.get_config().set(name, value)
    warm = out / "warm.ndjson"
    with lines.open("rb") as file:
        warm.write_bytes(b"".join(islice(file, WARM)))
    _statements(tables, tally, asked.query, warm, out / "warmed").execute().wait()
    statements = _statements(tables, tally, asked.query, lines, out / "answers")

    def work() -> dict[str, float]:
        java = _java()
        began, before = perf_counter(), process_time() + _cpu_s(java)
        statements.execute().wait()
        wall, cpu = perf_counter() - began, process_time() + _cpu_s(java) - before
        for span in tally.hours:
            for part in (out / "answers" / span).iterdir():
                with part.open() as text:
                    for count, mean in csv.reader(text):
                        tally.add(span, int(count), float(mean))
        asked.check(tally)
        folder.cleanup()
        return rates(tally.events, wall, cpu) | {"peak_mb": _peak_mb(java)}

    return work


def _statements(
    tables: TableEnvironment, tally: Tally, query: str, lines: Path, out: Path
) -> StatementSet:
    """Return one statement a window; they run as one job, which reads the lines once."""
    tables.execute_sql(
        f"CREATE TABLE `{lines.stem}` (card STRING, amount DOUBLE, paid_at TIMESTAMP_LTZ(3), "
        f"WATERMARK FOR paid_at AS paid_at) WITH ('connector' = 'filesystem', "
        f"'path' = '{lines.as_uri()}', 'format' = 'json', "
        "'json.timestamp-format.standard' = 'ISO-8601')"
    )
    statements = tables.create_statement_set()
    for span, hours in tally.hours.items():
        tables.execute_sql(
            f"CREATE TABLE `{lines.stem} {span}` (n BIGINT, mean DOUBLE) WITH ("
            f"'connector' = 'filesystem', 'path' = '{(out / span).as_uri()}', 'format' = 'csv')"
        )
        length = f"'{hours // 24}' DAY" if hours >= 24 else f"'{hours}' HOUR"
        rows = query.format(lines=f"`{lines.stem}`", length=f"INTERVAL {length}")
        statements.add_insert_sql(f"INSERT INTO `{lines.stem} {span}` {rows}")
    return statements


def _java() -> Path:
    """Return what the system says of the JVM, the one child of this process."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        name, after = status.read_text().rsplit(")", 1)
        if name.endswith("(java") and int(after.split()[1]) == os.getpid():
            return status.parent
    raise RuntimeError("PyFlink has started no JVM")


def _cpu_s(process: Path) -> float:
    times = (process / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def _peak_mb(process: Path) -> float:
    lines = (process / "status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
