"""Which outcome event tells the label of which request: the one rule of training and monitoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.aggregate.expressions import to_polars
from homeostat.core.durations import Micros
from homeostat.declare.models import Label

__all__ = ["Asked", "outcome_columns", "outcomes_known", "truths"]

_KEY, _CODE, _TRUTH, _TOLD, _KNOWN = "_key", "_code", "_truth", "_told", "_known"

Instants = NDArray[np.int64]
Places = NDArray[np.int64]


def outcome_columns(label: Label) -> list[str]:
    """Return the columns of the outcome's events that the label is read from."""
    needed = {label.join_on, label.outcome.event_id, "_known_time", "_event_time"}
    return sorted(needed | set(label.expression.columns()))


def outcomes_known(label: Label, first: Micros, last: Micros) -> tuple[Micros, Micros]:
    """Return from when to when (inclusive) the outcomes of requests asked in a span are known.

    Args:
        label: the declared label.
        first: the first instant asked at, in microseconds.
        last: the last one.
    """
    begin = first - label.delay_us if label.completes_request else first
    return begin, last + label.delay_us


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Requests whose label is looked for: `join_on` of each, and its two instants, int64[n].

    `at` is the instant as of which its features are, `since` the one its outcome must follow.
    """

    keys: pl.Series
    at: Instants
    since: Instants


def truths(label: Label, asked: Asked, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Return the label of each request by the outcome that counts; missing where none does.

    An outcome counts for a request asked at `t` if it has the request's `join_on` and a value,
    is known at `t + delay` or before, and happened after the request (in its instant or after,
    with `at_once`): after `t`, since what came before may be in the features. Where `join_on` is
    the request's own id, the outcome completes that very request and no other: it follows the
    request's own event time, and is known within `delay` of `t`, before or after. Of several,
    `which` says: the first or the last that happened, ties by event id; with "any" the first true
    one, else the first.

    Args:
        label: the declared label.
        asked: n requests, `join_on` of the outcome's type.
        outcomes: events frame of `label.outcome`, with at least `outcome_columns`.

    Returns:
        n rows of `label` (Boolean) and `label_known_time`.
    """
    told = outcomes.select(
        pl.col(label.join_on).alias(_KEY),
        to_polars(label.expression).cast(pl.Boolean).alias(_TRUTH),
        pl.col("_event_time").dt.epoch("us").alias(_TOLD),
        pl.col("_known_time").dt.epoch("us").alias(_KNOWN),
        pl.col(label.outcome.event_id).alias("_id"),
    ).filter(pl.col(_TRUTH).is_not_null() & pl.col(_KEY).is_not_null())
    codes = told.select(_KEY).unique(maintain_order=True).with_row_index(_CODE)
    told = told.join(codes, on=_KEY, how="left").sort(_CODE, _TOLD, "_id")
    keyed = pl.DataFrame({_KEY: asked.keys}).join(codes, on=_KEY, how="left", maintain_order="left")
    history = _History(told)
    spans = history.spans(label, keyed[_CODE].cast(pl.Int64).fill_null(-1).to_numpy(), asked)
    if label.of_several == "last":
        places = history.last(spans)
    else:
        places = history.first(
            spans, told[_TRUTH].to_numpy() if label.of_several == "any" else None
        )
    picked = pl.Series(places).replace(-1, None)
    return pl.DataFrame(
        {
            "label": told[_TRUTH].gather(picked),
            "label_known_time": told[_KNOWN].cast(pl.Datetime("us", "UTC")).gather(picked),
        }
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Spans:
    """Per request: the places [begin, end) of outcomes by event time; known in [since, until]."""

    begin: Places
    end: Places
    since: Instants
    until: Instants


class _History:
    """Outcomes in order of key, event time and id, searched for all requests at once."""

    def __init__(self, told: pl.DataFrame) -> None:
        self._told, self._known = told[_TOLD].to_numpy(), told[_KNOWN].to_numpy()
        self._times = np.unique(self._told)
        # One ascending number per (key, event time), so that one search finds both.
        self._ranks = self._number(
            told[_CODE].cast(pl.Int64).to_numpy(), np.searchsorted(self._times, self._told)
        )

    def _number(self, codes: Places, places: Places) -> Places:
        return codes * (len(self._times) + 1) + places

    def spans(self, label: Label, codes: Places, asked: Asked) -> _Spans:
        """Return where the outcomes that may count for each request lie; code -1: nowhere."""
        until = asked.at + label.delay_us

        def place(instants: Instants) -> Places:
            after = np.searchsorted(self._times, instants, side="right")
            return np.searchsorted(self._ranks, self._number(codes, after))

        begin = place(asked.since - 1 if label.at_once else asked.since)
        # No event is known before it happened, so later ones are known too late.
        return _Spans(begin, place(until), asked.at - label.delay_us, until)

    def first(self, spans: _Spans, preferred: NDArray[np.bool_] | None) -> Places:
        """Return each request's first outcome that counts, -1 for none; preferred ones first."""
        found = self._walk(spans, 1, preferred)
        if preferred is None:
            return found
        return np.where(found < 0, self._walk(spans, 1, None), found)

    def last(self, spans: _Spans) -> Places:
        """Return each request's last outcome that counts, -1 for none."""
        return self._walk(spans, -1, None)

    def _walk(self, spans: _Spans, step: int, wanted: NDArray[np.bool_] | None) -> Places:
        """Step through the spans until an outcome counts; all open requests take a step at once."""
        found = np.full(len(spans.begin), -1, np.int64)
        here = spans.begin.copy() if step > 0 else spans.end - 1
        rows = np.flatnonzero(spans.begin < spans.end)
        while rows.size:
            at = here[rows]
            known = self._known[at]
            counts = (known >= spans.since[rows]) & (known <= spans.until[rows])
            if wanted is not None:
                counts &= wanted[at]
            found[rows[counts]] = at[counts]
            rows = rows[~counts]
            here[rows] += step
            rows = rows[(here[rows] >= spans.begin[rows]) & (here[rows] < spans.end[rows])]
        return found
