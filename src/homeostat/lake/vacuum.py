"""Files that no version in use needs are deleted; the versions that are in use stay whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from homeostat.core.errors import HomeostatError

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["LakeVersionGone", "Vacuumed", "vacuum_table"]


class LakeVersionGone(HomeostatError, LookupError):
    """A version whose files were deleted."""

    def __init__(self, table: str, version: int, missing: int, files: int) -> None:
        super().__init__(
            f"lake table {table!r}: version {version} is gone, {missing} of its {files} files "
            "were deleted; allowed: the current version, those that registered models refer to, "
            "and those younger than the retention of `homeostat lake vacuum`; ask for one of them."
        )


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """How many files were deleted, or would be, and their bytes."""

    files: int = 0
    bytes: int = 0


def vacuum_table(
    target: DeltaTable, held: Mapping[str, int], keep: Collection[int], hours: int, dry: bool
) -> Vacuumed:
    """Delete the files that neither the current version nor one of `keep` has.

    Args:
        target: the table.
        held: the bytes of the files that are there, by their path in the table.
        keep: versions that stay readable.
        hours: files that were removed from the table, or written and never committed, less than
            so long ago stay.
        dry: only say what would be deleted.
    """
    known = sorted(version for version in set(keep) if 0 <= version <= target.version())
    listed = _deleted(target, known, hours, dry=True)
    sizes = [held[name] for name in listed if name in held]
    if not dry and sizes:
        _deleted(target, known, hours, dry=False)
        target.update_incremental()
    return Vacuumed(len(sizes), sum(sizes))


def _deleted(target: DeltaTable, keep: list[int], hours: int, *, dry: bool) -> list[str]:
    return target.vacuum(
        retention_hours=hours,
        dry_run=dry,
        enforce_retention_duration=False,
        full=True,
        keep_versions=keep,
    )
