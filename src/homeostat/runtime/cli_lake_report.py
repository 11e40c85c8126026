"""Shows what the lake takes and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from homeostat.runtime.cli_shared import Command, session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from homeostat.lake.report import TierBytes
    from homeostat.runtime.lake_report import LakeReport

__all__ = ["lake_report_command"]


@click.command("report", cls=Command, short_help="Bytes and prices by table, tier and column.")
def lake_report_command() -> None:
    """Show what the lake takes, by table, tier and column, what it costs, and what could be done.

    Prices are those of the profile: [lake.prices] with hot and cold, for a GB and month.
    """
    from homeostat.runtime.lake_report import lake_report
    from homeostat.runtime.reading import present

    here = session()
    with here.home() as (system, home):
        report = lake_report(system, home, present(home))
    here.answer(_json(report), lambda to: _show(to, report))


def _json(report: LakeReport) -> dict[str, Any]:
    return {
        "tables": [
            {
                **_row(tier),
                "columns": [
                    {
                        "column": column.name,
                        "bytes": column.compressed,
                        "uncompressed": column.plain,
                        "ratio": round(column.ratio, 3),
                        "encodings": list(column.encodings),
                        "codecs": list(column.codecs),
                    }
                    for column in tier.columns
                ],
            }
            for tier in report.tiers
        ],
        "price_per_month": report.price,
        "currency": report.currency,
        "suggestions": [
            {"table": one.table, "kind": one.kind, "words": one.words} for one in report.suggestions
        ],
    }


def _row(tier: TierBytes) -> dict[str, Any]:
    return {
        "table": tier.table, "tier": tier.tier, "rows": tier.rows, "days": tier.days,
        "files": tier.files, "bytes": tier.bytes, "stale_bytes": tier.stale,
        "price_per_month": tier.price,
    }  # fmt: skip


def _show(to: Console, report: LakeReport) -> None:
    from homeostat.runtime.cli_output import size, table

    if not report.tiers:
        to.print("The lake is empty.")
        return

    def readable(tier: TierBytes) -> Mapping[str, Any]:
        row = _row(tier)
        price = row.pop("price_per_month")
        stale = size(row.pop("stale_bytes"))
        found = {**row, "bytes": size(tier.bytes), "stale": stale}
        if report.price is not None:
            found[f"{report.currency}/month"] = None if price is None else f"{price:,.4f}"
        return found

    table(to, [readable(tier) for tier in report.tiers])
    columns = [
        {
            "table": tier.table,
            "tier": tier.tier,
            "column": column.name,
            "bytes": size(column.compressed),
            "share": f"{column.compressed / max(sum(c.compressed for c in tier.columns), 1):.0%}",
            "uncompressed": size(column.plain),
            "ratio": f"{column.ratio:.2f}",
            "encoding": " ".join((*column.codecs, *column.encodings)),
        }
        for tier in report.tiers
        for column in tier.columns
    ]
    table(to, columns)
    if report.price is not None:
        to.print(f"All of it: {report.price:,.4f} {report.currency} a month")
    for one in report.suggestions:
        to.print(f"{one.table}: {one.words}")
