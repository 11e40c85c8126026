"""Which predictions an audit draws: by a hash of their ids, so that every run draws the same."""

from __future__ import annotations

import numpy as np
import polars as pl

from homeostat.core.hashing import unit_interval

__all__ = ["drawn"]


def drawn(
    predictions: pl.DataFrame, at_most: int | None = None, share: float = 1.0
) -> pl.DataFrame:
    """Return some of the predictions, in their order.

    Args:
        predictions: rows of the prediction log.
        at_most: so many of them, those with the smallest draws; None for no limit.
        share: the share of them that may be drawn, above 0, at most 1.

    >>> rows = pl.DataFrame({"prediction_id": [f"p{n}" for n in range(1000)]})
    >>> drawn(rows, at_most=3)["prediction_id"].to_list()
    ['p104', 'p268', 'p906']
    """
    if share == 1 and (at_most is None or predictions.height <= at_most):
        return predictions
    draws = np.array([unit_interval("audit", one) for one in predictions["prediction_id"]])
    kept = np.flatnonzero(draws < share)
    if at_most is not None and len(kept) > at_most:
        kept = np.sort(kept[np.argsort(draws[kept], kind="stable")[:at_most]])
    return predictions[kept]
