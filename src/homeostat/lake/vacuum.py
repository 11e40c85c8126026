"""Files that no version in use needs are deleted; the versions that are in use stay whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from homeostat.core.errors import HomeostatError

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["LakeVersionGone", "Vacuumed", "check_is_there", "vacuum_table"]


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
    target: DeltaTable, folder: Path, keep: Collection[int], hours: int, dry: bool
) -> Vacuumed:
    """Delete the files that neither the current version nor one of `keep` has.

    Args:
        target: the table.
        folder: where its files are.
        keep: versions that stay readable.
        hours: files that were removed from the table, or written and never committed, less than
            so long ago stay.
        dry: only say what would be deleted.
    """
    known = sorted(version for version in set(keep) if 0 <= version <= target.version())
    listed = _deleted(target, known, hours, dry=True)
    sizes = [found.stat().st_size for found in (folder / name for name in listed) if found.exists()]
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


def check_is_there(table: str, version: int, files: Sequence[str]) -> None:
    """Raise `LakeVersionGone` if a file of a version was deleted."""
    missing = sum(not Path(file).exists() for file in files)
    if missing:
        raise LakeVersionGone(table, version, missing, len(files))
