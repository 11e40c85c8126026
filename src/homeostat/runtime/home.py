"""A home: the folder that holds everything a system knows, and the parts that keep it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from homeostat.adapters.lmdb import LmdbStore
from homeostat.declare.models import Model
from homeostat.declare.storage import AT_HOME, Storage
from homeostat.declare.system import System
from homeostat.ingest.columns import events_schema
from homeostat.ingest.deadletters import DeadLetters
from homeostat.ingest.log import EventLog
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.ingest.sqlite_schemas import SqliteSchemas
from homeostat.lake.tiered import TieredLake
from homeostat.runtime.definitions import DefinitionLog
from homeostat.runtime.former import keep_declared
from homeostat.runtime.journal import Journal
from homeostat.runtime.log_place import own_log
from homeostat.runtime.prediction_history import PredictionHistory, prediction_table
from homeostat.runtime.same_lake import Places, places_of
from homeostat.serve.predictions import prediction_schema
from homeostat.train.registry import Registry

__all__ = ["Home", "lake_of", "prediction_sources", "prediction_table", "sort_keys"]


class Home:
    """Opens the log, lake, online store, registry, journal and prediction log of one system.

    Layout: `log.db` (events), `predictions.db`, `meta.db` (journal, registry, dead letters,
    definitions), `lake/` (Delta tables), `online/` (LMDB), `packages/` (models by content hash).
    `sync=False` leaves the flushing of the online store to the operating system: it survives the
    end of the process, not of the machine. `log` is a log elsewhere instead of `log.db`; the home
    closes it. `storage` says where the lake is, if not in the home.
    """

    def __init__(
        self,
        folder: Path,
        system: System,
        *,
        sync: bool = True,
        log: EventLog | None = None,
        storage: Storage = AT_HOME,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.system, self.storage = folder, system, storage
        self.log: EventLog = SqliteLog(own_log(folder)) if log is None else log
        self.lake = lake_of(places_of(folder, storage), system)
        self.schemas = SqliteSchemas(folder / "meta.db")
        self.store = LmdbStore(folder / "online", sync=sync)
        self.letters = DeadLetters(folder / "meta.db")
        self.journal = Journal(folder / "meta.db")
        self.definitions = DefinitionLog(folder / "meta.db")
        self.predictions = PredictionHistory(folder / "predictions.db", self.lake)
        self.registry = Registry(folder / "meta.db", folder / "packages")
        keep_declared(folder, self.registry)

    def close(self) -> None:
        """Close every file."""
        for part in (
            self.log, self.store, self.letters, self.journal, self.predictions, self.registry,
            self.schemas, self.definitions,
        ):  # fmt: skip
            part.close()


def lake_of(places: Places, system: System) -> TieredLake:
    """Return the lake of a home, which may be read beside the process that runs it."""
    events = {source.name: source.schema for source in system.sources}
    return TieredLake(places.hot, places.cold, _schemas(system), events, sort_keys(system))


def _schemas(system: System) -> dict[str, pl.Schema]:
    """Return the columns of every table a system writes."""
    schemas = {source.name: events_schema(source) for source in system.sources}
    for deployment in system.deployments:
        sources = prediction_sources(system, deployment.model)
        name = prediction_table(deployment.model.name)
        schemas[name] = pl.Schema(prediction_schema(sources))
    return schemas


def sort_keys(system: System) -> dict[str, tuple[str, ...]]:
    """Return by which entity the events of each source lie together: that of its first view."""
    found: dict[str, tuple[str, ...]] = {}
    for view in system.views:
        found.setdefault(view.source.name, tuple(view.entity.keys))
    return found


def prediction_sources(system: System, model: Model) -> tuple[str, ...]:
    """Return the sources whose offsets the predictions of a model record."""
    return tuple(sorted({view.source.name for view in system.views_of(model)}))
