"""Which magnitudes the views of a source can sum exactly; larger ones belong in quarantine."""

from __future__ import annotations

from collections.abc import Iterable

from homeostat.declare.views import FeatureView

__all__ = ["exact_bounds"]

SQUARED = frozenset({"variance", "std"})
COUNTED = frozenset({"count", "share", "time_since_last", "distinct_count", "top_share"})


def exact_bounds(views: Iterable[FeatureView], source: str) -> dict[str, float]:
    """Return, per field of a source, the magnitude below which every view's state is exact.

    2^52, the range of the limbs, for every aggregated number; 2^26 where its square is summed.
    """
    bounds: dict[str, float] = {}
    for view in views:
        if view.source.name != source:
            continue
        for spec in view.features():
            is_counted = spec.operation in COUNTED or getattr(spec.custom, "reads", "") == "code"
            if spec.column is not None and not is_counted:
                bound = 2.0**26 if spec.operation in SQUARED else 2.0**52
                bounds[spec.column] = min(bound, bounds.get(spec.column, bound))
    return bounds
