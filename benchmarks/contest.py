"""Runs contenders by turns, each in a process of its own, and compares what they answer.

A contender is a function of a module: `contender(case)` sets up and returns the work to be timed,
or says in words why it is not run. The work returns a frame, which must equal every other
contender's, or a mapping of figures. One that cannot live in our environment is a `Foreign`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.environments import python_of

__all__ = ["ROOT", "Benchmark", "Case", "Foreign", "Partial", "Row", "Work", "compare", "contest",
           "disagreement"]  # fmt: skip

ROOT = Path(__file__).parents[1]

ONE_THREAD = {
    "POLARS_MAX_THREADS": "1", "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1", "TOKIO_WORKER_THREADS": "1", "PATHWAY_THREADS": "1",
}  # fmt: skip
"""How the thread pools of the contenders are told to have one thread."""

Work = Callable[[], Any]
"""What is timed; returns a Polars frame (compared) or a mapping of figures (added to the row).

A figure `stages` holds those of parts of the work by name, which become rows of their own.
"""

Row = dict[str, Any]
"""One line of a table: case, system, wall_s, cpu_s, peak_mb, ratio, and figures of its own."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A contender in a module that imports nothing of ours, run by another environment's Python."""

    environment: str
    module: str
    function: str


@dataclass(frozen=True, slots=True)
class Partial:
    """An answer that lacks rows: float64 (found, columns), and which were found, int (found,).

    `asked` is how many there should be. What was found must be right; the rest is counted.
    """

    table: Any
    rows: Any
    asked: int


@dataclass(frozen=True, slots=True)
class Case:
    """One size of a benchmark; `folder` holds its data, written once by `prepare`."""

    name: str
    folder: Path
    size: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.size[name]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One claim and who is measured for it.

    `systems` maps a name to a function of `module`, or to a foreign one; the first is ours, the
    ratio of all others is their `measure` over ours. `cases` gives the sizes: full, or small ones
    for a quick look. With `one_core` every contender is held to one core, its helpers too. One
    that needs more than `limit_s` is stopped.
    """

    name: str
    claim: str
    module: str
    systems: Mapping[str, str | Foreign]
    cases: Callable[[bool, Path], Sequence[Case]]
    prepare: Callable[[Case], None]
    measure: str = "cpu_s"
    figures: tuple[str, ...] = ()
    note: str = ""
    one_core: bool = False
    limit_s: float = 120


def contest(
    benchmark: Benchmark, cases: Sequence[Case], *, repeats: int = 1, limit_s: float = 300
) -> list[Row]:
    """Return one row per case and system: medians of `repeats` turns.

    A contender that takes longer than `limit_s` is stopped and has `wall_s` None and a `note`.
    """
    return [row for case in cases for row in _case(benchmark, case, repeats, limit_s)]


def _case(benchmark: Benchmark, case: Case, repeats: int, limit_s: float) -> list[Row]:
    if not (case.folder / "ready").exists():
        case.folder.mkdir(parents=True, exist_ok=True)
        benchmark.prepare(case)
        (case.folder / "ready").touch()
    turns: dict[str, list[Row]] = {system: [] for system in benchmark.systems}
    for _ in range(repeats):
        for system, named in benchmark.systems.items():
            local = Foreign("", benchmark.module, named) if isinstance(named, str) else named
            if not any("note" in turn for turn in turns[system]):
                turns[system].append(_turn(local, case, limit_s, one_core=benchmark.one_core))
    rows, turns = [], _with_stages(turns)
    for system, found in turns.items():
        numbers = {name for turn in found for name in turn if name not in ("note", "answer")}
        row: Row = {"case": case.name, "system": system, "wall_s": None}
        row |= {name: _median(found, name) for name in sorted(numbers)}
        for turn in found:
            if "note" in turn:
                row["note"] = turn["note"]
        rows.append(row)
    base = rows[0].get(benchmark.measure)
    for row in rows:
        mine = row.get(benchmark.measure)
        row["ratio"] = round(mine / base, 2) if base and mine else None
    compare(case, turns)
    return rows


def _with_stages(turns: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Return the turns with those of each system's `stages` after its own."""
    found: dict[str, list[Row]] = {}
    for system, whole in turns.items():
        found[system] = []
        for turn in whole:
            stages = turn.pop("stages", {})
            found[system].append(turn)
            for stage, figures in stages.items():
                found.setdefault(stage, []).append(figures)
    return found


def _median(turns: Sequence[Row], name: str) -> float:
    middle: float = median(turn[name] for turn in turns if name in turn)
    return round(middle, 4)


def _turn(contender: Foreign, case: Case, limit_s: float, *, one_core: bool) -> Row:
    """Measure one contender once, in a new process."""
    module, function = contender.module, contender.function
    answer = case.folder / f"{function}.npz"
    answer.unlink(missing_ok=True)
    told = json.dumps({"name": case.name, "folder": str(case.folder), "size": dict(case.size)})
    python = python_of(contender.environment) if contender.environment else sys.executable
    command = [str(python), "-m", "benchmarks.child", module, function, told, str(answer)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **(ONE_THREAD if one_core else {})},
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
            preexec_fn=_hold_to_one_core if one_core else None,
        )
    except subprocess.TimeoutExpired:
        return {"note": f"stopped after {limit_s:.0f} s"}
    if done.returncode == -9:
        return {"note": "killed for memory"}
    if done.returncode:
        raise RuntimeError(f"{module}:{function} on {case.name}\n{done.stderr[-4000:]}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row | ({"answer": answer} if answer.exists() else {})


def _hold_to_one_core() -> None:
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def compare(case: Case, turns: Mapping[str, list[Row]]) -> None:
    """Raise if two contenders gave different answers; of a partial one, compare what it has."""
    answers = {s: t[-1]["answer"] for s, t in turns.items() if t and "answer" in t[-1]}
    first: tuple[str, Any] | None = None
    for system, path in answers.items():
        with np.load(path) as kept:
            found, rows = kept["table"], kept["rows"] if "rows" in kept else slice(None)
        if first is None:
            first = system, found
        elif wrong := disagreement(first[1][rows], found):
            raise RuntimeError(f"{case.name}: {system} and {first[0]} disagree: {wrong}")
        path.unlink()


def disagreement(ours: Any, theirs: Any) -> str | None:
    """Return where two float64 tables differ, or None; sums may differ in their last bits.

    >>> disagreement(np.array([[1.0, np.nan]]), np.array([[1.0 + 1e-12, np.nan]])) is None
    True
    """
    if ours.shape != theirs.shape:
        return f"shapes {ours.shape} and {theirs.shape}"
    size = np.nanmax(np.abs(ours), axis=0, initial=0.0)
    close = np.isclose(ours, theirs, rtol=1e-9, atol=1e-9 * size, equal_nan=True)
    if close.all():
        return None
    row, column = np.argwhere(~close)[0]
    return (
        f"{np.count_nonzero(~close)} values, first at row {row}, column {column}: "
        f"{ours[row, column]} and {theirs[row, column]}"
    )
