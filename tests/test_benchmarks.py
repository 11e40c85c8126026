"""The benchmarks run, and everybody they measure computes the same; no time is asserted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from benchmarks import windowed_offline
from benchmarks.__main__ import NAMES, benchmark, main, without
from benchmarks.contest import Benchmark, Case, compare, contest, disagreement
from benchmarks.payments import SECOND
from benchmarks.report import publish, table

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


@pytest.mark.parametrize("name", ["fold", "live_read", "ingest_kafka", "push_freshness"])
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
