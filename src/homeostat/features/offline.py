"""Point-in-time features: one row per spine row, from what was known at its instant."""

from __future__ import annotations

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.block import Block
from homeostat.aggregate.layout import Layout
from homeostat.aggregate.window import window_start
from homeostat.aggregate.windows import Answers, Queries
from homeostat.core.ids import id_digests
from homeostat.declare.views import FeatureView
from homeostat.features.events import usable

__all__ = ["point_in_time"]


def point_in_time(
    view: FeatureView,
    events: pl.DataFrame,
    spine: pl.DataFrame,
    *,
    offsets: Ints | None = None,
) -> Floats:
    """Return the view's features for each row of `spine`, float64 of shape (rows, features).

    `events` is the events frame of the view's source. `spine` has the entity's key columns, `at`
    (UTC microseconds) and, if the view excludes the request's own event, the event id. A row sees
    the events known strictly before its `at`; with `offsets` (one per row), those up to that
    place in the log. A row with a missing key has no history.
    """
    layout = Layout(view)
    if not spine.height:
        return np.empty((0, len(layout.reads)))
    kept, group, codes = _grouped(view, events, spine)
    block = Block.of(layout, kept, group)
    at = spine["at"].cast(pl.Datetime("us", "UTC")).dt.epoch("us").to_numpy()
    limit = block.limit(at, offsets)
    own = _own_digests(view, spine) if view.exclude_own else None
    queries = Queries.of(block, codes, limit, own)
    found = np.empty((spine.height, len(layout.reads)))
    answers = Answers(layout, block, at)
    for number, (window, hop) in enumerate(layout.windows):
        pieces = queries.pieces(block, None if window is None else window_start(at, window, hop))
        answers.fill(number, pieces, found)
    return found


def _grouped(
    view: FeatureView, events: pl.DataFrame, spine: pl.DataFrame
) -> tuple[pl.DataFrame, Ints, Ints]:
    """Return the usable events of the spine's entities, their groups, and the spine's groups.

    Groups are numbered from 0; a spine row with a missing key is in group -1.
    """
    keys = list(view.entity.keys)
    types = {key: events.schema[key] for key in keys}
    asked = spine.select(pl.col(key).cast(types[key]) for key in keys)
    groups = asked.unique(maintain_order=True).drop_nulls().with_row_index("_group")
    joined = asked.join(groups, on=keys, how="left", maintain_order="left")
    codes = joined["_group"].cast(pl.Int64).fill_null(-1).to_numpy()
    found = events.filter(usable(view)).join(groups, on=keys, how="inner", maintain_order="left")
    return found, found["_group"].cast(pl.Int64).to_numpy(), codes


def _own_digests(view: FeatureView, spine: pl.DataFrame) -> Ints:
    return id_digests(spine[view.source.event_id].cast(pl.String).fill_null("").to_list())
