"""What the lake takes and costs, and what the numbers suggest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from homeostat.core.durations import Micros, format_duration
from homeostat.declare.needs import needed_span
from homeostat.declare.system import System
from homeostat.lake.lifecycle import Ages, leaving
from homeostat.lake.report import GB, TierBytes, measure
from homeostat.runtime.home import Home

__all__ = ["LakeReport", "Suggestion", "lake_report"]

MANY_FILES, SMALL_FILE = 4, 16_000_000
"""More files a day than this, and smaller ones on average, are worth putting together."""

HEAVY_SHARE = 0.5
STALE_SHARE = 0.2
WORTH = 1_000_000
"""Bytes of a table below which nothing is suggested about them."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What could be done about a table: `kind` is for machines, `words` for people."""

    table: str
    kind: str
    words: str


@dataclass(frozen=True, slots=True)
class LakeReport:
    """Tables by tier, what all cost in a month (None: no prices), and what could be done."""

    tiers: tuple[TierBytes, ...]
    price: float | None
    currency: str
    suggestions: tuple[Suggestion, ...]


def lake_report(system: System, home: Home, now: Micros, worth: int = WORTH) -> LakeReport:
    """Return what the lake of a home takes, from the footers of its files.

    Args:
        system: the declarations.
        home: whose lake; its prices are those of the profile.
        now: the present, for the ages of days.
        worth: bytes of a table below which nothing is suggested.
    """
    storage = home.storage
    tiers = tuple(
        tier for table in home.lake.tables() for tier in measure(home.lake, table, storage.prices)
    )
    prices = [tier.price for tier in tiers if tier.price is not None]
    large = [tier for tier in tiers if tier.bytes + tier.stale >= worth]
    found = [
        one for tier in large for one in (*_layout(home, tier), *_ages(system, home, tier, now))
    ]
    return LakeReport(tiers, sum(prices) if prices else None, storage.currency, tuple(found))


def _layout(home: Home, tier: TierBytes) -> Iterator[Suggestion]:
    """Yield what the files and columns of a table suggest."""
    table = tier.table
    each = tier.bytes / tier.files if tier.files else 0
    if tier.files > MANY_FILES * tier.days and each < SMALL_FILE:
        yield Suggestion(
            table,
            "compact",
            f"{tier.files:,} files in {tier.days:,} days, of {each / 1000:,.0f} kB on average: "
            "`homeostat lake compact` makes a file a day, which is read faster",
        )
    if tier.stale > STALE_SHARE * (tier.bytes + tier.stale):
        share = tier.stale / (tier.bytes + tier.stale)
        yield Suggestion(
            table,
            "stale",
            f"{share:.0%} of the bytes are files that the present version does not name: they "
            "hold versions of before; `homeostat lake vacuum` deletes those that no model needs",
        )
    text = {name for name, kind in home.lake.schema(table).items() if str(kind) == "String"}
    whole = sum(column.compressed for column in tier.columns)
    for column in tier.columns:
        if column.name in text and column.compressed > HEAVY_SHARE * whole:
            yield Suggestion(
                table,
                "heavy-text",
                f"the text {column.name!r} takes {column.compressed / whole:.0%} of the "
                f"{tier.tier} bytes: leave it out of the event, or shorten it, if nothing reads it",
            )


def _ages(system: System, home: Home, tier: TierBytes, now: Micros) -> Iterator[Suggestion]:
    """Yield that days could be cold, where no policy says when they are."""
    names = [source.name for source in system.sources]
    if tier.tier != "hot" or tier.table not in names:
        return
    policy, need = system.retention(tier.table), needed_span(system, tier.table)
    if need.span is None or (policy is not None and policy.hot_us is not None):
        return
    days = home.lake.days(tier.table)
    old = leaving(tier.table, days, (), Ages(need.span, None, None), now).move
    if not old:
        return
    moved = tier.bytes * len(old) / max(len(days), 1)
    prices, saved = home.storage.prices, ""
    if "hot" in prices and "cold" in prices:
        less = moved / GB * (prices["hot"] - prices["cold"])
        saved = f", and save about {less:,.2f} {home.storage.currency} a month"
    yield Suggestion(
        tier.table,
        "cold",
        f"{len(old):,} of {len(days):,} days are older than anything live looks back to "
        f"({format_duration(need.span)}): hs.Retention({tier.table}, hot=...) would move about "
        f"{moved / 1e6:,.1f} MB{saved}",
    )
