"""Logged requests, read back as columns."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import polars as pl

from homeostat.declare.schema import EventSchema, Field

__all__ = ["requests_of"]

_KINDS: dict[str, pl.DataType] = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us", "UTC"),
}

CHUNK = 20_000
"""Requests decoded at a time: their Python objects take more room than their columns."""


def requests_of(schema: EventSchema, requests: pl.Series) -> pl.DataFrame:
    """Return logged requests (JSON texts) as typed columns; a field that was not sent is null."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    parts = []
    for begin in range(0, max(len(requests), 1), CHUNK):
        decoded = [decode(text) for text in requests[begin : begin + CHUNK].to_list()]
        parts.append(pl.DataFrame([_column(field, decoded) for field in schema.fields]))
    return pl.concat(parts)


def _column(field: Field, rows: list[dict[str, Any]]) -> pl.Series:
    values = [row.get(field.name) for row in rows]
    if field.kind == "timestamp":
        values = [_instant(value) for value in values]
    return pl.Series(field.name, values, dtype=_KINDS[field.kind])


def _instant(value: Any) -> Any:
    return msgspec.convert(value, datetime) if isinstance(value, str) else value
