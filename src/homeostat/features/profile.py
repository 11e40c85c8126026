"""Describes a table of events or features: what is in it, and what to be careful about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Bools, Floats
from homeostat.core.errors import HomeostatError, UnknownName
from homeostat.declare.schema import EventSchema
from homeostat.features.profile_columns import ColumnProfile, describe
from homeostat.features.profile_leaks import (
    Knowledge,
    Leak,
    knowledge_of,
    later_than_asked,
    telling_by_absence,
    too_knowing,
)
from homeostat.features.profile_pairs import (
    MissingPattern,
    NearDuplicate,
    missing_patterns,
    near_duplicates,
)
from homeostat.features.profile_suggestions import Suggestion, suggest

__all__ = ["Profile", "ProfileRefused", "profile"]

KNOWN, KEY = "_known_time", "_id"
INSTANT = pl.Datetime("us", "UTC")

NEEDED = "personal: is it needed at all?"
"""The reason given for a personal column: its own might tell a value."""


class ProfileRefused(HomeostatError, ValueError):
    """The table and what is given beside it do not fit."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A described table: plain data.

    `duplicate_rows` are rows equal to an earlier one in every column; `constant` and `personal` are
    names of columns; `knowledge` is told only if a label was given, `suggestions` for each column.
    """

    rows: int
    duplicate_rows: int
    columns: tuple[ColumnProfile, ...]
    constant: tuple[str, ...]
    personal: tuple[str, ...]
    missing_patterns: tuple[MissingPattern, ...]
    near_duplicates: tuple[NearDuplicate, ...]
    knowledge: dict[str, Knowledge]
    leaks: tuple[Leak, ...]
    suggestions: dict[str, tuple[Suggestion, ...]]

    def column(self, name: str) -> ColumnProfile:
        """Return one column's profile; raise `UnknownName` otherwise."""
        for column in self.columns:
            if column.name == name:
                return column
        raise UnknownName("column", name, [c.name for c in self.columns], "profile")

    def masked(self) -> Profile:
        """Return the profile without the values of personal columns, and without what tells them.

        How many values they have, and how many are missing, stays.
        """
        return replace(
            self,
            columns=tuple(
                replace(c, top=(), numbers=None, outliers=None) if c.name in self.personal else c
                for c in self.columns
            ),
            suggestions={
                name: tuple(replace(one, reason=NEEDED) for one in advice)
                if name in self.personal
                else advice
                for name, advice in self.suggestions.items()
            },
        )

    def as_json(self) -> dict[str, Any]:
        """Return the profile as JSON types."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return body


def profile(
    frame: pl.DataFrame,
    schema: EventSchema | None = None,
    label: str | Bools | Floats | None = None,
    at: str | None = None,
) -> Profile:
    """Describe every column of a frame, and what columns have to do with each other.

    Args:
        frame: an events frame, a training set or any other table. Columns that begin with _ are
            not described, nor are nested types; `_known_time` and `_id` are used to find what
            changes later.
        schema: the declared kinds; columns outside it are not described. None: all columns, by
            their type.
        label: the truth of each row, to find columns that know it: booleans, 0 and 1, missing
            where unknown; or the name of a column.
        at: the column with the instant of each row's prediction.

    Returns:
        Counts of all rows; pairs of columns are compared on a sample of them.

    >>> table = pl.DataFrame({"x": [1.0, None, 2.0], "y": ["a", "a", "a"]})
    >>> found = profile(table)
    >>> found.column("x").missing, found.constant
    (1, ('y',))
    """
    kinds = _kinds(frame, schema, without={n for n in (label, at) if isinstance(n, str)})
    described = frame.select(_plain(pl.col(name), frame.schema[name]) for name in kinds)
    columns = tuple(describe(described[name], kind) for name, kind in kinds.items())
    knowledge: dict[str, Knowledge] = {}
    leaks: list[Leak] = []
    if label is not None:
        labels = _labels(frame, label)
        found = {name: knowledge_of(described[name], labels) for name in kinds}
        knowledge = {name: known for name, known in found.items() if known is not None}
        leaks = too_knowing(knowledge)
        if knowledge:
            leaks += telling_by_absence(knowledge, float(np.nanmean(labels)))
    if at is not None:
        known = frame[KNOWN].cast(INSTANT) if KNOWN in frame.columns else None
        keys = [KEY] if KEY in frame.columns else []
        instants = _column(frame, at).cast(INSTANT)
        leaks += later_than_asked(described.hstack(frame.select(keys)), instants, known, KEY)
    distinct = {column.name: column.distinct for column in columns}
    return Profile(
        rows=frame.height,
        duplicate_rows=described.height - described.n_unique() if kinds and frame.height else 0,
        columns=columns,
        constant=tuple(column.name for column in columns if column.is_constant),
        personal=tuple(f.name for f in schema.fields if f.is_personal) if schema else (),
        missing_patterns=missing_patterns(described),
        near_duplicates=near_duplicates(described, kinds, distinct),
        knowledge=knowledge,
        leaks=tuple(leaks),
        suggestions={column.name: _suggested(column, leaks) for column in columns},
    )


def _suggested(column: ColumnProfile, leaks: list[Leak]) -> tuple[Suggestion, ...]:
    for leak in leaks:
        if leak.column == column.name:
            return (Suggestion("leave_out", "", leak.reason),)
    return suggest(column)


def _kinds(frame: pl.DataFrame, schema: EventSchema | None, without: set[str]) -> dict[str, str]:
    if schema is not None:
        given = {field.name: field.kind for field in schema.fields}
        return {n: kind for n, kind in given.items() if n in frame.columns and n not in without}
    return {
        name: _kind(dtype)
        for name, dtype in frame.schema.items()
        if not name.startswith("_") and name not in without and _kind(dtype)
    }


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "integer"
    if dtype.is_float() or dtype.is_decimal():
        return "float"
    if isinstance(dtype, pl.Datetime | pl.Date):
        return "timestamp"
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "string"
    return "boolean" if isinstance(dtype, pl.Boolean) else ""


def _plain(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return a column with one type per kind, and null as the only missing value."""
    kind = _kind(dtype)
    if kind == "timestamp":
        return column.cast(INSTANT)
    if kind == "string":
        return column.cast(pl.String)
    return column.cast(pl.Float64).fill_nan(None) if kind == "float" else column


def _labels(frame: pl.DataFrame, label: str | Bools | Floats) -> Floats:
    if isinstance(label, str):
        return _column(frame, label).cast(pl.Float64).fill_null(np.nan).to_numpy()
    labels = np.asarray(label, np.float64)
    if labels.shape != (frame.height,):
        raise ProfileRefused(
            f"profile: label of shape {list(labels.shape)} for {frame.height} rows; allowed: one "
            "per row; take both from the same rows."
        )
    return labels


def _column(frame: pl.DataFrame, name: str) -> pl.Series:
    if name not in frame.columns:
        raise UnknownName("column", name, frame.columns, "profile")
    return frame[name]
