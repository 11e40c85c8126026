"""A spine, in whatever form it comes, as a frame with columns of the declared types."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from homeostat.core.errors import HomeostatError, did_you_mean

__all__ = ["SPINE_FILES", "SpineInvalid", "spine_of"]

INSTANT = pl.Datetime("us", "UTC")
READERS: Mapping[str, Any] = {
    ".parquet": pl.read_parquet,
    ".arrow": pl.read_ipc,
    ".feather": pl.read_ipc,
    ".ndjson": pl.read_ndjson,
    ".jsonl": pl.read_ndjson,
    ".csv": lambda path: pl.read_csv(path, infer_schema=False),
}
SPINE_FILES = tuple(READERS)
TEXTS = (".csv", ".ndjson", ".jsonl")
"""Files in which an instant, or a number, may be written as text."""


class SpineInvalid(HomeostatError, ValueError):
    """What was given cannot be asked about."""

    def __init__(self, found: str, allowed: str, next_step: str) -> None:
        super().__init__(f"spine: {found}; allowed: {allowed}; {next_step}.")


def spine_of(
    given: object, needs: Mapping[str, str], own: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """Return a spine as a frame: the columns in `needs` of their kinds, `at` in UTC, the others.

    Args:
        given: a frame (Polars, or what speaks Arrow or the interchange protocol: pandas, pyarrow,
            DuckDB), or a file that holds one.
        needs: the kind of each column that is asked by, besides `at`.
        own: the kinds of columns that name a row's own event, where the rows are requests.

    Returns:
        The rows as they came.

    >>> frame = pl.DataFrame({"card": ["a"], "at": [datetime(2024, 1, 1)]})
    >>> zoned = frame.with_columns(pl.col("at").dt.replace_time_zone("Asia/Tokyo"))
    >>> spine_of(zoned, {"card": "string"}).row(0)
    ('a', datetime.datetime(2023, 12, 31, 15, 0, tzinfo=zoneinfo.ZoneInfo(key='UTC')))
    """
    is_file = isinstance(given, str | Path)
    frame = _read(Path(str(given))) if is_file else _frame(given)
    has_texts = is_file and Path(str(given)).suffix.lower() in TEXTS
    for name in (*needs, "at"):
        if name not in frame.columns:
            hint = did_you_mean(name, frame.columns)
            raise SpineInvalid(
                f"no column {name!r}.{hint} Found: {', '.join(frame.columns) or 'none'}",
                f"a table with {', '.join(needs)} and `at`, the instant of each row",
                "rename or add the column",
            )
    if not frame.height:
        raise SpineInvalid("it has no rows", "one row or more", "look at where it comes from")
    named = {name: kind for name, kind in (own or {}).items() if name in frame.columns}
    kinds = {**named, **needs}
    made = [_of_kind(frame[name], kind, has_texts) for name, kind in kinds.items()]
    return frame.with_columns(*made, _instants(frame["at"], has_texts))


def _read(path: Path) -> pl.DataFrame:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise SpineInvalid(
            f"file {path.name!r}", f"{', '.join(SPINE_FILES)} files", "rename or convert it"
        )
    try:
        frame: pl.DataFrame = reader(path)
    except (pl.exceptions.PolarsError, OSError) as broken:
        raise SpineInvalid(
            f"file {path.name!r}: {broken}", f"a {path.suffix} file", "write it again"
        ) from broken
    return frame


def _frame(given: Any) -> pl.DataFrame:
    if isinstance(given, pl.DataFrame):
        return given
    if isinstance(given, pl.LazyFrame):
        return given.collect()
    if hasattr(given, "__arrow_c_stream__"):
        return pl.DataFrame(given)
    if hasattr(given, "__dataframe__"):
        from pyarrow.interchange import from_dataframe

        return pl.DataFrame(from_dataframe(given))
    raise SpineInvalid(
        f"a {type(given).__name__}",
        "a path, a Polars frame, or a table that speaks Arrow (pyarrow, pandas, DuckDB)",
        "convert it: polars.DataFrame(...)",
    )


def _of_kind(column: pl.Series, kind: str, has_texts: bool) -> pl.Series:
    """Return a column as the events hold that field, so that equal values meet."""
    dtype = column.dtype
    if isinstance(dtype, pl.Null):
        return column.cast({"integer": pl.Int64, "boolean": pl.Boolean}.get(kind, pl.String))
    if kind == "timestamp":
        return _instants(column, has_texts, may_miss=True)
    found = column
    if has_texts and dtype == pl.String and kind != "string":
        found = _parsed(column, kind)
    elif kind == "integer" and dtype.is_float():  # pandas, where a value is missing
        filled = column.fill_nan(None)
        found = filled.cast(pl.Int64, strict=False)
        found = found.zip_with((found.cast(dtype) == filled).fill_null(False), pl.Series([None]))
        column = filled
    elif kind == "string" and isinstance(dtype, pl.Categorical | pl.Enum):
        found = column.cast(pl.String)
    elif kind == "float" and dtype.is_numeric():
        found = column.cast(pl.Float64)
    elif kind == "integer" and dtype.is_integer():
        found = column.cast(pl.Int64, strict=False)
    elif (kind, str(dtype)) not in (("string", "String"), ("boolean", "Boolean")):
        raise SpineInvalid(
            f"column {column.name!r} is {dtype}", f"{_a(kind)}, as the events have", "cast it"
        )
    odd = found.is_null() & column.is_not_null()
    if odd.any():
        row = odd.arg_max() or 0
        raise SpineInvalid(
            f"column {column.name!r}, row {row}: {column[row]!r}",
            f"{_a(kind)}, as the events have",
            "correct it, or leave it empty: nobody has that key",
        )
    return found


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "integer" else f"a {kind}"


def _parsed(column: pl.Series, kind: str) -> pl.Series:
    if kind == "boolean":
        lower = column.str.strip_chars().str.to_lowercase()
        known = {"true": True, "false": False, "1": True, "0": False}
        return lower.replace_strict(known, default=None, return_dtype=pl.Boolean)
    dtype = pl.Int64 if kind == "integer" else pl.Float64
    return column.str.strip_chars().cast(dtype, strict=False)


def _instants(column: pl.Series, has_texts: bool, *, may_miss: bool = False) -> pl.Series:
    name, dtype = column.name, column.dtype
    if has_texts and dtype == pl.String:
        column = _instants_of_texts(column)
        dtype = column.dtype
    if not isinstance(dtype, pl.Datetime):
        raise SpineInvalid(
            f"column {name!r} is {dtype}",
            "instants: Datetime with a time zone",
            f"say what it counts: pl.from_epoch({name!r}, 'us').dt.replace_time_zone('UTC')"
            if dtype.is_numeric()
            else f"read it: pl.col({name!r}).str.to_datetime(time_zone='UTC')",
        )
    if dtype.time_zone is None:
        raise SpineInvalid(
            f"column {name!r} has instants without a time zone",
            "Datetime with a time zone",
            f"say which: pl.col({name!r}).dt.replace_time_zone('UTC')",
        )
    if column.null_count() and not may_miss:
        row = column.is_null().arg_max()
        raise SpineInvalid(
            f"column {name!r} is empty in {column.null_count()} rows, the first is row {row}",
            "an instant in every row",
            "fill it, or leave those rows out",
        )
    return column.cast(INSTANT)


def _instants_of_texts(column: pl.Series) -> pl.Series:
    read: dict[str | None, datetime | None] = {None: None}
    for text in column.drop_nulls().unique():
        try:
            read[text] = datetime.fromisoformat(text.strip())
        except ValueError:
            read[text] = None
        found = read[text]
        if found is None or found.tzinfo is None:
            raise SpineInvalid(
                f"column {column.name!r}, row {(column == text).arg_max()}: {text!r}",
                "an instant with its zone, ISO 8601",
                "write 2024-06-14T05:00:00Z",
            )
    import pyarrow as pa

    values = [read[text] for text in column.to_list()]
    return pl.Series(column.name, pa.array(values, type=pa.timestamp("us", tz="UTC")))
