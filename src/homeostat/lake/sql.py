"""The warehouse: every table of the lake in DuckDB, to be asked and not to be changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from homeostat.core.errors import HomeostatError
from homeostat.lake.events import Stored
from homeostat.lake.locations import dataset, is_remote
from homeostat.lake.tables import Lake

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

__all__ = ["QueryRefused", "Warehouse", "connect", "query"]

_QUESTIONS = frozenset({"SELECT", "EXPLAIN"})
_OWN = frozenset(
    {"CREATE", "DROP", "ALTER", "INSERT", "UPDATE", "DELETE", "MERGE_INTO", "TRANSACTION", "SET"}
)
"""What a connection may do besides, for it is done in its own memory."""

_FREE = ("TimeZone", "threads", "memory_limit")
"""Settings that stay open when the others are locked."""

_EMPTY = "without_rows"
"""The schema of tables that are declared, and have no rows yet."""

_REMOTE = "files of"
"""What the names begin with under which a connection has the files in an object store."""

_EXPLAIN = re.compile(r"\s*EXPLAIN(\s+ANALYZE)?(\s*\([^()]*\))?\s", re.IGNORECASE)


class QueryRefused(HomeostatError, ValueError):
    """A statement that DuckDB cannot run, or that is not a question."""


class Warehouse:
    """A DuckDB connection to a lake; it has all its methods, and refuses what writes files.

    Every table is a view, as it was when the views were made; `refresh` makes them again. Views,
    tables and macros of one's own may be created: they live in memory, and end with the connection.
    Files outside the lake cannot be opened.
    Those in an object store are read through pyarrow.

    Args:
        lake: the tables.
        extra: frames under names of their own.
    """

    def __init__(self, lake: Lake, extra: Mapping[str, pl.DataFrame] | None = None) -> None:
        import duckdb

        self._lake = lake
        self._connection = duckdb.connect(":memory:")
        self._remote: dict[str, Any] = {}
        folders = ", ".join(_text(str(folder.absolute())) for folder in lake.folders)
        for setting in (
            "SET TimeZone = 'UTC'",
            f"SET allowed_directories = [{folders}]",
            f"SET allowed_configs = [{', '.join(map(_text, _FREE))}]",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self._connection.execute(setting)
        self._connection.execute(f"CREATE SCHEMA {_EMPTY}")
        self.refresh(extra)

    def refresh(self, extra: Mapping[str, pl.DataFrame] | None = None) -> None:
        """Make the views again, of the tables as they are now; `extra` replaces frames."""
        lake, connection = self._lake, self._connection
        for table in lake.tables():
            sides = [side for side in lake.sides(table) if side.files]
            rows = " UNION ALL BY NAME ".join(self._rows(table, side) for side in sides)
            if not sides:
                empty = pl.DataFrame(schema={**lake.schema(table), "_day": pl.Date()})
                self._add(f"{_EMPTY}.{_name(table)}", empty)
                rows = f"SELECT * FROM {_EMPTY}.{_name(table)}"
            connection.execute(f"CREATE OR REPLACE VIEW {_name(table)} AS {rows}")
            if "_known_time" in lake.schema(table):
                connection.execute(
                    f"CREATE OR REPLACE MACRO {_name(table + '_known_at')}(instant) AS TABLE "
                    f"SELECT * FROM {_name(table)} WHERE _known_time < instant"
                )
        for name, frame in (extra or {}).items():
            self._add(_name(name), frame)

    def _rows(self, table: str, side: Stored) -> str:
        """Return the SQL of the rows of a part of a table that has files."""
        if is_remote(side.files[0]):  # DuckDB's own reader of object stores is a download
            name = f"{_REMOTE} {table} in {side.files[0].rpartition('/_day=')[0]}"
            self._remote[name] = dataset(side.files, side.schema)
            self._connection.register(name, self._remote[name])
            rows = f"SELECT * FROM {_name(name)}"
        else:
            listed = ", ".join(map(_text, side.files))
            rows = (
                f"SELECT * FROM read_parquet([{listed}], union_by_name = true, "
                "hive_partitioning = true, hive_types = {'_day': DATE})"
            )
        return rows if side.evolved is None else side.evolved.sql_of(rows, "_day")

    def _add(self, name: str, frame: pl.DataFrame) -> None:
        self._connection.register("_incoming", frame.to_arrow())
        self._connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM _incoming")
        self._connection.unregister("_incoming")

    def execute(self, query: str, parameters: object = None) -> Self:
        """Run statements; parameters are `?` by a sequence, or `$name` by a mapping."""
        require_harmless(self._connection, query)
        self._connection.execute(query, parameters)
        return self

    def sql(self, query: str, *, params: object = None) -> DuckDBPyRelation:
        """Return the answer to a query as a relation, which is computed when it is looked at."""
        require_harmless(self._connection, query)
        return self._connection.sql(query, params=params)

    def cursor(self) -> Warehouse:
        """Return another connection to the same views, for another thread.

        What is in an object store, it sees as it is now, also after a later `refresh`.
        """
        other = object.__new__(Warehouse)
        other._lake, other._connection = self._lake, self._connection.cursor()
        other._remote = dict(self._remote)
        for name, files in other._remote.items():
            other._connection.register(name, files)
        return other

    def __getattr__(self, name: str) -> Any:
        if name in ("query", "from_query", "executemany"):
            raise AttributeError(f"a warehouse has no {name!r}: use `sql` or `execute`")
        return getattr(self._connection, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()


def connect(lake: Lake, extra: Mapping[str, pl.DataFrame] | None = None) -> Warehouse:
    """Return a DuckDB connection with a view per table of the lake, as it is now.

    `extra` adds frames under names of their own. A table with known times also answers as of an
    instant: `SELECT * FROM departures_known_at(TIMESTAMPTZ '2013-05-01')`. Instants are in UTC.
    """
    return Warehouse(lake, extra)


def require_harmless(
    connection: DuckDBPyConnection, sql: str, allowed: frozenset[str] = _QUESTIONS | _OWN
) -> None:
    """Raise `QueryRefused` for statements of other kinds, also where they are to be explained."""
    for statement in connection.extract_statements(sql):
        kind = statement.type.name
        if kind == "EXPLAIN":
            said = _EXPLAIN.match(statement.query)
            inner = connection.extract_statements(statement.query[said.end() :]) if said else []
            kind = inner[0].type.name if len(inner) == 1 else "EXPLAIN of something else"
            if kind == "SELECT":
                continue
        if kind not in allowed:
            raise QueryRefused(
                f"sql: {kind}; allowed: SELECT, and views and tables in memory; the lake is "
                "written by ingestion alone, and no file is"
            )


def query(
    lake: Lake,
    sql: str,
    extra: Mapping[str, pl.DataFrame] | None = None,
    parameters: Mapping[str, object] | None = None,
) -> pl.DataFrame:
    """Return the answer to one SELECT (or EXPLAIN, SHOW, DESCRIBE) over the lake's tables.

    `parameters` are the values of `$name` in it.
    """
    import duckdb

    with connect(lake, extra) as warehouse:
        connection = warehouse._connection
        try:
            kinds = [statement.type.name for statement in connection.extract_statements(sql)]
            if len(kinds) != 1 or kinds[0] not in _QUESTIONS:
                raise QueryRefused(
                    f"sql: {' and '.join(kinds) or 'nothing'}; allowed: one SELECT, EXPLAIN, SHOW "
                    "or DESCRIBE; the lake is written by ingestion alone"
                )
            require_harmless(connection, sql, _QUESTIONS)
            found = connection.sql(sql, params=parameters) if parameters else connection.sql(sql)
            answer = pl.DataFrame(found.to_arrow_table())
        except duckdb.Error as error:
            known = ", ".join(sorted({*lake.tables(), *(extra or {})})) or "none yet"
            raise QueryRefused(f"sql: {error}; tables: {known}") from error
    # DuckDB's sums of integers are 128 bits wide.
    return answer.with_columns(
        pl.col(name).cast(pl.Int64)
        for name, dtype in answer.schema.items()
        if dtype == pl.Decimal(38, 0) and _fits(answer[name])
    )


def _fits(column: pl.Series) -> bool:
    return column.cast(pl.Int64, strict=False).null_count() == column.null_count()


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
