"""Which events a view uses: the same condition for training sets and for the fold."""

from __future__ import annotations

import polars as pl

from homeostat.aggregate.expressions import to_polars
from homeostat.declare.views import FeatureView

__all__ = ["usable", "wanted"]


def wanted(view: FeatureView) -> pl.Expr:
    """Return the condition on events that count for some entity: in time, and as declared.

    An event known later than the declared lateness is in no feature.
    """
    found = ~pl.col("_too_late")
    if view.condition is not None:
        found &= to_polars(view.condition).cast(pl.Boolean).fill_null(False)
    return found


def usable(view: FeatureView) -> pl.Expr:
    """Return the condition on events that count: wanted ones with a whole key."""
    found = wanted(view)
    for key in view.entity.keys:
        found &= pl.col(key).is_not_null()
    return found
