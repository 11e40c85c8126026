"""Files that cannot be written to: what failed, where, and that nothing is lost by it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homeostat.core.errors import HomeostatError

__all__ = ["StorageFailed", "cannot_be_written", "room_of", "storage"]

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
SQLITE_SAYS = {"SQLITE_FULL", "SQLITE_READONLY", "SQLITE_READONLY_DIRECTORY"}


class StorageFailed(HomeostatError, OSError):
    """Nothing can be written for now: the disk is full, read-only or broken."""

    retryable = True

    def __init__(self, what: str, path: Path | str, error: Exception) -> None:
        if "://" in str(path):
            state = ""
            allowed = "an object store that answers, and lets us write; see whether it does"
        else:
            state = f" ({_state(Path(path))})"
            allowed = (
                "a file system with room that can be written to; make room there, or make it "
                "writable"
            )
        super().__init__(
            f"{what} {path}: {error}{state}; allowed: {allowed}. What is kept stays; what was "
            "refused is to be sent again; the work goes on by itself"
        )


@contextmanager
def storage(what: str, path: Path | str, *kinds: type[Exception]) -> Iterator[None]:
    """Raise `StorageFailed` for errors of these kinds in the block.

    >>> with storage("log", Path("/nowhere/log.db"), OSError):
    ...     open("/nowhere/log.db", "wb")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    homeostat.core.storage.StorageFailed: log /nowhere/log.db: ...
    """
    try:
        yield
    except kinds as error:
        if isinstance(error, StorageFailed):
            raise
        raise StorageFailed(what, path, error) from error


def cannot_be_written(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, says that a disk is full or read-only.

    >>> cannot_be_written(OSError(28, "No space left on device")), cannot_be_written(OSError(2, ""))
    (True, False)
    """
    while error is not None:
        if getattr(error, "sqlite_errorname", None) in SQLITE_SAYS:
            return True
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__
    return False


def room_of(path: Path) -> int:
    """Return how many bytes can still be written by us on the file system of a path."""
    found = os.statvfs(path)
    return 0 if found.f_flag & os.ST_RDONLY else found.f_bavail * found.f_frsize


def _state(path: Path) -> str:
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return "the file system is read-only"
    return f"{shutil.disk_usage(place).free / 1e6:,.1f} MB are free"
