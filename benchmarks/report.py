"""Tables of measured rows, and the page they are published on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.contest import Benchmark, Row

__all__ = ["publish", "section", "table"]

HEAD = """# Benchmarks

Made by `make bench` (`python -m benchmarks NAME` for one table, `--small` for a quick look). Every
contender runs in its own process, by turns with the others on the same files; times are medians,
CPU is user and system time of all threads, the peak is the memory of the whole process. All
contenders of a table compute the same values, which is checked in every run. The ratio is the
contender's figure over ours: above 1, it needs more than we do.
"""


def table(benchmark: Benchmark, rows: Sequence[Row]) -> list[str]:
    """Return the lines of a Markdown table."""
    titles = ["case", "system", "wall s", "CPU s", "peak MB", *map(_title, benchmark.figures)]
    lines = ["| " + " | ".join([*titles, "ratio"]) + " |"]
    lines.append("|---|---|" + "---:|" * (len(titles) - 1))
    for row in rows:
        if row["wall_s"] is None:
            cells = [row["case"], row["system"], row.get("note", ""), *[""] * (len(titles) - 2)]
        else:
            lost = f", {row['lost']:,.0f} rows lost" if row.get("lost") else ""
            cells = [
                row["case"], row["system"] + lost, f"{row['wall_s']:.2f}", f"{row['cpu_s']:.2f}",
                f"{row['peak_mb']:.0f}" if "peak_mb" in row else "",
                *(_figure(row[name]) for name in benchmark.figures),
                "" if row["ratio"] is None else f"{row['ratio']:.2f}",
            ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _title(figure: str) -> str:
    figure = figure.replace("_ns_per_event", " ns/event")
    return figure.replace("_us", " µs").replace("_per_s", "/s").replace("_per_cpu_s", "/CPU s")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def section(benchmark: Benchmark, rows: Sequence[Row], repeats: int) -> str:
    """Return the part of the page about one benchmark."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "polars", "duckdb"))
    where = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    how = f"`python -m benchmarks {benchmark.name}`: medians of {repeats} on {where}, {packages}."
    measure = _title(benchmark.measure).replace("_s", " s")
    lines = [
        f"<!-- begin {benchmark.name} -->",
        f"## {benchmark.claim}",
        "",
        how,
        f"The ratio compares {measure}.",
        "",
        *table(benchmark, rows),
        "",
        benchmark.note,
        f"<!-- end {benchmark.name} -->",
    ]
    return "\n".join(lines) + "\n"


def publish(benchmark: Benchmark, rows: Sequence[Row], repeats: int, page: Path) -> None:
    """Write the benchmark's section into the page, in place of an older one."""
    text = page.read_text() if page.exists() else HEAD
    made = section(benchmark, rows, repeats)
    old = re.compile(
        f"<!-- begin {benchmark.name} -->.*?<!-- end {benchmark.name} -->\n", re.DOTALL
    )
    found = old.search(text)
    text = text[: found.start()] + made + text[found.end() :] if found else f"{text}\n{made}"
    page.write_text(text)
