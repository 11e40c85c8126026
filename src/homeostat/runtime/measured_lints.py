"""What `homeostat check` warns of when a home is there: declarations held against its events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from homeostat.core.durations import Micros, format_duration
from homeostat.declare.lints import Lint, can_have_several
from homeostat.declare.models import Label, Model
from homeostat.declare.monitors import Quality
from homeostat.declare.system import System
from homeostat.lake.tables import Lake
from homeostat.train.dataset import labelled
from homeostat.train.outcomes import outcome_columns, outcomes_known

__all__ = ["measured_lints"]

LOOKED_AT: Micros = 90 * 86_400_000_000
"""Events of this span before the present are looked at, and no less than two windows."""


def measured_lints(system: System, lake: Lake, now: Micros) -> tuple[Lint, ...]:
    """Return the warnings that need events: of labels, and of quality that has too few rows.

    Args:
        system: the declarations.
        lake: of the home; it is only read.
        now: the home's present, in microseconds.
    """
    seen: dict[str, Lint] = {}
    for model in system.models:
        if model.label.which is None and can_have_several(model.label):
            seen.update((lint.where, lint) for lint in _ambiguous(model.label, lake, now))
        if model.label.completes_request:
            seen.update((lint.where, lint) for lint in _before(model.label, lake, now))
    return (*seen.values(), *_thin_windows(system, lake, now))


def _before(label: Label, lake: Lake, now: Micros) -> Iterator[Lint]:
    """Labels whose outcomes happened before their own requests, with how many."""
    first = now - label.delay_us - LOOKED_AT
    asked = lake.read(label.predicts.name, [label.join_on, "_event_time"], known_from=first)
    outcomes = lake.read(label.outcome.name, [label.join_on, "_event_time"], known_from=first)
    last = outcomes.group_by(label.join_on).agg(pl.col("_event_time").max().alias("_last"))
    both = asked.join(last, on=label.join_on)
    early = pl.col("_last") < pl.col("_event_time")
    count = both.filter(early if label.at_once else early | (both["_last"] == both["_event_time"]))
    if count.height:
        yield Lint(
            "outcomes-before",
            f"label {label.name!r}",
            f"of {both.height:,} requests with an outcome, {count.height:,} have only such as did "
            "not happen after them, which do not count",
            f"look at the clocks {label.predicts.event_time!r} and {label.outcome.event_time!r}, "
            "and at join_on; set at_once=True where both may have one instant",
        )


def _ambiguous(label: Label, lake: Lake, now: Micros) -> Iterator[Lint]:
    """Labels that another choice among several outcomes would change, with how many."""
    first = now - label.delay_us - LOOKED_AT
    asked = lake.read(label.predicts.name, [label.join_on, "_known_time"], known_from=first)
    begin, _ = outcomes_known(label, first, now)
    outcomes = lake.read(label.outcome.name, outcome_columns(label), known_from=begin)
    if not asked.height or not outcomes.height:
        return
    found = {
        which: labelled(replace(label, which=which, when_absent=False), asked, outcomes, now)
        for which in ("first", "last", "any")
    }
    truths = found["first"]["label"]
    others = {which: int((found[which]["label"] != truths).sum()) for which in ("last", "any")}
    if any(others.values()):
        counts = " and ".join(f"{n:,} by which={which!r}" for which, n in others.items())
        yield Lint(
            "outcomes-disagree",
            f"label {label.name!r}",
            f"of {truths.len():,} requests whose label is final, the first outcome by event time "
            f"decides; {counts} would be labelled otherwise",
            "choose which='first', 'last' or 'any'",
        )


def _thin_windows(system: System, lake: Lake, now: Micros) -> Iterator[Lint]:
    """Quality monitors whose window never held as many requests as they wait for."""
    for monitor in system.monitors:
        if isinstance(monitor, Quality):
            most = _most_in(monitor.model, monitor.window_us, lake, now)
            if most is not None and most < monitor.rows:
                window = format_duration(monitor.window_us)
                yield Lint(
                    "quality-never-judged",
                    f"quality of {monitor.model.name!r} ({monitor.metric})",
                    f"it waits for {monitor.rows:,} labelled predictions of {window}, and in the "
                    f"home no {window} had more than {most:,} requests",
                    "lower rows, or widen the window",
                )


def _most_in(model: Model, window: Micros, lake: Lake, now: Micros) -> int | None:
    """Return the most requests that became known within any window; None before two are over."""
    source = model.label.predicts.name
    begin = now - max(LOOKED_AT, 2 * window)
    frame = lake.read(source, ["_known_time"], known_from=begin)
    known = np.sort(frame.select(pl.col("_known_time").dt.epoch("us")).to_series().to_numpy())
    if not known.size or known[-1] - known[0] < 2 * window:
        return None
    ends = np.searchsorted(known, known + window)
    return int((ends - np.arange(known.size)).max())
