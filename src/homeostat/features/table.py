"""A model's whole feature table from the past: views, request fields and on-demand features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.core.durations import Micros
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.features.assemble import FeaturePlan, Features
from homeostat.features.event_tables import EventTable
from homeostat.features.offline import point_in_time
from homeostat.features.seen import seen_in

__all__ = ["Events", "EventsFrom", "ReadFrom", "features_of"]

Events = pl.DataFrame | EventTable
E = TypeVar("E", bound=Events)
ReadFrom = Callable[[str, Micros | None], E]
"""Returns the events of a source that became known at an instant or later (None: all)."""


class EventsFrom(Generic[E]):
    """Reads each source once, from the first instant that rows at `first` or later look back to.

    Args:
        system: the declarations.
        model: whose views are read.
        first: the earliest instant of the rows, microseconds.
        read: reads a source.
    """

    def __init__(self, system: System, model: Model, first: Micros, read: ReadFrom[E]) -> None:
        self._views, self._first, self._read = system.views_of(model), first, read
        self._events: dict[str, E] = {}

    def __call__(self, source: str) -> E:
        """Return the events of a source."""
        if source not in self._events:
            views = [view for view in self._views if view.source.name == source]
            whole = any(spec.window is None for view in views for spec in view.features())
            span = max(view.longest_window for view in views)
            self._events[source] = self._read(source, None if whole else self._first - span)
        return self._events[source]


def features_of(
    system: System,
    model: Model,
    spine: pl.DataFrame,
    events_of: Callable[[str], Events],
    *,
    offsets: Callable[[str], npt.NDArray[np.int64]] | None = None,
    alone: bool = False,
) -> Features:
    """Return the features of `model` for every row of `spine`, in its order.

    Args:
        system: the declarations.
        model: whose features are computed.
        spine: request fields and `at`, the instant of each row; what each saw (`features.seen`),
            where answers recorded that.
        events_of: returns the events of a source by name: a frame, or a table read in parts.
        offsets: per source, int64[n]: each row sees the records up to its offset, in place of
            those known before `at` (the skew audit's question).
        alone: raise `BatchDependent` where an on-demand function mixes rows (before training).

    Returns:
        n rows, in the order of the spine.
    """
    views = {
        view.name: point_in_time(
            view,
            events_of(view.source.name),
            spine,
            offsets=(
                seen_in(spine, view.source.name) if offsets is None else offsets(view.source.name)
            ),
        )
        for view in system.views_of(model)
    }
    names = [name for name in model.label.predicts.schema.names() if name in spine.columns]
    request = {name: spine[name] for name in names}
    return FeaturePlan(system, model).assemble(request, views, alone=alone)
