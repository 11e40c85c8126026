"""The events and the spine of the offline benchmarks, and the declared source behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

import homeostat as hs
from benchmarks.contest import Case

__all__ = ["CARD", "DAY", "END", "EVENT_COLUMNS", "HOUR", "SECOND", "START", "Payment", "payments",
           "write_events", "write_spine"]  # fmt: skip

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
START = 1_700_000_000 * SECOND
END = START + 30 * DAY
PART = 5_000_000
"""Rows made and written at once."""


class Payment(hs.Event):
    """A card is charged."""

    id: str
    at: hs.Timestamp
    card: int
    amount: float


payments = hs.EventSource("payments", Payment, event_id="id", event_time="at")
CARD = hs.Entity("card", key="card")
EVENT_COLUMNS = ["card", "amount", "_offset", "_known_time", "_event_time", "_tie", "_too_late"]
"""What a view over payments reads of the events frame."""


def keys(case: Case, n: int, random: np.random.Generator) -> Any:
    """Return n keys below `entities`, even or by Zipf's law (the r-th key has a weight of 1/r)."""
    entities = case["entities"]
    if case["keys"] == "uniform":
        return random.integers(0, entities, n)
    weights = np.cumsum(1 / np.arange(1, entities + 1))
    rank = np.searchsorted(weights, random.random(n) * weights[-1])
    return np.random.default_rng(1).permutation(entities)[rank]


def write_events(case: Case, values: int = 0) -> None:
    """Write `events/`: 30 days in the order of the log, instants in whole `tick`s.

    Events are known when they happen, since the contenders know one clock only. `values` adds
    that many columns v0, v1 ... of floats.
    """
    random, tick = np.random.default_rng(7), case["tick"]
    total = case["events"]
    parts = max(1, -(-total // PART))
    for part in range(parts):
        n = total // parts + (part < total % parts)
        width = (END - START) // tick // parts
        ticks = np.sort(random.integers(part * width, (part + 1) * width, n))
        at = pl.Series(START + ticks * tick).cast(pl.Datetime("us", "UTC"))
        frame = pl.DataFrame(
            {
                "card": keys(case, n, random),
                "amount": np.round(random.lognormal(3.0, 1.2, n), 2),
                "_offset": np.arange(n) + part * (total // parts + 1),
                "_known_time": at,
                "_event_time": at,
                "_tie": random.integers(-(2**63), 2**63 - 1, n),
                "_too_late": np.zeros(n, np.bool_),
                **{f"v{i}": random.normal(0.0, 1.0, n) for i in range(values)},
            }
        )
        (case.folder / "events").mkdir(exist_ok=True)
        frame.write_parquet(case.folder / "events" / f"{part:03}.parquet", compression="lz4")


def write_spine(case: Case) -> None:
    """Write `spine.parquet`: cards and instants in no order."""
    random, tick, n = np.random.default_rng(8), case["tick"], case["spine"]
    at = pl.Series(START + random.integers(0, (END - START) // tick, n) * tick).cast(
        pl.Datetime("us", "UTC")
    )
    frame = pl.DataFrame({"card": keys(case, n, random), "at": at})
    frame.write_parquet(case.folder / "spine.parquet", compression="lz4")
