"""The benchmarks run, and everybody they measure computes the same; no time is asserted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from benchmarks import stage_clock, windowed_offline
from benchmarks.__main__ import NAMES, benchmark, main, without
from benchmarks.card_payments import write_payments
from benchmarks.contest import (
    ROOT,
    Benchmark,
    Case,
    Foreign,
    compare,
    contest,
    disagreement,
)
from benchmarks.engine_tally import Tally
from benchmarks.ingest_stages import REST, STAGES
from benchmarks.memory_bound import unbounded_because
from benchmarks.payments import SECOND
from benchmarks.report import publish, table
from benchmarks.stage_clock import Stage, timed

from homeostat.core.ids import event_tie
from homeostat.features import read

OFFLINE = ("windowed_offline", "latest_offline")


def answers(name: str, case: Case) -> dict[str, Any]:
    """Return what each contender that can run here answers, in this process."""
    measured = benchmark(name)
    measured.prepare(case)
    module = import_module(measured.module)
    local = {s: named for s, named in measured.systems.items() if isinstance(named, str)}
    works = {s: getattr(module, function)(case) for s, function in local.items()}
    return {s: work().to_numpy() for s, work in works.items() if not isinstance(work, str)}


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.parametrize("law", ["uniform", "zipf"])
def test_all_contenders_compute_the_same_columns(name: str, law: str, tmp_path: Path) -> None:
    # Instants in whole minutes meet events and window starts exactly; latest values have no ties.
    tick = 60 * SECOND if name == "windowed_offline" else 1
    case = Case(
        "tiny",
        tmp_path,
        {"events": 4_000, "spine": 500, "entities": 30, "keys": law, "tick": tick},
    )
    found = answers(name, case)
    assert len(found) >= 3
    ours = found.pop("homeostat")
    assert np.isfinite(ours).any()
    assert {
        system: disagreement(ours, theirs) for system, theirs in found.items()
    } == dict.fromkeys(found)


def test_entities_without_events_are_the_same_for_all(tmp_path: Path) -> None:
    size = {"events": 50, "spine": 200, "entities": 500, "keys": "uniform", "tick": SECOND}
    found = answers("windowed_offline", Case("sparse", tmp_path, size))
    ours = found.pop("homeostat")
    assert np.isnan(ours).any()
    assert [s for s, theirs in found.items() if disagreement(ours, theirs)] == []


def test_a_disagreement_is_found() -> None:
    ours = np.array([[1.0, np.nan], [2.0, 3.0]])
    assert disagreement(ours, ours) is None
    assert "row 1, column 0: 2.0 and 2.1" in str(disagreement(ours, ours * [[1.0], [1.05]]))
    assert "row 0, column 1" in str(disagreement(ours, np.nan_to_num(ours)))
    assert "shapes" in str(disagreement(ours, ours[:1]))


@pytest.mark.parametrize(
    "name", ["fold", "dedup", "live_read", "ingest_kafka", "push_freshness", "open_home", "disk"]
)
def test_figures_of_the_live_benchmarks(name: str, tmp_path: Path) -> None:
    measured = benchmark(name)
    case = measured.cases(True, tmp_path)[0]
    case.folder.mkdir(parents=True)
    measured.prepare(case)
    for function in (named for named in measured.systems.values() if isinstance(named, str)):
        figures = getattr(import_module(measured.module), function)(case)()
        assert isinstance(figures, Mapping)
        assert set(figures) == set(measured.figures)
        assert all(value > 0 for value in figures.values())


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("name", ["ingest_files", "backlog"])
def test_figures_of_the_benchmarks_of_ingestion(name: str, tmp_path: Path) -> None:
    measured = benchmark(name)
    case = measured.cases(True, tmp_path)[0]
    for system in ("Flink", "Pathway", *(["1.5 GB"] if unbounded_because() else [])):
        measured = without(measured, system)
    rows = contest(measured, [case])
    assert [row.get("note") for row in rows] == [None] * len(rows)
    for row in rows:
        assert all(row[figure] > 0 for figure in ("wall_s", "cpu_s", "peak_mb", *measured.figures))
    if name == "ingest_files":
        assert {row["system"].partition(",")[0] for row in rows} == {"homeostat", "Bytewax"}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("engine", ["PyFlink", "Pathway"])
def test_engines_of_large_environments_give_right_answers(engine: str, tmp_path: Path) -> None:
    """Gigabytes are fetched for them, so they are tested where `ingest_files` has run before."""
    measured = benchmark("ingest_files")
    kept = {system: named for system, named in measured.systems.items() if engine in system}
    (environment,) = {named.environment for named in kept.values() if isinstance(named, Foreign)}
    if not (ROOT / "build" / "venvs" / environment / "made-from.txt").exists():
        pytest.skip(f"python -m benchmarks ingest_files makes the environment of {engine}")
    rows = contest(replace(measured, systems=kept), [measured.cases(True, tmp_path)[0]])
    assert [row.get("note") for row in rows] == [None] * len(rows)


def test_the_stages_of_an_ingested_file_are_the_whole(tmp_path: Path) -> None:
    measured = benchmark("ingest_stages")
    whole, *stages = contest(measured, measured.cases(True, tmp_path))
    assert [row["system"] for row in stages] == [*(stage.name for stage in STAGES), REST]
    for figure in ("wall_ns_per_event", "cpu_ns_per_event"):
        assert sum(row[figure] for row in stages) == pytest.approx(whole[figure], rel=1e-3)
    assert all(row["wall_ns_per_event"] > 0 for row in stages)
    text = "\n".join(table(measured, [whole, *stages]))
    assert "| wall ns/event | cpu ns/event | ratio |" in text
    assert "| decode | " in text


class Slow:
    """Stages within stages, of a clock that a test moves."""

    @staticmethod
    def outer(clock: list[float]) -> list[float]:
        clock[0] += 1.0
        Slow.inner(clock)
        return [clock[0] for _ in Slow.steps(clock)]

    @staticmethod
    def inner(clock: list[float]) -> None:
        clock[0] += 2.0

    @staticmethod
    def steps(clock: list[float]) -> Iterator[int]:
        for step in range(2):
            clock[0] += 4.0
            yield step

    @staticmethod
    @contextmanager
    def opened(clock: list[float]) -> Iterator[None]:
        yield
        clock[0] += 8.0


def test_every_moment_counts_for_the_innermost_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stage_clock, "perf_counter", lambda: now[0])
    here = f"{__name__}:Slow."
    stages = [
        Stage("outer", [here + "outer", "homeostat.nothing:like_it", here + "older"]),
        Stage("inner", [here + "inner"]),
        Stage("steps", [here + "steps"]),
        Stage("end", [here + "opened"], ends=True),
    ]
    with timed(stages) as clock:
        assert Slow.outer(now) == [107.0, 111.0]
        with Slow.opened(now):
            now[0] += 16.0
    assert clock.wall_s == {"outer": 1.0, "inner": 2.0, "steps": 8.0, "end": 8.0}
    with timed([Stage("outer", [here + "outer"], whole=True), *stages[1:]]) as clock:
        Slow.outer(now)
    assert clock.wall_s == {"outer": 11.0}
    Slow.inner(now)
    assert clock.wall_s == {"outer": 11.0}
    with (
        pytest.raises(LookupError, match="stage 'gone': none of homeostat"),
        timed([Stage("gone", ["homeostat.gone:at_all"])]),
    ):
        pass


def test_a_function_is_timed_in_every_module_that_imported_it() -> None:
    with timed([Stage("ids", ["homeostat.core.ids:event_tie"])]) as clock:
        assert vars(read)["event_tie"] is not event_tie
        vars(read)["event_tie"]("a")
    assert set(clock.wall_s) == {"ids"}
    assert vars(read)["event_tie"] is event_tie


def test_wrong_answers_of_an_engine_are_found(tmp_path: Path) -> None:
    write_payments(tmp_path, 40, 3)
    case = Case("tiny", tmp_path, {})
    frame = pl.read_ndjson(tmp_path / "events.ndjson").with_columns(
        pl.col("paid_at").str.to_datetime(time_zone="UTC")
    )
    assert frame.height == len(frame["payment_id"].unique()) == 40

    def tumbling() -> Tally:
        found = Tally(case)
        for span, hours in found.hours.items():
            hour = pl.col("paid_at").dt.epoch("us") // (3_600_000_000 * hours)
            windows = frame.group_by("card", hour).agg(n=pl.len(), mean=pl.col("amount").mean())
            for n, mean in windows.select("n", "mean").iter_rows():
                found.add(span, n, mean)
        return found

    def exact() -> Tally:
        found = Tally(case)
        for span, hours in found.hours.items():
            for card, at in frame.select("card", "paid_at").iter_rows():
                begin = at - timedelta(hours=hours)
                inside = frame.filter(card=card).filter(pl.col("paid_at").is_between(begin, at))
                found.add(span, inside.height, 1.0)
        return found

    tumbling().check_tumbling()
    exact().check_exact()
    twice, retracted = tumbling(), tumbling()
    twice.add("1d", 1, 5.0)
    retracted.add("1d", 1, 5.0)
    retracted.add("1d", 1, 5.0, -1)
    retracted.check_tumbling()
    with pytest.raises(RuntimeError, match="windows of 1d"):
        twice.check_tumbling()
    late = exact()
    late.add("7d", 1, 1.0)
    with pytest.raises(RuntimeError, match="windows of 7d"):
        late.check_exact()


@pytest.mark.usefixtures("environment")
def test_feast_agrees_where_it_answers_and_what_it_loses_is_counted(tmp_path: Path) -> None:
    measured = without(benchmark("latest_offline"), "ASOF")
    size = {"events": 4_000, "spine": 500, "entities": 300, "keys": "uniform", "tick": 1}
    rows = contest(measured, [Case("tiny", tmp_path, size)])
    assert [row["system"] for row in rows] == ["homeostat", "Polars, join_asof", "Feast, dask"]
    first = pl.read_parquet(tmp_path / "events" / "*.parquet").group_by("card")
    earliest = first.agg(pl.col("_event_time").min())
    spine = pl.read_parquet(tmp_path / "spine.parquet").join(earliest, on="card")
    early = spine.filter(pl.col("_event_time") > pl.col("at")).height
    assert rows[2]["lost"] == early > 0
    assert f"| Feast, dask, {early} rows lost |" in "\n".join(table(measured, rows))
    huge = Case("huge", tmp_path, {**size, "entities": 1, "events": 10**9})
    refused = contest(without(without(measured, "homeostat"), "Polars"), [huge])
    assert "not run: it joins 500000 M rows" in refused[0]["note"]


@pytest.mark.usefixtures("environment")
def test_feast_reads_online_values_from_sqlite_and_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = without(without(benchmark("live_read"), "homeostat"), "LMDB")
    size = {"cards": 5, "each": 3, "hot": 4, "entities": 2, "calls": 20}
    case = Case("tiny", tmp_path, size)
    (tmp_path / "ready").touch()  # nothing of ours to fold
    rows = {row["system"]: row for row in contest(measured, [case])}
    assert rows["Feast, SQLite"]["p50_us"] > 0
    if shutil.which("redis-server") is not None:
        assert rows["Feast, Redis"]["p50_us"] > 0
    monkeypatch.setenv("PATH", str(tmp_path))
    (row,) = contest(without(measured, "SQLite"), [case])
    assert (row["wall_s"], "no redis-server on the PATH" in row["note"]) == (None, True)


def test_a_wrong_partial_answer_is_a_disagreement(tmp_path: Path) -> None:
    right, rows = np.arange(6.0).reshape(3, 2), np.array([0, 2])
    wrong = right[rows] + [[0.0, 0.0], [0.0, 1.0]]
    np.savez(tmp_path / "a.npz", table=right)
    np.savez(tmp_path / "b.npz", table=right[rows], rows=rows)
    np.savez(tmp_path / "c.npz", table=wrong, rows=rows)
    turns = {name: [{"answer": tmp_path / f"{name}.npz"}] for name in "abc"}
    with pytest.raises(RuntimeError, match="c and a disagree: 1 values, first at row 1, column 1"):
        compare(toy_case(tmp_path), turns)


def toy(**systems: str) -> Benchmark:
    return Benchmark(
        "toy", "Toys", windowed_offline.__name__, systems, lambda small, folder: (),
        windowed_offline.prepare,
    )  # fmt: skip


def toy_case(folder: Path) -> Case:
    size = {"events": 300, "spine": 40, "entities": 5, "keys": "uniform", "tick": SECOND}
    return Case("tiny", folder, size)


def test_a_contest_in_processes_gives_rows_and_ratios(tmp_path: Path) -> None:
    measured = toy(homeostat="ours", other="polars_rolling")
    ours, other = contest(measured, [toy_case(tmp_path)], repeats=1)
    assert (ours["system"], ours["case"], ours["ratio"]) == ("homeostat", "tiny", 1.0)
    assert min(other[name] for name in ("wall_s", "cpu_s", "peak_mb", "ratio")) > 0


def test_a_contender_that_takes_too_long_is_a_row_of_its_own(tmp_path: Path) -> None:
    (row,) = contest(toy(homeostat="ours"), [toy_case(tmp_path)], limit_s=0.001)
    assert (row["wall_s"], row["ratio"], row["note"]) == (None, None, "stopped after 0 s")
    assert "stopped" in "\n".join(table(toy(homeostat="ours"), [row]))


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    row = {"case": "c", "system": "s", "wall_s": 1.0, "cpu_s": 1.0, "peak_mb": 5.0, "ratio": 1.0}
    for name, wall in (("fold", 1.0), ("latest_offline", 2.0), ("fold", 3.0)):
        measured = benchmark(name)
        figures = dict.fromkeys(measured.figures, 1.5)
        publish(measured, [{**row, **figures, "wall_s": wall}], 1, page)
    text = page.read_text()
    assert [f"| {wall:.2f} |" in text for wall in (1.0, 2.0, 3.0)] == [True, True, True]
    assert "| c | s | 1.00 | 1.00 |" not in text
    assert text.count("## ") == 2
    assert all(f"python -m benchmarks {name}" in text for name in ("fold", "latest_offline"))


def test_the_command_writes_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert all(name in NAMES for name in OFFLINE)
    words = ["live_read", "--small", "--repeats", "1", "--case", "233", "--without", "Feast"]
    main(words, tmp_path)
    rows = json.loads((tmp_path / "live_read-small.json").read_text())
    assert [row["system"] for row in rows] == ["homeostat", "LMDB get alone"]
    assert {"case", "system", "wall_s", "cpu_s", "peak_mb", "ratio"} <= set(rows[0])
    assert "| homeostat |" in capsys.readouterr().out
