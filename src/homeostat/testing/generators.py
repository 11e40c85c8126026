"""Hypothesis strategies: views, and histories of events that are hostile to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
from hypothesis import strategies as st

from homeostat.declare.aggregations import SUMMARIES, Aggregation
from homeostat.declare.schema import Event, Timestamp
from homeostat.declare.sources import Entity, EventSource
from homeostat.declare.views import FeatureView
from homeostat.testing.generated_aggregations import CONDITIONS, aggregations
from homeostat.testing.generated_events import LATENESS, PLACES, SITES, START, TICK, event_rows

__all__ = [
    "FRAME",
    "START",
    "TICK",
    "History",
    "Question",
    "Reading",
    "events_frame",
    "histories",
    "readings",
]


class Reading(Event):
    """An event with every kind of field, each that may be missing missing at times."""

    id: str
    at: Timestamp
    place: str | None
    site: int | None
    amount: float | None
    small: float | None
    units: int | None
    level: int
    flag: bool | None


readings = EventSource(
    "readings", Reading, event_id="id", event_time="at", lateness=LATENESS, clock_skew=3 * TICK
)
"""The source of generated events."""

_UTC = pl.Datetime("us", "UTC")

FRAME: dict[str, Any] = {
    "id": pl.String, "at": _UTC, "place": pl.String, "site": pl.Int64, "amount": pl.Float64,
    "small": pl.Float64, "units": pl.Int64, "level": pl.Int64, "flag": pl.Boolean,
    "_offset": pl.Int64, "_known_time": _UTC, "_event_time": _UTC, "_id": pl.String,
    "_tie": pl.Int64, "_too_late": pl.Boolean,
}  # fmt: skip
"""The events frame of `readings`."""


@dataclass(frozen=True, slots=True)
class Question:
    """A read after the first `folded` events: an entity, an instant, and the request's own id."""

    folded: int
    key: tuple[Any, ...]
    at: int
    own: str


@dataclass(frozen=True, slots=True)
class History:
    """A view, the events of its source in the order of the log, and questions about them.

    `cuts` are where the log is cut into batches; every question is at a cut, after all events
    known by then and before any later one.
    """

    view: FeatureView
    rows: tuple[dict[str, Any], ...]
    cuts: tuple[int, ...]
    questions: tuple[Question, ...]

    @property
    def events(self) -> pl.DataFrame:
        """The events frame."""
        return events_frame(self.rows)


def events_frame(rows: Any) -> pl.DataFrame:
    """Return generated rows as an events frame."""
    return pl.DataFrame(list(rows), schema=FRAME)


@st.composite
def _views(draw: st.DrawFn, extra: tuple[Aggregation, ...]) -> FeatureView:
    own = draw(st.booleans())
    entity = draw(
        st.sampled_from(
            (Entity("place", "place"), Entity("site", "site"), Entity("both", ("place", "site")))
        )
    )
    where = draw(st.none() | st.sampled_from(CONDITIONS))
    made = draw(aggregations(windowed=own))
    made += tuple(a for a in extra if not (own and a.operation in SUMMARIES and None in a.windows))
    return FeatureView("view", entity, readings, made, where=where, exclude_own=own)


@st.composite
def histories(draw: st.DrawFn, extra: tuple[Aggregation, ...] = ()) -> History:
    """Draw a view, a history for it, and questions; the view has the aggregations `extra` too.

    Summaries of the whole history are left out where the view leaves out the request's own event.
    """
    view, rows = draw(_views(extra)), draw(event_rows())
    # Events known in the same instant are folded together before anybody can ask.
    whole = [n for n in range(1, len(rows)) if _known(rows, n - 1) < _known(rows, n)]
    cuts = sorted(draw(st.sets(st.sampled_from(whole)))) if whole else []
    cuts.append(len(rows))
    questions = []
    for cut in cuts:
        earliest = _known(rows, cut - 1) + 1 if rows else START
        latest = _known(rows, cut) if cut < len(rows) else earliest + 400 * TICK
        for _ in range(draw(st.integers(1, 2))):
            met = [at for at in _boundaries(view, rows[:cut]) if earliest <= at <= latest]
            at = draw(
                st.sampled_from((earliest, latest, *met, *met)) | st.integers(earliest, latest)
            )
            key = draw(_keys(view, rows[:cut]))
            own = draw(st.sampled_from([*(row["id"] for row in rows), "nobody"]))
            questions.append(Question(cut, key, at, own))
    return History(view, tuple(rows), tuple(cuts), tuple(questions))


def _keys(view: FeatureView, rows: list[dict[str, Any]]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Mostly entities that have events, and sometimes any other."""
    known = [tuple(row[part] for part in view.entity.keys) for row in rows]
    others = st.tuples(*(st.sampled_from(_parts(part)) for part in view.entity.keys))
    return st.sampled_from(known) | st.sampled_from(known) | others if known else others


def _boundaries(view: FeatureView, rows: list[dict[str, Any]]) -> list[int]:
    """The last instants at which events are still inside a window, or have not faded."""
    spans = set()
    for spec in view.features():
        spans |= {spec.reach - spec.hop, spec.window or 0}
        spans.add(32 * int(str(spec.option.get("half_life", 0))))
    return [int(row["_event_time"]) + span for row in rows for span in sorted(spans - {0})]


def _parts(key: str) -> tuple[Any, ...]:
    return (*PLACES, "elsewhere") if key == "place" else SITES


def _known(rows: list[dict[str, Any]], number: int) -> int:
    return int(rows[number]["_known_time"])
