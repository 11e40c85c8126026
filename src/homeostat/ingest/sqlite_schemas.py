"""Schema versions in SQLite, beside the other records of a home."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Lock

from homeostat.declare.schema import EventSchema
from homeostat.ingest.schema_versions import (
    SchemaVersion,
    UnknownSchemaVersion,
    content_of,
    read_schema,
    schema_text,
)

__all__ = ["SqliteSchemas"]

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_versions (
    source TEXT NOT NULL, version INTEGER NOT NULL, content TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (source, version)) WITHOUT ROWID
"""


class SqliteSchemas:
    """A `SchemaRegistry` in one table; processes may register at once.

    >>> from homeostat.declare.schema import Field
    >>> schemas = SqliteSchemas(Path(":memory:"))
    >>> tap = EventSchema("Tap", (Field("tap", "string"),))
    >>> schemas.register("taps", tap), schemas.register("taps", tap)
    (1, 1)
    >>> schemas.get("taps", 1).schema == tap
    True
    """

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=30.0
        )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(_TABLE)

    def register(self, source: str, schema: EventSchema) -> int:
        """Put a schema in force; the one that already is keeps its version."""
        content = content_of(schema)
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                version, latest = self._db.execute(
                    "SELECT version, content FROM schema_versions WHERE source = ? "
                    "ORDER BY version DESC LIMIT 1",
                    (source,),
                ).fetchone() or (0, "")
                if latest != content:
                    version += 1
                    self._db.execute(
                        "INSERT INTO schema_versions VALUES (?, ?, ?, ?)",
                        (source, version, content, schema_text(schema)),
                    )
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
        return int(version)

    def list(self, source: str) -> tuple[SchemaVersion, ...]:
        """Return the versions of a source, the first one first."""
        rows = self._db.execute(
            "SELECT version, body FROM schema_versions WHERE source = ? ORDER BY version", (source,)
        )
        return tuple(SchemaVersion(source, version, read_schema(body)) for version, body in rows)

    def get(self, source: str, version: int) -> SchemaVersion:
        """Return one version; raise `UnknownSchemaVersion` if there is none."""
        versions = self.list(source)
        for found in versions:
            if found.version == version:
                return found
        raise UnknownSchemaVersion(source, version, [found.version for found in versions])

    def close(self) -> None:
        """Release the database."""
        self._db.close()
