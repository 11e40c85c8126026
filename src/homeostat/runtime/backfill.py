"""Fills the live features of new and changed views from the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import polars as pl

from homeostat.core.store import Writer
from homeostat.declare.system import System
from homeostat.declare.views import FeatureView
from homeostat.features.fold import ViewFold
from homeostat.features.folded import folded_offset
from homeostat.features.keys import view_prefix, view_stem
from homeostat.ingest.columns import events_schema
from homeostat.lake.tables import Lake
from homeostat.runtime.worker import CHUNK

__all__ = ["backfill", "unfilled"]

VIEWS = b"view/"


def unfilled(writer: Writer, system: System) -> tuple[FeatureView, ...]:
    """Return the views without any state, though events of their source were folded."""
    return tuple(
        view
        for view in system.views
        if folded_offset(writer, view.source.name) >= 0
        and next(writer.scan(view_prefix(view)), None) is None
    )


def backfill(
    writer: Writer,
    system: System,
    lake: Lake,
    views: Sequence[FeatureView],
    progress: Callable[[str, int], None] = lambda view, events: None,
) -> dict[str, int]:
    """Fold the lake's events into views from the beginning; drop the state of other definitions.

    All of it is in the caller's transaction, so readers see the old state until it commits.

    Args:
        writer: the store's write transaction.
        system: the declarations; state of views that it does not have is deleted.
        lake: holds every event up to the folded offsets.
        views: those to fill.
        progress: told a view and how many events of its source were read, after each chunk.

    Returns:
        How many events of its source each view was offered.
    """
    kept = tuple(view_stem(view) for view in system.views if view not in views)
    for key, _ in list(writer.scan(VIEWS)):
        if not key.startswith(kept):
            writer.delete(key)
    found: dict[str, int] = {}
    for view in views:
        fold, found[view.name] = ViewFold(view), 0
        folded = folded_offset(writer, view.source.name)
        for events in _chunks(lake, view, folded):
            fold.apply(writer, fold.prepare(events), 0, events.height)
            found[view.name] += events.height
            progress(view.name, events.height)
    return found


def _chunks(lake: Lake, view: FeatureView, folded: int) -> Iterator[pl.DataFrame]:
    """Yield the events of a view's source up to an offset, in log order, in bounded frames."""
    source = view.source.name
    known = lake.read(source, ["_known_time"])["_known_time"].dt.epoch("us")
    if not known.len():
        return
    # Known times never decrease along the log, so spans of them are spans of offsets.
    bounds = sorted({*known.gather_every(CHUNK).to_list(), int(known[-1]) + 1})
    stored = lake.schema(source)
    declared = events_schema(view.source)
    added = [pl.lit(None, dtype).alias(n) for n, dtype in declared.items() if n not in stored]
    columns = [name for name in declared if name in stored]
    for begin, end in pairwise(bounds):
        events = lake.read(source, columns, end, known_from=begin)
        yield events.filter(pl.col("_offset") <= folded).with_columns(added)
