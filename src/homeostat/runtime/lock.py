"""One process at a time writes to a home; any number may look."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from homeostat.core.errors import HomeostatError
from homeostat.core.storage import storage

__all__ = ["HomeBusy", "HomeLock"]

FILE, OWNER = "lock.db", "lock.pid"


class HomeBusy(HomeostatError):
    """Another process writes to the home."""

    retryable = True

    def __init__(self, folder: Path, owner: str) -> None:
        self.owner = owner
        super().__init__(
            f"home {folder}: {owner} is writing to it; allowed: one writer at a time, and any "
            "number of commands that only look; stop that one first, or send events and requests "
            "to its HTTP address"
        )


class HomeLock:
    """Held by the one process that writes to a home; the system lets go of it when that ends.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> lock = HomeLock(folder)
    >>> owner_of(folder) == f"process {os.getpid()}"
    True
    >>> lock.release()
    >>> owner_of(folder) is None
    True
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage("home", folder, OSError, sqlite3.OperationalError):
            folder.mkdir(parents=True, exist_ok=True)
            self._database: sqlite3.Connection | None = _locked(folder)
        if self._database is None:
            raise HomeBusy(folder, owner_of(folder) or "another process")
        try:
            with storage("home", folder, OSError):
                (folder / OWNER).write_text(str(os.getpid()))
        except BaseException:
            self._database.close()
            raise

    def release(self) -> None:
        """Let others write; releasing twice changes nothing."""
        if self._database is not None:
            (self._folder / OWNER).unlink(missing_ok=True)
            self._database.close()
            self._database = None


def owner_of(folder: Path) -> str | None:
    """Return which process writes to a home, None if none does."""
    if not (folder / FILE).exists():
        return None
    database = _locked(folder)
    if database is not None:
        database.close()
        return None
    try:
        return f"process {int((folder / OWNER).read_text())}"
    except (OSError, ValueError):
        return "another process"


def _locked(folder: Path) -> sqlite3.Connection | None:
    """Return a connection that holds the lock, or None if another one does."""
    database = sqlite3.connect(folder / FILE, isolation_level=None, timeout=0)
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        database.close()
        return None
    return database
