"""Anyone can read the lake: DuckDB, Polars, pyarrow and PySpark, each with its own reader.

PySpark has an environment of its own, with its own Java (made once in build/venvs).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from homeostat.core.clock import to_micros
from homeostat.declare.schema import EventSchema, Field
from homeostat.lake.tables import Lake

ROWS, COMMITS = 20_000, 8
SELECT = (
    "count(*), count(distinct _day), sum(_offset), sum({seconds}), sum(amount), count(amount), "
    "sum(coalesce(cast(online as int), 0)), sum(char_length(note)), min(_day), max(_day), "
    "sum(points)"
)
"""Amounts are quarters, so that their sum is the same in any order."""


def commit(number: int) -> pl.DataFrame:
    """Return the rows of one commit: gaps, letters of every width, several days."""
    draw = np.random.default_rng(number)
    offsets = np.arange(number * ROWS // COMMITS, (number + 1) * ROWS // COMMITS)
    start = datetime(2024, 2, 27, 23, tzinfo=UTC)
    amounts = draw.integers(-10_000, 10_000, len(offsets)) / 4
    flags = [True, False, None]
    notes = ["", "a,b", 'say "so"', "œuf\n", "日本", "🦆", None]
    frame = pl.DataFrame(
        {
            "_offset": offsets,
            "_known_time": [start + timedelta(seconds=17 * int(n)) for n in offsets],
            "amount": [a if draw.random() > 0.2 else None for a in amounts.tolist()],
            "online": [flags[n] for n in draw.integers(0, 3, len(offsets))],
            "note": [notes[n] for n in draw.integers(0, len(notes), len(offsets))],
        },
        schema={
            "_offset": pl.Int64(), "_known_time": pl.Datetime("us", "UTC"), "amount": pl.Float64(),
            "online": pl.Boolean(), "note": pl.String(),
        },
    )  # fmt: skip
    later = number > COMMITS // 2
    return frame.with_columns(points=pl.col("_offset") % 7) if later else frame


@dataclass(frozen=True)
class Table:
    """A version of a table, and what every reader must find in it."""

    lake: Lake
    version: int

    @property
    def path(self) -> str:
        return str(self.lake.folder / "taps")

    @property
    def delta(self) -> DeltaTable:
        return DeltaTable(self.path, version=self.version)

    @property
    def files(self) -> list[str]:
        return [uri.removeprefix("file://") for uri in self.delta.file_uris()]

    def expected(self) -> list[Any]:
        return totals(self.lake.read("taps", version=self.version))


def totals(rows: pl.DataFrame) -> list[Any]:
    days = rows["_known_time"].dt.date()
    return [
        rows.height, days.n_unique(), rows["_offset"].sum(),
        int((rows["_known_time"].dt.epoch("us") // 1_000_000).sum()),
        rows["amount"].sum(), rows["amount"].count(), rows["online"].sum(),
        rows["note"].str.len_chars().sum(), str(days.min()), str(days.max()), rows["points"].sum(),
    ]  # fmt: skip


@pytest.fixture(scope="module", params=["appended", "compacted", "rewritten", "as it was"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Return a table with files of no version beside it, columns that came later, and a past."""
    return tables(tmp_path_factory.mktemp("lake"))[request.param]


def tables(folder: Path) -> dict[str, Table]:
    lake = Lake(folder)
    for number in range(COMMITS):
        lake.append("taps", commit(number), "fold", number)
    appended = lake.version("taps")
    assert lake.compact("taps").files_after > 0
    compacted = lake.version("taps")
    fields = (Field("amount", "float", nullable=True), Field("points", "float", nullable=True))
    rewritten = Lake(folder, events={"taps": EventSchema("Tap", fields)})
    assert rewritten.evolve("taps") == ("points",)
    versions = {
        "appended": appended, "compacted": compacted, "rewritten": lake.version("taps"),
        "as it was": COMMITS - 2,
    }  # fmt: skip
    return {name: Table(lake, version) for name, version in versions.items()}


def test_the_versions_differ(tmp_path: Path) -> None:
    found = tables(tmp_path)
    assert len({table.version for table in found.values()}) == 4
    assert found["as it was"].expected()[0] < ROWS == found["rewritten"].expected()[0]
    assert len(found["compacted"].files) < len(found["appended"].files)


def test_polars_reads_it(table: Table) -> None:
    rows = pl.scan_delta(table.path, version=table.version).collect()
    assert totals(rows) == table.expected()
    assert (rows["_day"] == rows["_known_time"].dt.date()).all()


def test_duckdb_reads_its_files(table: Table) -> None:
    select = SELECT.format(seconds="epoch_us(_known_time) // 1000000")
    with duckdb.connect() as connection:
        try:
            connection.execute("LOAD delta")
        except duckdb.Error:  # the extension is fetched from the internet
            source = f"read_parquet({table.files}, union_by_name=true, hive_partitioning=true)"
        else:
            source = f"delta_scan('{table.path}', version => {table.version})"
        [found] = connection.sql(f"SELECT {select} FROM {source}").fetchall()
    assert [str(v) if hasattr(v, "year") else v for v in found] == table.expected()


def test_pyarrow_reads_it(table: Table) -> None:
    rows = table.delta.to_pyarrow_dataset().to_table()
    expected = table.expected()
    assert rows.num_rows == expected[0]
    assert pc.sum(rows["amount"]).as_py() == expected[4]
    assert pc.sum(pc.utf8_length(rows["note"])).as_py() == expected[7]


def test_pyspark_reads_its_files(tmp_path: Path, environment: Callable[[str], Path]) -> None:
    select = SELECT.format(seconds="unix_seconds(_known_time)")
    found = tables(tmp_path)
    asked = [
        {"folder": table.path, "files": table.files, "select": select} for table in found.values()
    ]
    done = subprocess.run(
        [str(environment("spark")), str(Path(__file__).parent / "spark_client.py")],
        input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for table, answer in zip(found.values(), json.loads(done.stdout), strict=True):
        assert answer == table.expected()


def test_a_folder_without_stale_files_is_read_as_a_folder(tmp_path: Path) -> None:
    """What somebody without a Delta reader does; after compaction it would count rows twice."""
    lake = Lake(tmp_path)
    for number in range(3):
        lake.append("taps", commit(number), "fold", number)
    folder = f"read_parquet('{lake.folder}/taps/*/*.parquet', union_by_name=true)"
    count = f"SELECT count(*), max(epoch_us(_known_time)) FROM {folder}"
    rows = lake.read("taps")
    last = to_micros(rows["_known_time"][-1])
    assert duckdb.execute(count).fetchall() == [(rows.height, last)]
    lake.compact("taps")
    [(counted, _)] = duckdb.execute(count).fetchall()
    assert counted > rows.height
