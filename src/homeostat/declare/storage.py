"""Where the lake is, and what a byte costs there: said by the profile, not by the system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from homeostat.declare.mistakes import require

__all__ = ["AT_HOME", "TIERS", "Storage", "prediction_table", "raw_table"]

TIERS = ("hot", "cold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Where the tables of the lake are.

    Args:
        location: a folder, or an address such as "s3://bucket/prefix"; None for the home's own.
        cold: where days go that are no longer hot (`Retention(hot=...)`); None if they stay.
        prices: by tier (`hot`, `cold`), what a GB (10^9 bytes) costs in a month.
        currency: what the prices are in.
        raw: whether there is also a table per source with the bytes that were received; None: where
            the log lets go of them.

    >>> Storage(cold="s3://archive/shop", prices={"hot": 0.1, "cold": 0.02}).prices["cold"]
    0.02
    """

    location: str | None = None
    cold: str | None = None
    prices: Mapping[str, float] = field(default_factory=dict)
    currency: str = "USD"
    raw: bool | None = None

    def __post_init__(self) -> None:
        require(
            self.cold is None or self.cold != self.location,
            "lake",
            f"cold={self.cold!r}, where the hot days are",
            "another place for the cold days",
            "name another folder or prefix",
        )
        require(
            self.raw is None or isinstance(self.raw, bool),
            "lake",
            f"raw={self.raw!r}",
            "true or false",
            "write raw = true, or leave it out",
        )
        for tier, price in self.prices.items():
            require(
                tier in TIERS,
                "lake prices",
                f"{tier!r}",
                ", ".join(TIERS),
                "name one of those",
            )
            require(
                isinstance(price, int | float) and not isinstance(price, bool) and price >= 0,
                "lake prices",
                f"{tier} = {price!r}",
                "what a GB costs in a month, 0 or more",
                "write a number",
            )


AT_HOME = Storage()
"""Everything is in the home."""


def raw_table(source: str) -> str:
    """Return the table of the lake that has the records of a source as they were received.

    >>> raw_table("payments")
    'raw_payments'
    """
    return f"raw_{source}"


def prediction_table(model: str) -> str:
    """Return the table of the lake that holds the predictions of a model.

    >>> prediction_table("fraud")
    'predictions_fraud'
    """
    return f"predictions_{model}"
