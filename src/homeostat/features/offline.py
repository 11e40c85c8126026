"""Point-in-time features: one row per spine row, from what was known at its instant.

Events and questions are dealt to buckets of entities, and the kernel answers the buckets, several
at once where there are cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from homeostat.aggregate.answers import Answers
from homeostat.aggregate.arrays import Floats, Ints
from homeostat.aggregate.block import Block, Rows
from homeostat.aggregate.layout import Layout
from homeostat.aggregate.slices import Scale
from homeostat.aggregate.window import window_start
from homeostat.aggregate.windows import Queries
from homeostat.core.ids import event_ties, number_ties
from homeostat.declare.views import FeatureView
from homeostat.features.buckets import Buckets, Plan
from homeostat.features.entities import Codes, Entities
from homeostat.features.event_tables import EventTable, FrameEvents, as_table, read_ahead
from homeostat.features.latest import is_latest, latest_values
from homeostat.features.log import Log, event_columns
from homeostat.features.lookups import look_up
from homeostat.features.seen import NOT_RECORDED, places_before

__all__ = ["point_in_time"]


def point_in_time(
    view: FeatureView,
    events: pl.DataFrame | EventTable,
    spine: pl.DataFrame,
    *,
    offsets: Ints | None = None,
    memory: int | None = None,
    told: Callable[[str, int], None] = lambda name, values: None,
) -> Floats:
    """Return the view's features for each row of `spine`, float64 of shape (rows, features).

    `events` are those of the view's source in the order of the log, at least its `event_columns`:
    a frame, or a table that is read in parts. `spine` has the entity's key columns, `at` (UTC
    microseconds) and, if the rows are requests whose own events may be among them, the event id
    (`FeatureView.own_id`): those are left out. A row sees the events known strictly before its
    `at`; with `offsets` (one per row), those up to that place in the log, where it is not
    `NOT_RECORDED`. A row with a missing key has no history.

    The events of the entities in question are held at once, or as many as take `memory` bytes:
    then the table is read once per round of entities: all of it, or, where it is sorted by them,
    what holds them. One entity is never divided. Of a view of nothing but latest values only the
    latest event of each entity is held.

    `told` is told the names of features some of whose values are missing because they cannot be
    computed exactly, and how many.
    """
    if not spine.height:
        return np.empty((0, len(view.features())))
    table, at_offsets = as_table(events), offsets is not None
    own = _own_digests(view, spine)
    log = Log(view, table, at_offsets=at_offsets, own=own is not None)
    at = _instants(spine)
    limits = _limits(table, at, offsets)
    if is_latest(log):
        found, rows = latest_values(log, Entities(view, table.schema, spine), at, limits)
        unsure = _rows_of_own(table, rows, own)
        if len(unsure):  # their latest event is their own
            theirs = None if own is None else own[unsure]
            found[unsure] = _dealt(
                log, spine[unsure], at[unsure], limits[unsure], theirs, memory, told
            )
        return found
    if len(table.parts) == 1 and table.is_log(table.parts[0]):  # one read instead of one per step
        columns = event_columns(view, at_offsets=at_offsets, own=own is not None)
        table = FrameEvents(table.read(table.parts[0], columns))
        log = Log(view, table, at_offsets=at_offsets, own=own is not None)
    return _dealt(log, spine, at, limits, own, memory, told)


def _dealt(
    log: Log,
    spine: pl.DataFrame,
    at: Ints,
    limits: Ints,
    own: Ints | None,
    memory: int | None,
    told: Callable[[str, int], None],
) -> Floats:
    """Return the features of rows by dealing their entities to buckets."""
    view, table = log.layout.view, log.table
    entities = Entities(view, table.schema, spine)
    found = np.empty((spine.height, len(view.features())))
    codes = _codes(entities, table)
    weights = _weights(entities, codes)
    plan = Plan(weights)
    asked = _Questions(np.arange(spine.height), entities.asked, at, limits, own)
    order, cuts = plan.deal(entities.asked)
    missing: list[Ints] = []

    def answer(buckets: Buckets, number: int) -> None:
        rows = order[cuts[number] : cuts[number + 1]]
        if not len(rows):
            return
        first, end = plan.first[number : number + 2].tolist()
        mine = asked.of(rows, first, end - first)
        given = buckets.bucket(number)
        events_of = Rows(
            given["entity"], given["_event_time"], given[log.clock], given.get("_tie"),
            given.get("row"), [given[place] for place in range(len(log.layout.sources))],
        )  # fmt: skip
        answers = _answers(log.layout, Block.of(log.layout, events_of, end - first), mine)
        found[mine.rows] = answers.table()
        missing.append(answers.not_exact)

    most = None if memory is None else max(memory // log.event_bytes, 1)
    for numbers in plan.rounds(weights, most):
        first, end = plan.first[numbers.start], plan.first[numbers.stop]
        buckets = Buckets(plan, int(weights[first:end].sum()))
        mine = None if len(numbers) == plan.count else range(first, end)
        for used, arrays in log.chunks(codes, mine):
            buckets.add(used, arrays)
        with ThreadPoolExecutor(min(len(numbers), os.cpu_count() or 1)) as pool:
            list(pool.map(partial(answer, buckets), numbers))
    wanted = [(lookup, _row_numbers(found[:, lookup.places[0]])) for lookup in log.lookups]
    if wanted:
        look_up(log.layout, table, wanted, found)
    for column in np.flatnonzero(np.any(missing, axis=0) if missing else ()).tolist():
        told(log.layout.reads[column].name, int(sum(counted[column] for counted in missing)))
    return found


def _codes(entities: Entities, table: EventTable) -> list[Codes]:
    """Return the numbers of the entities of each part's events; parts without any are not read."""
    found = [np.zeros(part.stop - part.start, np.uint32) for part in table.parts]
    numbers = []
    for number, part in enumerate(table.parts):
        bounds = table.bounds(part, entities.key)
        if bounds is None or entities.may_have(*bounds):
            numbers.append(number)
    for run, events in read_ahead(table, numbers, entities.keys):
        of, begin = entities.of(events), table.parts[run[0]].start
        for number in run:
            part = table.parts[number]
            found[number] = of[part.start - begin : part.stop - begin]
    return found


