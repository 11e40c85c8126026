"""The warehouse: every table of the lake in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from homeostat.core.errors import HomeostatError
from homeostat.lake.events import Stored
from homeostat.lake.locations import dataset, is_remote
from homeostat.lake.tables import Lake

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["QueryRefused", "connect", "query"]


class QueryRefused(HomeostatError, ValueError):
    """A statement that DuckDB cannot run, or that is not a question."""


def connect(lake: Lake, extra: Mapping[str, pl.DataFrame] | None = None) -> DuckDBPyConnection:
    """Return an in-memory DuckDB connection with a view per table of the lake, as it is now.

    `extra` adds frames under names of their own. A table with known times also answers as of an
    instant: `SELECT * FROM departures_known_at(TIMESTAMPTZ '2013-05-01')`. Instants are in UTC.
    """
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    for table in lake.tables():
        parts = [_rows(connection, table, side) for side in lake.sides(table)]
        if any(parts):
            rows = " UNION ALL BY NAME ".join(filter(None, parts))
            connection.execute(f"CREATE VIEW {_name(table)} AS {rows}")
        else:
            empty = pl.DataFrame(schema={**lake.schema(table), "_day": pl.Date()})
            _add_frame(connection, table, empty)
        if "_known_time" in lake.schema(table):
            connection.execute(
                f"CREATE MACRO {_name(table + '_known_at')}(instant) AS TABLE "
                f"SELECT * FROM {_name(table)} WHERE _known_time < instant"
            )
    for name, frame in (extra or {}).items():
        _add_frame(connection, name, frame)
    return connection


def query(lake: Lake, sql: str, extra: Mapping[str, pl.DataFrame] | None = None) -> pl.DataFrame:
    """Return the answer to one SELECT (or EXPLAIN, SHOW, DESCRIBE) over the lake's tables."""
    import duckdb

    with connect(lake, extra) as connection:
        try:
            statements = connection.extract_statements(sql)
            kinds = [statement.type.name for statement in statements]
            if len(kinds) != 1 or kinds[0] not in ("SELECT", "EXPLAIN"):
                raise QueryRefused(
                    f"sql: {' and '.join(kinds) or 'nothing'}; allowed: one SELECT, EXPLAIN, SHOW "
                    "or DESCRIBE; the lake is written by ingestion alone"
                )
            answer = pl.DataFrame(connection.sql(sql).to_arrow_table())
        except duckdb.Error as error:
            known = ", ".join(sorted({*lake.tables(), *(extra or {})})) or "none yet"
            raise QueryRefused(f"sql: {error}; tables: {known}") from error
    # DuckDB's sums of integers are 128 bits wide.
    return answer.with_columns(
        pl.col(name).cast(pl.Int64)
        for name, dtype in answer.schema.items()
        if dtype == pl.Decimal(38, 0) and _fits(answer[name])
    )


def _rows(connection: DuckDBPyConnection, table: str, side: Stored) -> str:
    """Return the SQL of the rows of a part of a table, empty if it has none."""
    if not side.files:
        return ""
    if is_remote(side.files[0]):  # DuckDB's own reader of object stores is a download
        name = f"_files of {table} {side.files[0]}"
        connection.register(name, dataset(side.files, side.schema))
        rows = f"SELECT * FROM {_name(name)}"
    else:
        listed = ", ".join(_text(file) for file in side.files)
        rows = (
            f"SELECT * FROM read_parquet([{listed}], union_by_name = true, "
            "hive_partitioning = true, hive_types = {'_day': DATE})"
        )
    return rows if side.evolved is None else side.evolved.sql_of(rows, "_day")


def _add_frame(connection: DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    connection.register("_incoming", frame.to_arrow())
    connection.execute(f"CREATE TABLE {_name(name)} AS SELECT * FROM _incoming")
    connection.unregister("_incoming")


def _fits(column: pl.Series) -> bool:
    return column.cast(pl.Int64, strict=False).null_count() == column.null_count()


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
