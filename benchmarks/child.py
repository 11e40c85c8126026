"""One contender in its own process: python -m benchmarks.child MODULE FUNCTION CASE ANSWER."""

from __future__ import annotations

import gc
import json
import resource
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.contest import Case, Partial, Work

__all__ = ["main", "measured"]


def measured(work: Work) -> tuple[dict[str, float], Any]:
    """Return wall_s, cpu_s (user and system, all threads) and peak_mb of the work, and its answer.

    The peak is that of the whole process, interpreter and libraries included.
    """
    gc.collect()
    before = _cpu_s()
    began = perf_counter()
    answer = work()
    wall = perf_counter() - began
    return {"wall_s": wall, "cpu_s": _cpu_s() - before, "peak_mb": _peak_mb()}, answer


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss of a new process can still be that of its parent
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main(arguments: list[str]) -> None:
    """Measure, write the answer and print the figures as one line of JSON."""
    module, function, told, answer_path = arguments
    case = json.loads(told)
    work = getattr(import_module(module), function)(
        Case(case["name"], Path(case["folder"]), case["size"])
    )
    if isinstance(work, str):  # why it cannot run here
        print(json.dumps({"note": work}))
        return
    figures, answer = measured(work)
    if isinstance(answer, Mapping):
        figures |= answer
    elif isinstance(answer, Partial):
        np.savez(answer_path, table=answer.table, rows=answer.rows)
        figures["lost"] = answer.asked - len(answer.rows)
    else:
        np.savez(answer_path, table=answer.to_numpy())
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
