"""What a home can testify about its predictions, for the skew audit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.system import System
from homeostat.declare.views import FeatureView
from homeostat.features.assemble import Features
from homeostat.features.definitions import Definitions
from homeostat.features.evidence import LogEvents
from homeostat.features.folded import folded_offset
from homeostat.features.logged import differ
from homeostat.features.offline import point_in_time
from homeostat.features.read import ViewReader
from homeostat.ingest.intake import Intake
from homeostat.ingest.log import LogDamaged, LogTrimmed
from homeostat.lake.raw import RawRecords
from homeostat.monitor.logged import logged_features
from homeostat.runtime.home import Home
from homeostat.runtime.reading import Reading, Scratch
from homeostat.runtime.received import Received
from homeostat.train.servable import Servable

__all__ = ["HomeEvidence"]


class HomeEvidence:
    """Answers from what a home received, its online store, its dead letters and its registry.

    Nothing in the home is changed.
    """

    def __init__(self, system: System, home: Home) -> None:
        self._system, self._home = system, home
        self._servables: dict[tuple[str, int], Servable | None] = {}

    def definitions(self, digest: str) -> Definitions | None:
        """Return the definitions that a prediction carries the digest of, None if not kept."""
        return self._home.definitions.find(digest)

    def events(self, source: str, known_from: Micros | None, until: int) -> LogEvents | None:
        """Decode what was received again, with the ids that the online store remembers."""
        try:
            return self._decoded(source, known_from, until)
        except (LogDamaged, LogTrimmed):
            return None

    def _decoded(self, source: str, known_from: Micros | None, until: int) -> LogEvents:
        home, declared = self._home, self._system.source(source)
        received = Received(source, home.log, RawRecords(home.lake, source))
        earlier = [version.schema for version in home.schemas.list(source)]
        intake = Intake(declared, earlier)
        frames, refused = [], set[int]()
        with home.store.reader() as reader:
            seen = Scratch(reader)
            # Ids that are not folded yet must be met in their order, to know the first of each.
            begin = min(received.first_known(known_from), folded_offset(reader, source) + 1)
            for batch in received.batches(begin, until):
                taken = intake.take(batch, seen)
                frames.append(taken.events)
                refused |= {letter.offset for letter in taken.rejected}
            if not frames:
                end = home.log.end(source).next_offset
                frames = [intake.take(home.log.read(source, end - 1, 0), seen).events]
        letters = self._letters(source) if refused else set[int]()
        return LogEvents(pl.concat(frames), frozenset(refused - letters))

    def _letters(self, source: str) -> set[int]:
        return {found.letter.offset for found in self._home.letters.list(source, limit=-1)}

    @cached_property
    def _reading(self) -> Reading:
        return Reading(self._system, self._home)

    def live_agrees(self, view: FeatureView, key: Sequence[Any]) -> bool | None:
        """Return whether the live record of an entity has the lake's values now."""
        source = view.source.name
        with self._home.store.reader() as reader:
            folded = folded_offset(reader, source)
            if folded < 0:
                return None
            at = int(self._home.log.read(source, folded - 1, 1).known[0]) + 1
            live = ViewReader(view).read(reader, [tuple(key)], at)
        events = self._reading.events(source).filter(pl.col("_offset") <= folded)
        spine = pl.DataFrame(
            {
                **dict(zip(view.entity.keys, ([part] for part in key), strict=True)),
                "at": pl.Series([at]).cast(pl.Datetime("us", "UTC")),
            }
        )
        lake = point_in_time(view, events, spine, offsets=np.array([folded]))
        return not differ(live + 0.0, lake + 0.0).any()

    def was_given(self, predictions: pl.DataFrame) -> list[bool | None]:
        """Return whether the logged features give the logged score, None where no model did."""
        found: list[bool | None] = [None] * predictions.height
        rows = predictions.with_row_index("_row").filter(pl.col("version").is_not_null())
        for part in rows.partition_by("model", "version"):
            servable = self._servable(part["model"][0], int(part["version"][0]))
            if servable is None:
                continue
            matrix, texts = logged_features(part, servable.names, tuple(servable.package.encodings))
            if len(matrix) < part.height:  # they are of another list of features
                continue
            same = servable.score(Features(matrix, texts)) == part["score"].to_numpy()
            for row, equal in zip(part["_row"].to_list(), same.tolist(), strict=True):
                found[row] = equal
        return found

    def _servable(self, model: str, version: int) -> Servable | None:
        key = (model, version)
        if key not in self._servables:
            try:
                self._servables[key] = Servable(self._home.registry.load(model, version))
            except (HomeostatError, OSError):  # a damaged package cannot testify
                self._servables[key] = None
        return self._servables[key]


def _bits(values: Sequence[float]) -> bytes:
    return np.asarray(values, np.float64).tobytes()
