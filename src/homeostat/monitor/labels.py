"""Joins predictions with the outcomes that tell their truth, by the rule that training uses."""

from __future__ import annotations

import polars as pl

from homeostat.core.durations import Micros
from homeostat.declare.models import Label
from homeostat.train.dataset import labelled

__all__ = ["matured"]


def matured(
    predictions: pl.DataFrame, outcomes: pl.DataFrame, label: Label, now: Micros
) -> pl.DataFrame:
    """Return the predictions whose label is final at `now`, each with its label.

    The rule is `homeostat.train.dataset.labelled`, with the instant of the prediction in place of
    the request's known time. A label that is final never changes, so a caller that keeps what
    has matured passes only the predictions that have not.

    Args:
        predictions: rows of the prediction log.
        outcomes: events frame of `label.outcome`; those known at `now` or later are not used.
        label: the declared label.
        now: the instant of judging, in microseconds.

    Returns:
        The final predictions in their order, with their columns and `label` (Boolean) and
        `label_known_time` (missing where no outcome counted).
    """
    held = [name for name in ("label", "label_known_time") if name in predictions.columns]
    kind = outcomes.schema[label.join_on]
    keyed = predictions.drop(held).select(
        pl.struct(pl.all()).alias("_prediction"),
        pl.col("at").alias("_known_time"),
        (_event_time(label) if label.completes_request else pl.col("at")).alias("_event_time"),
        _joined(label, kind).alias(label.join_on),
    )
    final = labelled(label, keyed, outcomes, now)
    return final.select("_prediction", "label", "label_known_time").unnest("_prediction")


def _event_time(label: Label) -> pl.Expr:
    """Return when the request happened by its own clock, as logged; at most when it was asked."""
    clock = label.predicts.event_time
    logged = pl.col("request").str.json_decode(pl.Struct({clock: pl.String})).struct.field(clock)
    told = logged.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    return pl.min_horizontal(told, "at")


def _joined(label: Label, kind: pl.DataType) -> pl.Expr:
    """Return the request's `join_on` in the outcome's type, from its id or its logged fields."""
    if label.join_on == label.predicts.event_id:
        return pl.col("request_id").cast(kind)
    fields = pl.Struct({label.join_on: kind})
    return pl.col("request").str.json_decode(fields).struct.field(label.join_on)
