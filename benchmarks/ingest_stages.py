"""Where the time of an ingested file goes: nanoseconds per event and stage, on one core.

The same work as ours of `ingest_files`, with the functions and methods that do each stage wrapped
from outside. A stage's time is its own: what is done for it by another one counts for that. The
lake is committed in its turn here, not beside the fold, so that every moment has one stage.
"""

from __future__ import annotations

from unittest.mock import patch

from benchmarks import ingest_files
from benchmarks.contest import Benchmark, Case, Row, Work
from benchmarks.stage_clock import Stage, StageClock, timed
from homeostat.runtime.lake_sink import LakeSink

__all__ = ["BENCHMARK", "STAGES"]

STAGES = (
    Stage("read the file", ["homeostat.ingest.files:payloads_of"]),
    Stage("known times", ["homeostat.ingest.files:declared_times"], whole=True),
    Stage("append to the log", ["homeostat.ingest.sqlite_log:SqliteLog.append"]),
    Stage("read the log", ["homeostat.ingest.sqlite_log:SqliteLog.read"]),
    Stage(
        "decode",
        [
            "homeostat.ingest.decode:PayloadDecoder.decode",
            "homeostat.ingest.event_columns:ColumnDecoder.decode",
        ],
    ),
    Stage(
        "digests of ids and contents",
        [
            "homeostat.core.ids:id_digests",
            "homeostat.ingest.decode:PayloadDecoder.canonical",
            "homeostat.ingest.identities:identities",
            "homeostat.ingest.event_columns:ColumnDecoder.contents",
        ],
    ),
    Stage(
        "deduplicate",
        ["homeostat.ingest.intake:Intake._verdicts", "homeostat.ingest.seen:SeenIds.judge"],
    ),
    Stage("validate, build the frame", ["homeostat.ingest.intake:Intake.take"]),
    Stage("prepare the states", ["homeostat.features.fold:ViewFold.prepare"]),
    Stage("fold into the records", ["homeostat.features.fold:ViewFold.apply"]),
    Stage("write and commit the lake", ["homeostat.lake.tables:Lake.append"]),
    Stage("commit the store, synced", ["homeostat.adapters.lmdb:LmdbStore.writer"], ends=True),
)
REST = "all else"


def by_stage(case: Case) -> Work:
    """Ingest the file with the stages wrapped."""
    work = ingest_files.ours(case)  # runs once over few events, unwrapped

    def staged() -> Row:
        with timed(STAGES) as clock, patch.object(LakeSink, "flush_behind", _flush_in_turn):
            whole: Row = dict(work())
        return _per_event(whole, case["events"]) | {"stages": _rows(clock, whole, case["events"])}

    return staged


def _flush_in_turn(sink: LakeSink, rows: int, size: int) -> None:
    events, octets = sink.waiting()
    if events >= rows or octets >= size:
        sink.flush()


def _rows(clock: StageClock, whole: Row, events: int) -> dict[str, Row]:
    spent = {
        stage.name: {"wall_s": clock.wall_s[stage.name], "cpu_s": clock.cpu_s[stage.name]}
        for stage in STAGES
    }
    spent[REST] = {
        name: whole[name] - sum(row[name] for row in spent.values()) for name in ("wall_s", "cpu_s")
    }
    return {stage: _per_event(row, events) for stage, row in spent.items()}


def _per_event(row: Row, events: int) -> Row:
    return {
        "wall_s": row["wall_s"],
        "cpu_s": row["cpu_s"],
        "wall_ns_per_event": 1e9 * row["wall_s"] / events,
        "cpu_ns_per_event": 1e9 * row["cpu_s"] / events,
    }


BENCHMARK = Benchmark(
    name="ingest_stages",
    claim="Files, by stage: nanoseconds per event from JSON lines to lake and live features",
    module=__name__,
    systems={"homeostat, all stages": "by_stage"},
    cases=ingest_files.cases,
    prepare=ingest_files.prepare,
    measure="wall_s",
    figures=("wall_ns_per_event", "cpu_ns_per_event"),
    note=(
        "One core; the ratio is the stage's share of the whole. Wall time includes the waits for "
        "the disk."
    ),
    one_core=True,
)
