"""What building features will read from the lake, and why, told before it is done."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from homeostat.core.clock import from_micros, to_micros
from homeostat.core.durations import Micros, format_duration
from homeostat.declare.views import FeatureView
from homeostat.features.latest import ENTITY_BYTES, is_latest
from homeostat.features.log import Log, event_columns
from homeostat.features.seen import seen_in
from homeostat.lake.events import LakeEvents, Span

__all__ = ["BuildPlan", "ViewPlan", "bounds", "span_of", "view_plan"]

COPIES = 3
"""Of what is read at once: as it is decoded, as it is put together, as it is looked at."""


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """What is read for one view.

    `begin` and `end` are ISO instants, None where unbounded. `files` of `files_of` are opened;
    `events` of them are read, `waiting` more are not in the lake yet. `bytes` is what `columns`
    take in the files. `entities` are the different keys asked about, `keyless` the rows without
    one. `passes` over the columns are made at most, with about `memory` bytes.
    """

    view: str
    source: str
    why: str
    begin: str | None
    end: str | None
    files: int
    files_of: int
    events: int
    waiting: int
    columns: tuple[str, ...]
    bytes: int
    entities: int
    keyless: int
    passes: int
    memory: int


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """A spine of `rows` between two instants, what is read for it, and what comes out.

    Views are built one after the other: `memory` is that of the largest and of all answers.
    """

    rows: int
    first: str
    last: str
    views: tuple[ViewPlan, ...]
    features: tuple[str, ...]
    memory: int


def span_of(view: FeatureView, first: Micros, last: Micros) -> tuple[Span, str]:
    """Return the known times of the events that rows at [first, last] may see, and why those.

    An event is never known before it happens, so none known before the longest window counts.

    >>> from homeostat.testing.toy import toy_system
    >>> span_of(toy_system().view("cards"), 86_400_000_000, 86_400_000_000)[1]
    '1d before the first row, for count_1d, up to the last'
    """
    end = last  # what is known at a row's own instant is not for it to see
    whole = [spec.name for spec in view.features() if spec.window is None]
    if whole:
        return Span(None, end), f"all before the last row: {whole[0]} is over the whole history"
    longest = max(view.features(), key=lambda spec: spec.reach)
    span = format_duration(longest.reach)
    why = f"{span} before the first row, for {longest.name}, up to the last"
    return Span(first - longest.reach, end), why


def view_plan(
    view: FeatureView, spine: pl.DataFrame, events: LakeEvents, files_of: int, budget: int
) -> ViewPlan:
    """Return what point-in-time features of a view will read.

    Args:
        view: whose features are built.
        spine: the rows that are asked about.
        events: what they may see, as in `span_of`.
        files_of: how many files the table has.
        budget: bytes that events may take at once.
    """
    first, last = bounds(spine)
    span, why = span_of(view, first, last)
    own = view.own_id in spine.columns
    at_offsets = seen_in(spine, view.source.name) is not None
    columns = tuple(event_columns(view, at_offsets=at_offsets, own=own))
    keys = spine.select(view.entity.keys)
    whole = keys.drop_nulls()
    tail = 0 if events.tail is None else events.tail.height
    rows = events.rows + tail
    entities = whole.n_unique() if whole.height else 0
    log = Log(view, events, at_offsets=at_offsets, own=own)
    if is_latest(log):  # no event is held but the latest of each entity
        passes, held = 1, ENTITY_BYTES * entities
    else:
        most = max(budget, log.event_bytes)
        passes = max(-(-rows * log.event_bytes // most), 1)
        held = min(rows * log.event_bytes, most) + 4 * rows
    answers = 8 * spine.height * len(view.features())
    return ViewPlan(
        view=view.name,
        source=view.source.name,
        why=why,
        begin=None if span.begin is None else from_micros(span.begin).isoformat(),
        end=None if span.end is None else from_micros(span.end).isoformat(),
        files=len(events.files),
        files_of=files_of,
        events=events.rows,
        waiting=tail,
        columns=columns,
        bytes=events.size(columns),
        entities=entities,
        keyless=keys.height - whole.height,
        passes=passes,
        memory=held + answers + COPIES * events.heaviest(columns),
    )


def bounds(spine: pl.DataFrame) -> tuple[Micros, Micros]:
    """Return the first and the last instant of a spine that has rows."""
    first, last = spine.select(pl.col("at").min().alias("a"), pl.col("at").max().alias("b")).row(0)
    return to_micros(first), to_micros(last)
