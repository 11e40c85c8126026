"""Closed days written again, sorted by entity and time; many small files written again as one.

A day is closed when the table has a later one. Its rows go into files in which those of an entity
lie together: each row group says between which keys. That is our bucketing of entities, made when
a day is closed instead of at every append (docs/decisions/0015). A commit exchanges files and
changes no row; until it is there, nobody sees the new files, and a process that is killed before
leaves nothing but files that the next one writes again, or `vacuum` removes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from homeostat.core.hashing import short_digest
from homeostat.core.storage import storage
from homeostat.lake.inventory import SORTED, TableFile, table_files

if TYPE_CHECKING:
    import numpy.typing as npt
    from deltalake import DeltaTable

    Ints = npt.NDArray[np.int64]

__all__ = [
    "GROUP",
    "JOINED",
    "MANY",
    "ORDER",
    "ROWS",
    "Columns",
    "Compacted",
    "Order",
    "all_or_none",
    "compact_table",
    "exchange",
    "join_remote",
    "loose_rows",
    "new_names",
    "statistics",
    "sync_folder",
]

ORDER = b"homeostat.order"
"""Where the footer of a file says by which columns its rows are sorted."""

ROWS = 1 << 21
"""Rows that are sorted at once, and at most in one file unless more are equal."""

GROUP = 1 << 16
"""Rows of a row group: the least that is read of a sorted file."""

MANY = 64
"""So many small files of the open day are put together while events come in."""

JOINED = "joined-"
"""What the names of files made of those of an open day begin with."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was done: days and rows written again, and the number of files before and after."""

    days: int = 0
    rows: int = 0
    files_before: int = 0
    files_after: int = 0


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the files of a table are, and the columns they have, that of the day left out."""

    folder: Path
    schema: pl.Schema


@dataclass(frozen=True, slots=True)
class Order:
    """By what rows are sorted: expressions over stored columns, and their names.

    Rows that are equal but in the last one are never divided between files.
    """

    names: tuple[str, ...]
    by: tuple[pl.Expr, ...]

    @property
    def mark(self) -> str:
        """What the names of files sorted like this begin with."""
        return f"{SORTED}{short_digest(self.names)[:8]}-"


@dataclass(frozen=True, slots=True)
class _Task:
    """Files of one day that become one or a few: sorted how, and called what."""

    files: tuple[TableFile, ...]
    order: Order
    stem: str


def new_names(stem: str, version: int, files: Sequence[TableFile]) -> Iterator[str]:
    """Yield names for what is made of files, which no file of an earlier version of the table has.

    `version` is that of the table before.
    """
    made_of = short_digest([str(version), *(file.path for file in files)])
    return (f"{stem}{made_of}-{number}.parquet" for number in count())


@contextmanager
def all_or_none() -> Iterator[list[Path]]:
    """Lend a list for the files that are begun: where one cannot be written, none of them stays."""
    begun: list[Path] = []
    try:
        yield begun
    except OSError:
        for path in begun:
            path.unlink(missing_ok=True)
        raise


def compact_table(
    target: DeltaTable, table: Columns, orders: tuple[Order, Order], most: int | None, small: int
) -> Compacted:
    """Sort closed days that are not, oldest first, and join small files of the open one.

    Args:
        target: the table.
        table: its folder and its stored columns.
        orders: by what a closed day is sorted, and the open one.
        most: rows after which no further day is begun; None for all.
        small: the open day is written again if so many of its files were never.
    """
    tasks, rows = _first(target, orders, most, small)
    from deltalake.exceptions import DeltaError

    with storage("lake table", table.folder, OSError, DeltaError):
        version = int(target.version())
        with all_or_none() as begun:
            made = [(task, list(_written(task, table, version, begun))) for task in tasks]
        if made:
            exchange(target, table.folder, [(task.files, new) for task, new in made])
    return Compacted(
        len(tasks), rows, sum(len(t.files) for t in tasks), sum(len(new) for _, new in made)
    )


def _first(
    target: DeltaTable, orders: tuple[Order, Order], most: int | None, small: int
) -> tuple[list[_Task], int]:
    """Return what is to be done now, and of how many rows it is."""
    tasks: list[_Task] = []
    rows = 0
    for task in _tasks(table_files(target), orders, small):
        if most is not None and tasks and rows >= most:
            break
        tasks.append(task)
        rows += sum(file.rows for file in task.files)
    return tasks, rows


def loose_rows(target: DeltaTable, orders: tuple[Order, Order], most: int, small: int) -> int:
    """Return how many rows `compact_table` would write again, told the same."""
    return _first(target, orders, most, small)[1]


def join_remote(target: DeltaTable, small: int) -> Compacted:
    """Put the small files of each day together, in an object store; their rows are not sorted.

    Nothing is done before a day has at least `small` files.
    """
    days = [file.day for file in table_files(target)]
    if max(map(days.count, set(days)), default=0) < small:
        return Compacted()
    done = target.optimize.compact()
    return Compacted(0, 0, int(done["numFilesRemoved"]), int(done["numFilesAdded"]))


def _tasks(files: Sequence[TableFile], orders: tuple[Order, Order], small: int) -> Iterator[_Task]:
    closed, opened = orders
    days: dict[str, list[TableFile]] = {}
    for file in files:
        days.setdefault(file.day, []).append(file)
    newest = max(days, default="")
    for day, held in sorted(days.items()):
        if day == newest:
            loose = [file for file in held if not file.name.startswith((SORTED, JOINED))]
            if len(loose) >= small:
                yield _Task(tuple(loose), opened, JOINED)
        elif not all(file.name.startswith(closed.mark) for file in held):
            yield _Task(tuple(held), closed, closed.mark)


def _written(
    task: _Task, table: Columns, version: int, begun: list[Path]
) -> Iterator[tuple[Path, str]]:
    """Write the rows of a task; yield each new file and its statistics, as Delta has them.

    `begun` gets each file before it is written.
    """
    from pyarrow import parquet

    day = task.files[0].path.rpartition("/")[0]
    said = {ORDER: json.dumps(task.order.names)}
    files = [str(table.folder / file.path) for file in task.files]
    pieces = _pieces(files, table.schema, task.order)
    for rows, name in zip(pieces, new_names(task.stem, version, task.files), strict=False):
        path = table.folder / day / name
        begun.append(path)
        with path.open("wb") as opened:
            parquet.write_table(
                rows.to_arrow().replace_schema_metadata(said), opened, row_group_size=GROUP,
                compression="zstd", compression_level=1,
            )  # fmt: skip
            opened.flush()
            os.fsync(opened.fileno())  # the files whose rows these are will go away
        yield path, statistics(rows.height, _offsets(rows))
    sync_folder(table.folder / day)


def _offsets(rows: pl.DataFrame) -> tuple[int, int] | None:
    """Return the first and the last offset of rows, None if they have none."""
    if "_offset" not in rows.columns or not rows.height or rows["_offset"].null_count():
        return None
    found = rows.select(first=pl.col("_offset").min(), last=pl.col("_offset").max())
    return int(found["first"][0]), int(found["last"][0])


def statistics(rows: int, offsets: tuple[int, int] | None) -> str:
    """Return the number of rows and between which offsets they are, in Delta's words."""
    said: dict[str, object] = {"numRecords": rows}
    if offsets is not None:
        said["minValues"], said["maxValues"] = ({"_offset": offset} for offset in offsets)
        said["nullCount"] = {"_offset": 0}
    return json.dumps(said)


