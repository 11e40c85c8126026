"""Numbered packages of each model: rows in SQLite, content in folders."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.train.package import Package, PackageCorrupt, keep_former

__all__ = ["Registered", "Registry", "UnknownVersion"]

_SCHEMA = """
create table if not exists versions (
    model text not null,
    version integer not null,
    hash text not null,
    at integer not null,
    primary key (model, version),
    unique (model, hash, at)
) strict
"""


class UnknownVersion(HomeostatError, LookupError):
    """A version that was never registered."""

    def __init__(self, model: str, version: int, known: tuple[int, ...]) -> None:
        self.model, self.version, self.known = model, version, known
        listed = ", ".join(map(str, known)) or "none are registered"
        super().__init__(
            f"registry: model {model!r} has no version {version}; allowed: {listed}; list them "
            "with `homeostat models`."
        )


@dataclass(frozen=True, slots=True)
class Registered:
    """One version of a model: its content hash, and the instant it was registered at."""

    model: str
    version: int
    hash: str
    at: Micros


class Registry:
    """Keeps every trained package; registering the same one again changes nothing.

    One process writes, any may read. A version's row is committed after its folder is complete, so
    a crash in between leaves a folder without a row, which the next attempt overwrites.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self._folder = folder
        self._database = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=30.0
        )
        self._database.execute("pragma journal_mode=wal")
        self._database.execute("pragma synchronous=full")
        self._database.execute(_SCHEMA)

    def register(self, package: Package, at: Micros) -> int:
        """Keep a package and return its version: 1, 2, 3 ... per model.

        Idempotent by (model, hash, `at`): the same package of the same instant keeps its version.
        """
        self._database.execute("begin immediate")
        try:
            version = self._known_version(package, at)
            if version is None:
                version = self._next_version(package.name)
                package.save(self._path(package.name, version))
                self._database.execute(
                    "insert into versions values (?, ?, ?, ?)",
                    (package.name, version, package.hash, at),
                )
            self._database.execute("commit")
        finally:
            if self._database.in_transaction:
                self._database.execute("rollback")
        return version

    def load(self, model: str, version: int) -> Package:
        """Return a package, proven to be the registered one.

        Raises:
            UnknownVersion: never registered.
            PackageCorrupt: its folder is damaged, or holds another package.
        """
        found = next((r for r in self.list(model) if r.version == version), None)
        if found is None:
            raise UnknownVersion(model, version, tuple(r.version for r in self.list(model)))
        folder = self._path(model, version)
        package = Package.load(folder)
        if package.hash != found.hash:
            raise PackageCorrupt(folder / "manifest.json", f"hash {package.hash}", found.hash)
        return package

    def keep_former(
        self, model: str, features: tuple[str, ...], manifest: Mapping[str, Any]
    ) -> None:
        """Keep what was declared beside the packages of these features that do not say it."""
        for one in self.list(model):
            try:
                package = self.load(model, one.version)
            except PackageCorrupt:  # it is told of where it is loaded to serve
                continue
            if package.features == features and not package.declared:
                keep_former(self._path(model, one.version), manifest)

    def list(self, model: str | None = None) -> tuple[Registered, ...]:
        """Return the versions of one model, or of all, by model and version."""
        rows = self._database.execute(
            "select model, version, hash, at from versions where ?1 is null or model = ?1 "
            "order by model, version",
            (model,),
        )
        return tuple(Registered(*row) for row in rows)

    def close(self) -> None:
        """Release the database."""
        self._database.close()

    def _known_version(self, package: Package, at: Micros) -> int | None:
        row = self._database.execute(
            "select version from versions where model = ? and hash = ? and at = ?",
            (package.name, package.hash, at),
        ).fetchone()
        return None if row is None else int(row[0])

    def _next_version(self, model: str) -> int:
        row = self._database.execute(
            "select coalesce(max(version), 0) + 1 from versions where model = ?", (model,)
        ).fetchone()
        return int(row[0])

    def _path(self, model: str, version: int) -> Path:
        return self._folder / f"{quote(model, safe='')}@{version}"
