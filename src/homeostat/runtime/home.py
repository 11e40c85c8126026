"""A home: the folder that holds everything a system knows, and the parts that keep it."""

from __future__ import annotations

from pathlib import Path

from homeostat.adapters.lmdb import LmdbStore
from homeostat.declare.system import System
from homeostat.ingest.deadletters import DeadLetters
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.lake.tables import Lake
from homeostat.runtime.journal import Journal
from homeostat.runtime.predictions import PredictionStore
from homeostat.train.registry import Registry

__all__ = ["Home"]


class Home:
    """Opens the log, lake, online store, registry, journal and prediction log of one system.

    Layout: `log.db` (events), `predictions.db`, `meta.db` (journal, registry, dead letters),
    `lake/` (Delta tables), `online/` (LMDB), `packages/` (models by content hash). `sync=False`
    leaves the flushing of the online store to the operating system: it survives the end of the
    process, not of the machine.
    """

    def __init__(self, folder: Path, system: System, *, sync: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.system = folder, system
        self.log = SqliteLog(folder / "log.db")
        self.lake = Lake(folder / "lake")
        self.store = LmdbStore(folder / "online", sync=sync)
        self.letters = DeadLetters(folder / "meta.db")
        self.journal = Journal(folder / "meta.db")
        self.predictions = PredictionStore(folder / "predictions.db")
        self.registry = Registry(folder / "meta.db", folder / "packages")

    def close(self) -> None:
        """Close every file."""
        for part in (
            self.log, self.store, self.letters, self.journal, self.predictions, self.registry
        ):  # fmt: skip
            part.close()