def _weights(entities: Entities, codes: Sequence[Codes]) -> Ints:
    """Return how many events and questions each entity has; nobody, number 0, has no events."""
    weights = np.zeros(entities.count + 1, np.int64)
    for part in codes:
        weights += np.bincount(part, minlength=len(weights))
    weights[0] = 0
    return weights + np.bincount(entities.asked, minlength=len(weights))


@dataclass(frozen=True, slots=True)
class _Questions:
    """Rows of a spine: who is asked about, when, before what clock, without which event."""

    rows: Ints
    entity: Codes | Ints
    at: Ints
    limit: Ints
    own: Ints | None

    def of(self, rows: Ints, first: int, groups: int) -> _Questions:
        """Return some of the questions, sorted by entity, counted from `first`, and instant."""
        entity, at = self.entity[rows].astype(np.int64) - first, self.at[rows]
        order = np.argsort(Scale.of(at, groups).keys(entity, at))
        rows = rows[order]
        return _Questions(
            rows, entity[order], at[order], self.limit[rows],
            None if self.own is None else self.own[rows],
        )  # fmt: skip


def _answers(layout: Layout, block: Block, asked: _Questions) -> Answers:
    entity = asked.entity.astype(np.int64, copy=False)
    queries = Queries.of(block, entity, asked.limit, asked.own)
    recent = queries.only_own_since(block, asked.at - layout.view.own_kept)
    windows = [
        recent.pieces(block, None)
        if window is None
        else queries.pieces(block, window_start(asked.at, window, hop))
        for window, hop in layout.windows
    ]
    return Answers(layout, block, asked.at, windows)


def _limits(table: EventTable, at: Ints, offsets: Ints | None) -> Ints:
    """Return the clock at which each question looks: it sees the events of before."""
    if offsets is None:
        return at
    limits = offsets + 1
    unsaid = np.flatnonzero(offsets == NOT_RECORDED)
    if len(unsaid):
        limits[unsaid] = places_before(table, at[unsaid])
    return limits


def _row_numbers(found: Floats) -> Ints:
    return np.where(np.isnan(found), -1.0, found).astype(np.int64)


def _instants(spine: pl.DataFrame) -> Ints:
    found: Ints = spine["at"].cast(pl.Datetime("us", "UTC")).to_physical().to_numpy()
    return found


def _own_digests(view: FeatureView, spine: pl.DataFrame) -> Ints | None:
    """Return the tie of each row's own event, 0 for none; None where no row is a request."""
    if view.own_id is None or view.own_id not in spine.columns:
        return None
    names = spine[view.own_id]
    if view.source.schema.field(view.own_id, view.name).kind == "integer":
        names = names.cast(pl.Int64, strict=False)
        found = number_ties(names.fill_null(0).to_numpy())
    else:
        found = event_ties(names.cast(pl.String).fill_null("").to_list())
    return np.where(names.is_null().to_numpy(), 0, found)


def _rows_of_own(table: EventTable, rows: Ints, own: Ints | None) -> Ints:
    """Return which questions have found their own event, by its row (negative: none)."""
    if own is None:
        return np.empty(0, np.int64)
    is_own = np.zeros(len(rows), np.bool_)
    for part in table.parts:
        here = np.flatnonzero((rows >= part.start) & (rows < part.stop))
        if len(here):
            ties = table.read(part, ["_tie"])["_tie"].to_numpy()
            is_own[here] = ties[rows[here] - part.start] == own[here]
    return np.flatnonzero(is_own)
