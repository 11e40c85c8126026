"""Which events a view uses: the same condition for training sets and for the fold."""

from __future__ import annotations

import polars as pl

from homeostat.aggregate.expressions import to_polars
from homeostat.declare.views import FeatureView

__all__ = ["usable"]


def usable(view: FeatureView) -> pl.Expr:
    """Return the condition on events that count: in time, with a whole key, and as declared.

    An event known later than the declared lateness is in no feature.
    """
    wanted = ~pl.col("_too_late")
    for key in view.entity.keys:
        wanted &= pl.col(key).is_not_null()
    if view.condition is not None:
        wanted &= to_polars(view.condition).cast(pl.Boolean).fill_null(False)
    return wanted
