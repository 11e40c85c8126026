"""The upkeep of the lake: closed days sorted, small files joined, files nobody needs deleted."""

from __future__ import annotations

from collections.abc import Iterator

from homeostat.core.errors import HomeostatError
from homeostat.lake.compaction import MANY, ROWS, Compacted
from homeostat.lake.tables import Lake
from homeostat.lake.vacuum import Vacuumed
from homeostat.runtime.home import Home

__all__ = ["compact_all", "referenced_versions", "tidy", "untidy", "vacuum_all"]


def tidy(lake: Lake) -> None:
    """Do a bounded piece of what there is to compact in each table."""
    for table in lake.tables():
        lake.compact(table, most=ROWS, small=MANY)


def untidy(lake: Lake) -> int:
    """Return how many rows `tidy` would sort and write again, at least."""
    return sum(lake.loose(table, most=ROWS, small=MANY) for table in lake.tables())


def compact_all(lake: Lake, tables: tuple[str, ...]) -> Iterator[tuple[str, Compacted]]:
    """Compact tables to the end, a bounded piece per commit; yield what was done in each."""
    for table in tables:
        total = done = lake.compact(table, most=ROWS)
        while done.days:
            done = lake.compact(table, most=ROWS)
            total = Compacted(
                total.days + done.days,
                total.rows + done.rows,
                total.files_before + done.files_before,
                total.files_after + done.files_after,
            )
        yield table, total


def referenced_versions(home: Home) -> dict[str, set[int]]:
    """Return, by table, the versions that registered models were trained on.

    Raises:
        PackageCorrupt: a registered package cannot be read, so nobody knows what it needs.
    """
    found: dict[str, set[int]] = {}
    for registered in home.registry.list():
        package = home.registry.load(registered.model, registered.version)
        for table, version in package.lineage.tables.items():
            found.setdefault(table, set()).add(int(version))
    return found


def vacuum_all(
    home: Home, tables: tuple[str, ...], *, hours: int, dry: bool
) -> Iterator[tuple[str, set[int], Vacuumed]]:
    """Delete the files of tables that no version in use needs.

    Yields each table, the versions that models refer to, and what was deleted.
    """
    if hours < 0:
        raise HomeostatError(f"vacuum: {hours} hours; allowed: 0 or more; give the retention again")
    kept = referenced_versions(home)
    for table in tables:
        versions = kept.get(table, set())
        yield table, versions, home.lake.vacuum(table, versions, hours=hours, dry=dry)
