"""Small files of a raw table put together, in the order of their log; no row is sorted.

Its files are in that order, one after the other, so those of a day that follow each other become
one by copying their row groups, of which few are in memory. Large files stay as they are: a day of
any size is joined a bounded number of bytes at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from homeostat.core.storage import storage
from homeostat.lake.compaction import (
    GROUP,
    JOINED,
    Compacted,
    all_or_none,
    exchange,
    new_names,
    statistics,
    sync_folder,
)
from homeostat.lake.inventory import TableFile

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["FILE_BYTES", "RAW", "join_raw"]

RAW = pl.Schema(
    {"_offset": pl.Int64(), "_known_time": pl.Datetime("us", "UTC"), "payload": pl.Binary()}
)
"""The columns of a raw table; no event has a field of bytes."""

FILE_BYTES = 32 << 20
"""Files are put together up to so many bytes; one call writes about so many if it is bounded."""

GROUP_BYTES = 32 << 20
"""Bytes of a row group, before compression, unless one that is copied has more."""


def join_raw(target: DeltaTable, folder: Path, most: int | None, small: int) -> Compacted:
    """Put together the small files of each closed day, and of the open one if it has `small`.

    Args:
        target: the table.
        folder: where its files are.
        most: with any number, the rest is for another call after `FILE_BYTES`; None for all.
        small: how many files of the open day were never put together.
    """
    runs: list[Sequence[TableFile]] = []
    size = 0
    for run in _runs(_in_log_order(target), small):
        if most is not None and size >= FILE_BYTES:
            break
        runs.append(run)
        size += sum(file.bytes for file in run)
    from deltalake.exceptions import DeltaError

    version = int(target.version())
    with storage("lake table", folder, OSError, DeltaError):
        with all_or_none() as begun:
            made = [(run, [_joined(run, folder, version, begun)]) for run in runs]
        if made:
            exchange(target, folder, made)
    files = sum(map(len, runs))
    days = len({run[0].day for run in runs})
    return Compacted(days, sum(file.rows for run in runs for file in run), files, len(runs))


def _in_log_order(target: DeltaTable) -> list[TableFile]:
    added = pl.DataFrame(target.get_add_actions(flatten=True))
    if not added.height:
        return []
    rows = added.sort("partition._day", "min._offset").select(
        "path", pl.col("partition._day").cast(pl.String), "num_records", "size_bytes"
    )
    return [TableFile(path, day, rows or 0, size) for path, day, rows, size in rows.iter_rows()]


def _runs(files: Sequence[TableFile], small: int) -> Iterator[Sequence[TableFile]]:
    """Yield two files or more that follow each other and are small enough together."""
    newest = max((file.day for file in files), default="")
    for day, held in groupby(files, lambda file: file.day):
        listed = list(held)
        if day == newest:
            loose = [file for file in listed if not file.name.startswith(JOINED)]
            if len(loose) < small:
                continue
        run: list[TableFile] = []
        for file in listed:
            if run and sum(one.bytes for one in run) + file.bytes > FILE_BYTES:
                if len(run) > 1:
                    yield run
                run = []
            run.append(file)
        if len(run) > 1:
            yield run


def _joined(
    run: Sequence[TableFile], folder: Path, version: int, begun: list[Path]
) -> tuple[Path, str]:
    """Write the rows of files into one; return it, and its statistics as Delta has them.

    `begun` gets it before it is written.
    """
    from pyarrow import parquet

    day = run[0].path.rpartition("/")[0]
    path = folder / day / next(new_names(JOINED, version, run))
    begun.append(path)
    begins: list[int] = []
    last = rows = 0
    with path.open("wb") as opened:
        with ExitStack() as closing:
            writer = None
            for group in _groups(run, folder):
                if writer is None:
                    writer = parquet.ParquetWriter(
                        opened, group.schema, compression="zstd", compression_level=1,
                        use_dictionary=False, write_statistics=["_offset", "_known_time"],
                    )  # fmt: skip
                    closing.callback(writer.close)
                writer.write_table(group, row_group_size=group.num_rows)
                offsets = group.column("_offset")
                begins.append(offsets[0].as_py())
                last, rows = offsets[-1].as_py(), rows + group.num_rows
        opened.flush()
        os.fsync(opened.fileno())  # the files whose rows these are will go away
    sync_folder(folder / day)
    return path, statistics(rows, (begins[0], last) if begins else None)


def _groups(run: Sequence[TableFile], folder: Path) -> Iterator[Any]:
    """Yield the rows of files as Arrow tables of one row group each, small ones together."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pl.DataFrame(schema=RAW).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    waiting: list[Any] = []
    rows = size = 0
    for file in run:
        with parquet.ParquetFile(folder / file.path) as opened:
            for number in range(opened.num_row_groups):
                group = opened.read_row_group(number, RAW.names()).cast(schema)
                if waiting and (rows + len(group) > GROUP or size + group.nbytes > GROUP_BYTES):
                    yield pa.concat_tables(waiting)
                    waiting, rows, size = [], 0, 0
                waiting.append(group)
                rows, size = rows + len(group), size + group.nbytes
    if waiting:
        yield pa.concat_tables(waiting)
