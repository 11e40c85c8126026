"""The definitions that features were ever computed under, by their digests."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homeostat.core.hashing import canonical_json
from homeostat.features.definitions import Definitions

__all__ = ["DefinitionLog"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS feature_definitions (
    digest TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feature_manifests (
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
        self._db.executescript(_SCHEMA)

    def keep(self, definitions: Definitions, manifest: Mapping[str, Any] | None = None) -> None:
        """Keep definitions, before the first prediction that names them is logged.

        `manifest` is what computes the features again, whatever is declared then.
        """
        self._db.execute(
            "INSERT OR IGNORE INTO feature_definitions VALUES (?, ?)",
            (definitions.digest, canonical_json(definitions.as_json())),
        )
        if manifest is not None:
            self._db.execute(
                "INSERT OR IGNORE INTO feature_manifests VALUES (?, ?)",
                (definitions.digest, canonical_json(manifest)),
            )

    def manifest(self, digest: str) -> Mapping[str, Any] | None:
        """Return the manifest of the features with a digest, None if there is none."""
        row = self._db.execute(
            "SELECT body FROM feature_manifests WHERE digest = ?", (digest,)
        ).fetchone()
        found: Mapping[str, Any] | None = None if row is None else json.loads(row[0])
        return found

    def find(self, digest: str) -> Definitions | None:
        """Return the definitions with a digest, None if there are none."""
        row = self._db.execute(
            "SELECT body FROM feature_definitions WHERE digest = ?", (digest,)
        ).fetchone()
        return None if row is None else Definitions.from_json(json.loads(row[0]))

    def close(self) -> None:
        """Close the file."""
        self._db.close()
