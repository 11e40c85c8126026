"""The files of a table, and what they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["SORTED", "TableFile", "TableStatus", "status_of", "table_files"]

SORTED = "sorted-"
"""What the names of files that compaction has sorted begin with."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file of a table: its path in the table's folder, its day (ISO), its rows and bytes."""

    path: str
    day: str
    rows: int
    bytes: int

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class TableStatus:
    """What a table is made of, at its present version.

    `sorted_share` is the share of the rows in files that compaction has sorted, None without rows,
    and where it sorts none.
    """

    table: str
    rows: int
    files: int
    bytes: int
    days: int
    version: int
    sorted_share: float | None


def table_files(target: DeltaTable) -> list[TableFile]:
    """Return the files of a table by day and path."""
    added = pl.DataFrame(target.get_add_actions(flatten=True))
    if not added.height:
        return []
    rows = added.select(
        "path", pl.col("partition._day").cast(pl.String), "num_records", "size_bytes"
    ).sort("partition._day", "path")
    return [TableFile(path, day, rows or 0, size) for path, day, rows, size in rows.iter_rows()]


def status_of(
    table: str, files: Sequence[TableFile], version: int, *, sorts: bool = True
) -> TableStatus:
    """Return what the files of a table add up to; `sorts`: compaction sorts its rows.

    >>> files = [TableFile("sorted-1", "2013-01-01", 3, 70), TableFile("a", "2013-01-02", 1, 30)]
    >>> status_of("taps", files, 4)  # doctest: +NORMALIZE_WHITESPACE
    TableStatus(table='taps', rows=4, files=2, bytes=100, days=2, version=4, sorted_share=0.75)
    """
    rows = sum(file.rows for file in files)
    ordered = sum(file.rows for file in files if file.name.startswith(SORTED))
    return TableStatus(
        table, rows, len(files), sum(file.bytes for file in files),
        len({file.day for file in files}), version, ordered / rows if rows and sorts else None,
    )  # fmt: skip
