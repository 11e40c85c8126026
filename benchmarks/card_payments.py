"""The events that ingestion is measured with: payments by card, 140 bytes of JSON a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

import homeostat as hs

__all__ = ["NOW", "PAYMENTS", "SPANS", "SYSTEM", "Payment", "lines", "parts", "write_payments"]

NOW = 1_700_000_000_000_000
HOUR = 3_600_000_000
START = NOW - 240 * HOUR
SPANS = {"1h": HOUR, "1d": 24 * HOUR, "7d": 168 * HOUR}
"""The windows and their lengths in microseconds."""

PART = 500_000
"""Events made at once."""


class Payment(hs.Event):
    """A card is used."""

    payment_id: str
    card: str
    merchant: str
    amount: float
    paid_at: hs.Timestamp


PAYMENTS = hs.EventSource("payments", Payment, event_id="payment_id", event_time="paid_at")
CARDS = hs.FeatureView(
    "cards",
    hs.Entity("card", key="card"),
    PAYMENTS,
    (hs.count().over(*SPANS), hs.mean("amount").over(*SPANS)),
)
SYSTEM = hs.System("payments", sources=(PAYMENTS,), views=(CARDS,))


def parts(events: int, cards: int) -> Iterator[pl.DataFrame]:
    """Yield events in parts, in the order of their instants, over the ten days before `NOW`.

    Instants are whole milliseconds; cards are drawn evenly.
    """
    draw, span = np.random.default_rng(1), NOW - START
    for begin in range(0, events, PART):
        n = min(PART, events - begin)
        place = np.arange(begin, begin + n)
        yield pl.DataFrame(
            {
                "payment_id": _named("payment", place, 12),
                "card": _named("card", draw.integers(0, cards, n), 8),
                "merchant": _named("merchant", place % 997, 6),
                "amount": draw.lognormal(3, 1, n).round(2),
                "paid_at": pl.Series(START + place * (span // events) // 1_000 * 1_000).cast(
                    pl.Datetime("us", "UTC")
                ),
            }
        )


def _named(word: str, numbers: npt.NDArray[np.int64], width: int) -> pl.Series:
    digits = pl.Series(numbers).cast(pl.String).str.zfill(width)
    return pl.select(pl.format("{}-{}", pl.lit(word), digits)).to_series()


def lines(part: pl.DataFrame) -> bytes:
    """Return events as JSON lines.

    >>> lines(next(parts(1, 1)))[:49]
    b'{"payment_id":"payment-000000000000","card":"card'
    """
    said = pl.col("paid_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    text = BytesIO()
    part.with_columns(said).write_ndjson(text)
    return text.getvalue()


def write_payments(folder: Path, events: int, cards: int) -> None:
    """Write `events.ndjson`, and what `engine_tally` compares answers with: `expected.json`."""
    with (folder / "events.ndjson").open("wb") as file:
        seen = []
        for part in parts(events, cards):
            file.write(lines(part))
            seen.append(part.select("card", "amount", pl.col("paid_at").dt.epoch("us")))
    said = pl.concat(seen)
    at = said["paid_at"].to_numpy()
    # Cards follow each other with more than any window between them.
    place = np.sort((said["card"].rank("dense").to_numpy().astype(np.int64) * 2**44) + at - START)
    after = np.arange(1, events + 1)
    expected = {
        "events": events,
        "amount": said["amount"].sum(),
        "hours": {span: length // HOUR for span, length in SPANS.items()},
        "windows": {
            span: said.select(pl.struct("card", pl.col("paid_at") // length).n_unique()).item()
            for span, length in SPANS.items()
        },
        "exact": {
            span: int((after - np.searchsorted(place, place - length)).sum())
            for span, length in SPANS.items()
        },
    }
    (folder / "expected.json").write_text(json.dumps(expected))