def sync_folder(folder: Path) -> None:
    """Make the names of new files in a folder last."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _scan(file: str, schema: pl.Schema) -> pl.LazyFrame:
    return pl.scan_parquet(file, schema=schema, missing_columns="insert", hive_partitioning=False)


def _pieces(files: Sequence[str], schema: pl.Schema, order: Order) -> Iterator[pl.DataFrame]:
    """Yield the rows of files, sorted, about `ROWS` at a time.

    Where there are more, the files are read once per piece; only what they are sorted by is in
    memory as a whole.
    """
    scans, by = [_scan(file, schema) for file in files], list(order.by)
    heights = [scan.select(pl.len()).collect().item() for scan in scans]
    n = sum(heights)
    if n <= ROWS:
        yield pl.concat(scans).collect().sort(by, maintain_order=True)
        return
    named = [part.alias(f"_{place}") for place, part in enumerate(by)]
    keys = pl.concat([scan.select(named) for scan in scans]).collect()
    ranked = keys.select(pl.arg_sort_by(keys.columns, maintain_order=True)).to_series().to_numpy()
    place = np.empty(n, np.int64)
    place[ranked] = np.arange(n)
    ends = np.concatenate(([0], np.cumsum(heights)))
    for begin, end in _cuts(keys, ranked):
        found = []
        for scan, first, last in zip(scans, ends, ends[1:], strict=False):
            here = (place[first:last] >= begin) & (place[first:last] < end)
            if here.any():
                found.append(scan.collect().filter(pl.Series(here)))
        yield pl.concat(found).sort(by, maintain_order=True)


def _cuts(keys: pl.DataFrame, ranked: Ints) -> Iterator[tuple[int, int]]:
    """Yield where pieces of sorted rows begin and end; equal rows but for the last key stay."""
    same, n, begin = keys[:, :-1], len(ranked), 0
    while begin < n:
        end = min(begin + ROWS, n)
        while end < n and same.width and same.row(ranked[end - 1]) == same.row(ranked[end]):
            end += 1
        yield begin, end
        begin = end


def exchange(
    target: DeltaTable,
    folder: Path,
    made: Sequence[tuple[Sequence[TableFile], Sequence[tuple[Path, str]]]],
) -> None:
    """Commit new files, each with its statistics, in the place of files of one day with their rows.

    It is marked as changing no data.
    """
    from deltalake.transaction import AddAction, CommitProperties, RemoveAction

    actions: list[AddAction | RemoveAction] = []
    for replaced, files in made:
        day = {"_day": replaced[0].day}
        for path, said in files:
            found = path.stat()
            actions.append(
                AddAction(
                    path.relative_to(folder).as_posix(), found.st_size, day,
                    int(found.st_mtime * 1000), False, said,
                )
            )  # fmt: skip
            now = int(found.st_mtime * 1000)
        actions += [RemoveAction(old.path, False, now, old.bytes, dict(day)) for old in replaced]
    target.create_write_transaction(
        actions,
        "append",
        target.schema(),
        ["_day"],
        commit_properties=CommitProperties(custom_metadata={"homeostat": "compaction"}),
    )
    target.update_incremental()
