"""Reads the features back that the prediction log holds, ready to be sketched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["UNREAD", "logged_features"]

UNREAD = ("store_down", "features_broken")
"""Degradations under which the logged features say nothing about the world."""


def logged_features(
    predictions: pl.DataFrame, names: Sequence[str], text: Sequence[str]
) -> tuple[npt.NDArray[np.float64], dict[str, list[str | None]]]:
    """Return the features of logged predictions as a matrix and text features by name.

    Predictions without features, or made while the store was down, are left out: an outage is not
    drift.

    Args:
        predictions: rows of the prediction log.
        names: the model's features, in the order of its input.
        text: those of them that are texts; they are request fields.

    Returns:
        float64 (rows, len(names)), NaN where missing and in the columns of text features; and one
        list of rows values per text feature, None where missing.
    """
    usable = predictions.filter(
        (pl.col("features").list.len() == len(names))
        & ~pl.any_horizontal(
            pl.col("degraded").str.contains(cause, literal=True) for cause in UNREAD
        )
    )
    flat = usable["features"].explode(empty_as_null=False).cast(pl.Float64).to_numpy()
    if not text:
        return flat.reshape(-1, len(names)), {}
    fields = pl.Struct(dict.fromkeys(text, pl.String))
    texts = usable["request"].str.json_decode(fields).struct.unnest()
    return flat.reshape(-1, len(names)), {name: texts[name].to_list() for name in text}
