"""The columns of an events frame, and how Python values become them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.declare.sources import EventSource

__all__ = ["DTYPES", "INSTANT", "SYSTEM_COLUMNS", "column", "events_schema", "instants"]

INSTANT = pl.Datetime("us", "UTC")

SYSTEM_COLUMNS: dict[str, pl.DataType] = {
    "_offset": pl.Int64(),
    "_known_time": INSTANT,
    "_event_time": INSTANT,
    "_id": pl.String(),
    "_tie": pl.Int64(),
    "_too_late": pl.Boolean(),
}
"""What every accepted event carries besides its own fields."""

DTYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": INSTANT,
}
"""How a frame holds the values of each kind of field."""


def events_schema(source: EventSource) -> pl.Schema:
    """Return the columns of the source's events frame: its fields, then the system's.

    >>> from homeostat.declare.schema import Event, Timestamp
    >>> Tap = type("Tap", (Event,), {"__annotations__": {"tap": str, "at": Timestamp}})
    >>> list(events_schema(EventSource("taps", Tap, event_id="tap", event_time="at")))[:3]
    ['tap', 'at', '_offset']
    """
    fields = {field.name: DTYPES[field.kind] for field in source.schema.fields}
    return pl.Schema({**fields, **SYSTEM_COLUMNS})


def column(values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    """Return Python values, None where missing, as a column; instants are aware datetimes."""
    if dtype != INSTANT:
        return pl.Series(values, dtype=dtype)
    import pyarrow as pa

    return pl.Series(pa.array(values, type=pa.timestamp("us", tz="UTC")), dtype=dtype)


def instants(values: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Return aware datetimes, none missing, as microseconds since 1970, of shape (n,)."""
    import pyarrow as pa

    array = pa.array(values, type=pa.timestamp("us", tz="UTC"))
    micros: npt.NDArray[np.int64] = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return micros.astype(np.int64, copy=False)
