"""Fills the live features of new and changed views from the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import polars as pl

from homeostat.core.store import Snapshot, Writer
from homeostat.declare.views import FeatureView
from homeostat.features.fold import ViewFold
from homeostat.features.folded import folded_offset
from homeostat.features.keys import view_prefix, view_stem
from homeostat.features.lateness import marked_late
from homeostat.ingest.columns import events_schema
from homeostat.lake.tables import Lake
from homeostat.runtime.filled import clear, mark_filled
from homeostat.runtime.worker import CHUNK

__all__ = ["backfill", "chunks", "unfilled"]


def unfilled(reader: Snapshot, views: Sequence[FeatureView]) -> tuple[FeatureView, ...]:
    """Return the views without any state, though events of their source were folded."""
    return tuple(
        view
        for view in views
        if folded_offset(reader, view.source.name) >= 0
        and next(reader.scan(view_prefix(view)), None) is None
    )


def backfill(
    writer: Writer,
    lake: Lake,
    views: Sequence[FeatureView],
    progress: Callable[[str, int], None] = lambda view, events: None,
    *,
    kept: Sequence[FeatureView] = (),
) -> dict[str, int]:
    """Fold the lake's events into views from the beginning, and mark their state as whole.

    All of it is in the caller's transaction, so readers see nothing of it until it commits; the
    state of other definitions is left as it is.

    Args:
        writer: the store's write transaction.
        lake: holds every event up to the folded offsets.
        views: those to fill.
        progress: told a view and how many events of its source were read, after each chunk.
        kept: those of them that only versions in service read: their own lateness decides.

    Returns:
        How many events of its source each view was offered.
    """
    found: dict[str, int] = {}
    older = set(map(view_stem, kept))
    for view in views:
        clear(writer, view)
        fold, offered = ViewFold(view), 0
        folded = folded_offset(writer, view.source.name)
        for events in chunks(lake, view, folded):
            marked = marked_late(events, view.source) if view_stem(view) in older else events
            fold.apply(writer, fold.prepare(marked), 0, events.height)
            offered += events.height
            progress(view.name, events.height)
        mark_filled(writer, view_stem(view))
        found[view.name] = max(offered, found.get(view.name, 0))
    return found


def chunks(lake: Lake, view: FeatureView, folded: int, after: int = -1) -> Iterator[pl.DataFrame]:
    """Yield the events of a view's source after one offset, up to another, in log order.

    The frames are of bounded size.
    """
    source = view.source.name
    wanted = (pl.col("_offset") > after) & (pl.col("_offset") <= folded)
    rows = lake.read(source, ["_known_time", "_offset"]).filter(wanted)
    known = rows["_known_time"].dt.epoch("us")
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
        yield events.filter(wanted).with_columns(added)
