"""Which events are too late, by the lateness that a view was declared with.

Events are marked as they are taken in, by the lateness of today. A definition that a package in
service still reads may be of another: then its own decides.
"""

from __future__ import annotations

import polars as pl

from homeostat.declare.sources import EventSource
from homeostat.declare.views import FeatureView

__all__ = ["marked_for", "marked_late"]


def marked_late(events: pl.DataFrame, source: EventSource) -> pl.DataFrame:
    """Return events marked as too late by the lateness of `source`."""
    waited = (pl.col("_known_time") - pl.col("_event_time")).dt.total_microseconds()
    return events.with_columns(_too_late=waited > source.lateness_us)


def marked_for(view: FeatureView, events: pl.DataFrame, today: EventSource) -> pl.DataFrame:
    """Return events as a view takes them, that were marked by the source of today."""
    if view.source.lateness_us == today.lateness_us:
        return events
    return marked_late(events, view.source)
