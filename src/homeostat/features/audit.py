"""The skew audit: logged features, computed again from the lake, must be the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Bools, Floats, Ints
from homeostat.declare.models import Model
from homeostat.declare.schema import EventSchema, Field
from homeostat.declare.system import System
from homeostat.features.assemble import FeaturePlan
from homeostat.features.table import features_of

__all__ = ["Difference", "SkewAudit", "audit", "requests_of"]

_KINDS: dict[str, pl.DataType] = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us", "UTC"),
}

CHUNK = 20_000
"""Requests decoded at a time: their Python objects take more room than their columns."""

LISTED = 100
"""At most this many differences are listed; all are counted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One feature that came out differently."""

    prediction_id: str
    feature: str
    logged: float
    recomputed: float


@dataclass(frozen=True, slots=True)
class SkewAudit:
    """What an audit found.

    `compared` and `different` count feature values; `differing` lists the first differences.
    `lagging` counts the values that would differ had each prediction seen every event known
    before its instant: that is processing lag, not error. `skipped` predictions were answered
    without their stored features, or without any.
    """

    predictions: int
    compared: int
    different: int
    differing: tuple[Difference, ...]
    lagging: int
    skipped: int


def audit(
    system: System,
    model: Model,
    predictions: pl.DataFrame,
    events_of: Callable[[str], pl.DataFrame],
) -> SkewAudit:
    """Compute the features of logged predictions again, at their recorded offsets.

    `predictions` are rows of the prediction log of one model; `events_of` returns the events
    frame of a source. Values are compared by their bits.
    """
    plan = FeaturePlan(system, model)
    rows = predictions.filter(
        ~pl.col("degraded").fill_null("").str.contains("store_down"),
        pl.col("features").list.len().fill_null(0) == len(plan.names),
    )
    skipped = predictions.height - rows.height
    if not rows.height:
        return SkewAudit(0, 0, 0, (), 0, skipped)
    request = requests_of(model.label.predicts.schema, rows["request"])
    spine = request.with_columns(at=rows["at"].cast(pl.Datetime("us", "UTC")))

    def offsets(source: str) -> Ints:
        return rows[f"offset_{source}"].cast(pl.Int64).to_numpy()

    again = features_of(system, model, spine, events_of, offsets=offsets).matrix
    timely = features_of(system, model, spine, events_of).matrix
    logged = rows["features"].explode().cast(pl.Float64).to_numpy().reshape(again.shape)
    unlike = _unlike(logged, again)
    return SkewAudit(
        rows.height,
        again.size,
        int(unlike.sum()),
        _listed(plan, rows["prediction_id"], unlike, logged, again),
        int(_unlike(again, timely).sum()),
        skipped,
    )


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


def _unlike(left: Floats, right: Floats) -> Bools:
    unlike: Bools = _bits(left) != _bits(right)
    return unlike


def _bits(values: Floats) -> Ints:
    return np.ascontiguousarray(values).view(np.int64)


def _listed(
    plan: FeaturePlan, ids: pl.Series, unlike: Bools, logged: Floats, again: Floats
) -> tuple[Difference, ...]:
    return tuple(
        Difference(
            str(ids[row]), plan.names[column], float(logged[row, column]), float(again[row, column])
        )
        for row, column in np.argwhere(unlike)[:LISTED].tolist()
    )
