"""Measure the claims: python -m benchmarks [NAME ...] [--small] [--repeats 3] [--case WORDS].

Contenders that cannot live in our environment get one of their own, made when first needed.

The full form writes `build/bench/NAME.json` and the tables of docs/benchmarks.md; the small form
takes seconds, compares the answers and writes `build/bench/NAME-small.json` only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from benchmarks.contest import ROOT, Benchmark, Row, contest
from benchmarks.report import publish, table

__all__ = ["NAMES", "benchmark", "main", "without"]

NAMES = (
    "windowed_offline", "windowed_scale", "latest_offline", "lake_layout", "live_read", "fold",
    "dedup", "apply_transforms", "ingest_kafka", "ingest_files", "ingest_stages", "ingest_cores",
    "backlog", "push_freshness", "open_home", "disk",
)  # fmt: skip
PRINTING = ("serve_predict",)
"""Older benchmarks that print their own tables."""


def benchmark(name: str) -> Benchmark:
    """Return a benchmark by the name of its module."""
    found: Benchmark = import_module(f"benchmarks.{name}").BENCHMARK
    return found


def without(measured: Benchmark, words: str) -> Benchmark:
    """Return a benchmark with only the contenders whose names do not contain some words."""
    if not words:
        return measured
    kept = {system: named for system, named in measured.systems.items() if words not in system}
    return replace(measured, systems=kept)


def main(arguments: Sequence[str] | None = None, build: Path = ROOT / "build" / "bench") -> None:
    """Run what was asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*NAMES, *PRINTING)))
    parser.add_argument("--small", action="store_true", help="a fiftieth of the size")
    parser.add_argument("--repeats", type=int, default=3, help="turns per contender")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--without", default="", help="no contenders whose name contains this")
    parser.add_argument("--limit", type=float, help="seconds before one is stopped")
    asked = parser.parse_args(arguments)
    unknown = set(asked.names) - {*NAMES, *PRINTING}
    if unknown:
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}")
    for name in asked.names or (*NAMES, *PRINTING):
        if name in PRINTING:
            subprocess.run([sys.executable, f"benchmarks/{name}.py"], cwd=ROOT, check=True)
            continue
        found = without(benchmark(name), asked.without)
        cases = [c for c in found.cases(asked.small, build / "data") if asked.case in c.name]
        rows: list[Row] = []
        for case in cases:
            limit_s = asked.limit or found.limit_s
            more = contest(found, [case], repeats=asked.repeats, limit_s=limit_s)
            print("\n".join(table(found, more)), flush=True)
            rows += more
        target = build / f"{name}{'-small' if asked.small else ''}.json"
        target.write_text(json.dumps(rows, indent=1) + "\n")
        if not asked.small and not asked.case and not asked.without:
            publish(found, rows, asked.repeats, ROOT / "docs" / "benchmarks.md")


if __name__ == "__main__":
    main()
