"""Which requests were answered, when, and up to where in each log, as training asks it."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from homeostat.core.durations import Micros
from homeostat.declare.models import Label
from homeostat.declare.storage import prediction_table
from homeostat.declare.system import System
from homeostat.lake.tables import Lake
from homeostat.runtime.prediction_history import PredictionHistory
from homeostat.runtime.predictions import with_offsets
from homeostat.train.asked import asked

__all__ = ["Answers"]


class Answers:
    """Reads the prediction logs of a home.

    Args:
        system: the declarations.
        lake: where the logs of the models' predictions are.
        history: has those that the lake has not taken over yet, too; None for the lake alone.
    """

    def __init__(
        self, system: System, lake: Lake, history: PredictionHistory | None = None
    ) -> None:
        self._system, self._lake, self._history = system, lake, history
        names = [f"offset_{source.name}" for source in system.sources]
        self._columns = ["request_id", "at", *names]

    def tables(self, label: Label) -> tuple[str, ...]:
        """Return the tables of the models that were asked about the requests of a label."""
        source = label.predicts.name
        models = [one.name for one in self._system.models if one.label.predicts.name == source]
        served = {deployment.model.name for deployment in self._system.deployments}
        return tuple(
            prediction_table(name)
            for name in models
            if name in served or self._lake.version(prediction_table(name)) >= 0
        )

    def own(self, label: Label, model: str) -> str | None:
        """Return the table whose answers count before those of others; None if it is all one."""
        there = [table for table in self.tables(label) if self._lake.version(table) >= 0]
        own = prediction_table(model)
        return own if len(there) > 1 and own in there else None

    def asked(
        self,
        requests: pl.DataFrame,
        label: Label,
        own: str | None = None,
        until: Micros | None = None,
        tables: Mapping[str, int] | None = None,
    ) -> pl.DataFrame:
        """Return requests with the instants of their answers, as `homeostat.train.asked` says.

        Args:
            requests: events frame of `label.predicts`.
            label: the declared label.
            own: the table whose answers count before those of others.
            until: answers that were given then or later are not looked at.
            tables: the lake's tables to read, each at a version; None for all that there is now.
        """
        found: dict[bool, list[pl.DataFrame]] = {True: [], False: []}
        for table in self.tables(label) if tables is None else tables:
            version = None if tables is None else tables[table]
            found[table == own] += self._rows(table, until, version)
        answers = [pl.concat(found[which]) for which in (True, False) if found[which]]
        return asked(requests, label, answers) if answers else requests

    def _rows(self, table: str, until: Micros | None, version: int | None) -> list[pl.DataFrame]:
        if version is None and self._history is not None:
            name = table.removeprefix(prediction_table(""))
            return list(self._history.frames(name, None, until, self._columns))
        if self._lake.version(table) < 0 or (version is not None and version < 0):
            return []
        stored = set(self._lake.names(table))
        there = [name for name in self._columns if name in stored]
        frame = self._lake.read(table, there, until, version=version)
        return [with_offsets(frame, self._columns)]
