"""A stored table as the present event schema reads it: renamed, widened and filled columns.

A table has every column that any version of its schema wrote; a row has nulls in those it was
written without. Nothing is rewritten for a new name or a required field's default: they are
answered here. Two changes need the rows to be written again (`needs_rewriting`): a wider type, and
the default of an optional field, which would not be told from a value that is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from homeostat.declare.names import twin_of
from homeostat.declare.schema import EventSchema, Field
from homeostat.ingest.columns import DTYPES
from homeostat.ingest.schema_compatibility import Incompatibility, case_conflict

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["Evolved", "column_conflicts", "rewrite"]

_SQL = {
    "string": "VARCHAR", "integer": "BIGINT", "float": "DOUBLE", "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMPTZ",
}  # fmt: skip
_SQL_OF = {DTYPES[kind]: sql for kind, sql in _SQL.items()}


@dataclass(frozen=True, slots=True)
class Evolved:
    """How the columns of one event schema are made of those that a table has.

    >>> from homeostat.declare.schema import Event
    >>> stored = pl.DataFrame({"old": [1], "_offset": [7]})
    >>> new = EventSchema("E", (Field("new", "float", aliases=("old",)),
    ...                         Field("currency", "string", default="EUR")))
    >>> found = Evolved(stored.schema, new)
    >>> stored.select(found.expression(name) for name in found.schema()).row(0)
    (1.0, 'EUR', 7)
    """

    stored: pl.Schema
    events: EventSchema

    def schema(self) -> pl.Schema:
        """Return the columns of the events: their fields, then those of the system."""
        fields = {field.name: DTYPES[field.kind] for field in self.events.fields}
        system = {name: kind for name, kind in self.stored.items() if name.startswith("_")}
        return pl.Schema({**fields, **system})

    def names(self) -> tuple[str, ...]:
        """Return every column that can be asked for; stored ones that are no field come last."""
        return tuple(dict.fromkeys([*self.schema(), *self.stored]))

    def expression(self, name: str) -> pl.Expr:
        """Return a column by name, of its declared type if it is a field."""
        field = self._field(name)
        if field is None or self._is_as_stored(field):
            return pl.col(name)
        dtype, default = DTYPES[field.kind], self._default(field)
        parts = [pl.col(source).cast(dtype) for source in self._sources(field)]
        return pl.coalesce(*parts, pl.lit(default, dtype)).alias(name)

    def sql(self, name: str) -> str:
        """Return a column by name as an SQL expression."""
        field = self._field(name)
        if field is None or self._is_as_stored(field):
            return _quoted(name)
        kind, default = _SQL[field.kind], self._default(field)
        parts = [f"CAST({_quoted(source)} AS {kind})" for source in self._sources(field)]
        parts.append(f"CAST({_literal(default)} AS {kind})")
        return f"coalesce({', '.join(parts)}) AS {_quoted(name)}"

    def sql_of(self, rows: str, day: str) -> str:
        """Return the SQL of every column, and the day last, of the SQL of the stored rows."""
        # A column that no file has yet is there all the same.
        columns = ", ".join(
            f"CAST(NULL AS {_SQL_OF[kind]}) AS {_quoted(name)}"
            for name, kind in self.stored.items()
            if kind in _SQL_OF
        )
        said = ", ".join([*map(self.sql, self.names()), _quoted(day)])
        return f"SELECT {said} FROM (SELECT {columns} WHERE false UNION ALL BY NAME {rows})"

    def needs_rewriting(self) -> tuple[str, ...]:
        """Return the fields whose column the table must hold before rows under it are added."""
        return tuple(
            field.name
            for field in self.events.fields
            if (field.name in self.stored and self.stored[field.name] != DTYPES[field.kind])
            or (field.nullable and field.default is not None and not self._sources(field))
        )

    def rewritten(self) -> Iterator[pl.Expr]:
        """Yield every column of the table as it is after rewriting."""
        changed = self.needs_rewriting()
        for name in dict.fromkeys([*self.stored, *changed]):
            yield self.expression(name) if name in changed else pl.col(name)

    def _field(self, name: str) -> Field | None:
        return next((field for field in self.events.fields if field.name == name), None)

    def _is_as_stored(self, field: Field) -> bool:
        is_own = self._sources(field) == [field.name] and self._default(field) is None
        return is_own and self.stored[field.name] == DTYPES[field.kind]

    def _sources(self, field: Field) -> list[str]:
        """Return the stored columns that hold a field, its own first."""
        dtype = DTYPES[field.kind]
        return [
            name
            for name in (field.name, *field.aliases)
            if name in self.stored and _widens(self.stored[name], dtype)
        ]

    def _default(self, field: Field) -> Any:
        """Return what stands for null: an optional field has values that are missing for good."""
        return None if field.nullable and self._sources(field) else field.filler


def column_conflicts(
    schema: EventSchema, stored: Mapping[str, pl.DataType]
) -> Iterator[Incompatibility]:
    """Yield the fields that a table with those columns cannot hold, under any mode.

    >>> stored = {"amount": pl.String()}
    >>> [found] = column_conflicts(EventSchema("E", (Field("amount", "float"),)), stored)
    >>> found.why
    'the lake holds String under that name, which is no float'
    """
    for field in schema.fields:
        one = twin_of(field.name, stored)
        if one is not None:
            yield Incompatibility(0, "lake", field.name, *case_conflict(one, "the lake"))
        held = stored.get(field.name)
        if held is not None and not _widens(held, DTYPES[field.kind]):
            yield Incompatibility(
                0,
                "lake",
                field.name,
                f"the lake holds {held} under that name, which is no {field.kind}",
                "give the field another name",
            )


def rewrite(
    target: DeltaTable, files: Sequence[str], evolved: Evolved, days: tuple[str, str]
) -> None:
    """Write a table's rows again, file by file, in one commit.

    `days` are the instant column that the table is partitioned by, and the partition column.
    """
    import pyarrow as pa
    from deltalake import write_deltalake

    instant, day = days

    def written(rows: pl.LazyFrame) -> pl.DataFrame:
        by_day = pl.col(instant).dt.date().alias(day)
        return rows.select(evolved.rewritten()).with_columns(by_day).collect()

    def batches() -> Iterator[pa.RecordBatch]:
        for file in files:
            rows = pl.scan_parquet(
                file, schema=evolved.stored, missing_columns="insert", hive_partitioning=False
            )
            yield from written(rows).to_arrow().cast(schema).to_batches()

    schema = written(pl.LazyFrame(schema=evolved.stored)).to_arrow().schema
    write_deltalake(
        target,
        pa.RecordBatchReader.from_batches(schema, batches()),
        mode="overwrite",
        schema_mode="overwrite",
        partition_by=[day],
    )


def _widens(held: pl.DataType, wanted: pl.DataType) -> bool:
    return held == wanted or (held == pl.Int64 and wanted == pl.Float64)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return "'" + text.replace("'", "''") + "'"
