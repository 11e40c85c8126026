"""A model's whole feature table from the past: views, request fields and on-demand features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.features.assemble import FeaturePlan, Features
from homeostat.features.offline import point_in_time

__all__ = ["features_of"]


def features_of(
    system: System,
    model: Model,
    spine: pl.DataFrame,
    events_of: Callable[[str], pl.DataFrame],
    *,
    offsets: Callable[[str], npt.NDArray[np.int64]] | None = None,
) -> Features:
    """Return the features of `model` for every row of `spine`, in its order.

    Args:
        system: the declarations.
        model: whose features are computed.
        spine: request fields and `at`, the instant of each row.
        events_of: returns the events frame of a source by name.
        offsets: per source, int64[n]: each row sees the records up to its offset, in place of
            those known before `at` (the skew audit's question).

    Returns:
        n rows, in the order of the spine.
    """
    views = {
        view.name: point_in_time(
            view,
            events_of(view.source.name),
            spine,
            offsets=None if offsets is None else offsets(view.source.name),
        )
        for view in system.views_of(model)
    }
    names = [name for name in model.label.predicts.schema.names() if name in spine.columns]
    return FeaturePlan(system, model).assemble({name: spine[name] for name in names}, views)
