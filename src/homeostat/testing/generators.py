"""Hypothesis strategies: views, and histories of events that are hostile to them.

Times lie on a coarse grid, so that events tie with each other and meet window boundaries exactly;
events come late, too late, from the future, with missing keys, missing values, and values of very
different magnitudes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
from hypothesis import strategies as st

from homeostat.core.ids import id_digest
from homeostat.declare.aggregations import (
    Aggregation,
    count,
    first,
    last,
    maximum,
    mean,
    minimum,
    share,
    standard_deviation,
    sum_,
    time_since_last,
    variance,
)
from homeostat.declare.expressions import Expr, col
from homeostat.declare.schema import Event, Timestamp
from homeostat.declare.sources import Entity, EventSource
from homeostat.declare.views import FeatureView

__all__ = ["FRAME", "History", "Question", "Reading", "events_frame", "histories", "readings"]

START = 1_700_000_000_000_000
"""The first known time of generated histories, in microseconds."""

TICK = 10_000_000
"""Most instants are multiples of this: ten seconds."""

LATENESS = 60 * TICK


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

PLACES = ("a", "a", "a", "ab", "ü", "\N{SNOWMAN}\N{COMBINING ACUTE ACCENT}", "", None)
SITES = (0, 0, 1, -5, None)
GAPS = (0, 0, 1, TICK, TICK, 3 * TICK, 20 * TICK)
LAGS = (0, 0, 0, 1, TICK, 6 * TICK, 30 * TICK, LATENESS, LATENESS + 1, -2 * TICK)
AMOUNTS = (None, 0.0, -0.0, 0.1, -0.1, 1e-6, 1e9, -1e9, 123.456, 2.0**-30, 5e-324)

_CONDITIONS: tuple[Expr | None, ...] = (
    None,
    col("amount") > 0,
    col("flag"),
    ~col("flag"),
    (col("units") >= 0) | col("flag"),
    col("place").is_in("a", "ü"),
    col("small").is_null() & (col("level") / col("units") != 1),
)

_ON_COLUMN: tuple[tuple[Callable[..., Aggregation], tuple[str, ...]], ...] = (
    (sum_, ("amount", "small", "units", "level", "flag")),
    (mean, ("amount", "small", "units", "level", "flag")),
    (minimum, ("amount", "units", "flag")),
    (maximum, ("amount", "level")),
    (first, ("amount", "units")),
    (last, ("amount", "level", "flag")),
    (variance, ("small", "units")),
    (standard_deviation, ("small", "flag")),
)

_ORDER = ("0s", "7us", "10s", "17s", "20s", "1m", "5m", "1h")
_WINDOWS = ("10s", "20s", "1m", "5m", "1h", "7us")


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
def _aggregations(draw: st.DrawFn, windowed: bool) -> tuple[Aggregation, ...]:
    found = []
    for number in range(draw(st.integers(1, 5))):
        where = draw(st.sampled_from(_CONDITIONS))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            made = count(where)
        elif kind == 1:
            made = share(col("amount") > 1 if where is None else where)
        elif kind == 2:
            made = time_since_last(where)
        else:
            operation, columns = draw(st.sampled_from(_ON_COLUMN))
            made = operation(draw(st.sampled_from(columns)), where=where)
        made = made.named(f"f{number}")
        if windowed or draw(st.integers(0, 2)):
            spans = draw(st.lists(st.sampled_from(_WINDOWS), min_size=1, max_size=3, unique=True))
            hop = draw(st.sampled_from(("0s", "0s", "7us", "10s", "17s")))
            spans = [span for span in spans if _ORDER.index(span) >= _ORDER.index(hop)] or ["1m"]
            made = made.over(*spans, hop=hop)
        found.append(made)
    return tuple(found)


@st.composite
def _views(draw: st.DrawFn) -> FeatureView:
    own = draw(st.booleans())
    entity = draw(
        st.sampled_from(
            (Entity("place", "place"), Entity("site", "site"), Entity("both", ("place", "site")))
        )
    )
    where = draw(st.sampled_from((None, None, *_CONDITIONS[1:])))
    made = draw(_aggregations(windowed=own))
    return FeatureView("view", entity, readings, made, where=where, exclude_own=own)


@st.composite
def _rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    known, offset = START, 0
    rows = []
    amounts = st.sampled_from(AMOUNTS) | st.floats(-1e9, 1e9) | st.none()
    for number in range(draw(st.integers(0, 30))):
        known += draw(st.sampled_from(GAPS))
        lag = draw(st.sampled_from(LAGS))
        offset += draw(st.sampled_from((1, 1, 1, 2, 7)))
        name = f"{number}\N{LATIN SMALL LETTER E WITH ACUTE}"
        rows.append(
            {
                "id": name,
                "at": known - lag,
                "place": draw(st.sampled_from(PLACES)),
                "site": draw(st.sampled_from(SITES)),
                "amount": draw(amounts),
                "small": draw(st.none() | st.floats(-1e6, 1e6)),
                "units": draw(st.none() | st.integers(-3, 3)),
                "level": draw(st.integers(-(2**51), 2**51) if number % 3 else st.just(1)),
                "flag": draw(st.sampled_from((None, True, False))),
                "_offset": offset,
                "_known_time": known,
                "_event_time": min(known - lag, known),
                "_id": name,
                "_tie": id_digest(name),
                "_too_late": lag > LATENESS,
            }
        )
    return rows


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw a view, a history for it, and questions."""
    view, rows = draw(_views()), draw(_rows())
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
    """The last instants at which events are still inside a window."""
    spans = {spec.window for spec in view.features() if spec.window is not None}
    return [int(row["_event_time"]) + span for row in rows for span in sorted(spans)]


def _parts(key: str) -> tuple[Any, ...]:
    return (*PLACES, "elsewhere") if key == "place" else SITES


def _known(rows: list[dict[str, Any]], number: int) -> int:
    return int(rows[number]["_known_time"])
