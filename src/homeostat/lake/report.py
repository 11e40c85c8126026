"""What the lake takes: bytes, rows and days by table, tier and column, read from footers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homeostat.lake.events import Stored
from homeostat.lake.locations import footers, sizes
from homeostat.lake.tiered import TieredLake

__all__ = ["ColumnBytes", "TierBytes", "measure"]

GB = 1e9


@dataclass(frozen=True, slots=True)
class ColumnBytes:
    """A column of a table in one tier.

    `compressed` are its bytes in the files, `plain` the same before compression, both after
    encoding; `encodings` and `codecs` are Parquet's names, in order.
    """

    name: str
    compressed: int
    plain: int
    encodings: tuple[str, ...]
    codecs: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """How many times smaller compression makes it; 1 for no bytes."""
        return self.plain / self.compressed if self.compressed else 1.0


@dataclass(frozen=True, slots=True)
class TierBytes:
    """A table in one tier: `bytes` of the present version, `stale` of files that it does not name.

    `price` is what both cost in a month, None if none is declared.
    """

    table: str
    tier: str
    rows: int
    days: int
    files: int
    bytes: int
    stale: int
    price: float | None
    columns: tuple[ColumnBytes, ...]


def measure(lake: TieredLake, table: str, prices: Mapping[str, float]) -> tuple[TierBytes, ...]:
    """Return what a table takes, by tier; nothing before its first append.

    Args:
        lake: the lake.
        table: one of its tables.
        prices: by tier (`hot`, `cold`), what a GB costs in a month.
    """
    sides = lake.sides(table)
    tiers = ("cold", "hot") if len(sides) == 2 else ("hot",)
    return tuple(
        _measured(lake, table, tier, side, prices.get(tier))
        for tier, side in zip(tiers, sides, strict=False)
    )


def _measured(
    lake: TieredLake, table: str, tier: str, side: Stored, price: float | None
) -> TierBytes:
    place = lake.cold.location if tier == "cold" and lake.cold is not None else lake.location
    everything = sizes(place.table(table))
    named = sum(everything.get(file, 0) for file in side.files)
    stale = sum(everything.values()) - named
    rows, found = 0, dict[str, list[tuple[int, int, tuple[str, ...], str]]]()
    for _, footer in footers(side.files):
        rows += footer.num_rows
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            for at in range(group.num_columns):
                column = group.column(at)
                name = str(column.path_in_schema).partition(".")[0]
                found.setdefault(name, []).append(
                    (
                        column.total_compressed_size,
                        column.total_uncompressed_size,
                        column.encodings,
                        column.compression,
                    )
                )
    columns = tuple(
        ColumnBytes(
            name,
            sum(chunk[0] for chunk in chunks),
            sum(chunk[1] for chunk in chunks),
            tuple(sorted({encoding for chunk in chunks for encoding in chunk[2]})),
            tuple(sorted({chunk[3] for chunk in chunks})),
        )
        for name, chunks in found.items()
    )
    return TierBytes(
        table=table,
        tier=tier,
        rows=rows,
        days=len({file.rsplit("/", 2)[-2] for file in side.files}),
        files=len(side.files),
        bytes=named,
        stale=stale,
        price=None if price is None else (named + stale) / GB * price,
        columns=tuple(sorted(columns, key=lambda column: -column.compressed)),
    )
