"""Pathway as a contender of `ingest_files`: the aggregation alone; imports nothing of ours.

Its own reader of JSON lines in static mode, three `windowby` with tumbling windows by card, and
`subscribe` on each result: the whole runs in its Rust engine but for the answers. One window per
length and event is the least it can do.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pathway as pw

from benchmarks.contest import Case, Work
from benchmarks.engine_tally import Tally, figures, lines_of

__all__ = ["tumbling"]

ALIGNED = datetime(1970, 1, 1)  # noqa: DTZ001 - as its own instants here, without a zone


class Payment(pw.Schema):  # type: ignore[misc]
    """What the aggregation needs of an event."""

    card: str
    amount: float
    paid_at: str


def tumbling(case: Case) -> Work:
    """Three `windowby(...).reduce(...)` over one table."""
    tally = Tally(case)
    payments = pw.io.jsonlines.read(str(lines_of(case)), schema=Payment, mode="static")
    instant = payments.paid_at.dt.strptime("%Y-%m-%dT%H:%M:%S%.fZ")
    payments = payments.with_columns(paid_at=instant)
    for span, hours in tally.hours.items():
        window = pw.temporal.tumbling(timedelta(hours=hours), origin=ALIGNED)
        stats = payments.windowby(payments.paid_at, window=window, instance=payments.card).reduce(
            card=pw.this._pw_instance,
            begin=pw.this._pw_window_start,
            payments=pw.reducers.count(),
            mean=pw.reducers.avg(pw.this.amount),
        )

        pw.io.subscribe(stats, partial(_told, tally, span))
    return figures(
        tally.events, lambda: pw.run(monitoring_level=pw.MonitoringLevel.NONE), tally.check_tumbling
    )


def _told(
    tally: Tally, span: str, key: Any, row: dict[str, Any], time: int, is_addition: bool
) -> None:
    tally.add(span, row["payments"], row["mean"], 1 if is_addition else -1)
