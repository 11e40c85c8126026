"""The definitions that features were ever computed under, by their digests."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from homeostat.core.hashing import canonical_json
from homeostat.features.definitions import Definitions

__all__ = ["DefinitionLog"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS feature_definitions (
    digest TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID
"""


class DefinitionLog:
    """Keeps definitions in SQLite; what is kept never changes.

    >>> log = DefinitionLog(Path(":memory:"))
    >>> made = Definitions({}, {"taps": 0}, {"numpy": "2.3"})
    >>> log.keep(made)
    >>> log.find(made.digest) == made, log.find("0") is None
    (True, True)
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=30.0
        )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(_SCHEMA)

    def keep(self, definitions: Definitions) -> None:
        """Keep definitions, before the first prediction that names them is logged."""
        self._db.execute(
            "INSERT OR IGNORE INTO feature_definitions VALUES (?, ?)",
            (definitions.digest, canonical_json(definitions.as_json())),
        )

    def find(self, digest: str) -> Definitions | None:
        """Return the definitions with a digest, None if there are none."""
        row = self._db.execute(
            "SELECT body FROM feature_definitions WHERE digest = ?", (digest,)
        ).fetchone()
        return None if row is None else Definitions.from_json(json.loads(row[0]))

    def close(self) -> None:
        """Close the file."""
        self._db.close()
