"""The fold worker: log records become events, and events become lake rows and live features.

The online store keeps, in the transaction that folds them, the offset of the last record folded
from each source. The lake keeps its own in the Delta log. Either may be behind the other after a
crash; each catches up from the log. One thread folds: whether a record is an event, and what a
record of the store becomes, depends on those before it. What does not is done beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.core.store import Reader, Writer
from homeostat.declare.sources import EventSource
from homeostat.declare.system import System
from homeostat.features.fold import Prepared, ViewFold
from homeostat.features.folded import folded_known, folded_offset, note_folded, note_known
from homeostat.features.lateness import marked_for
from homeostat.ingest.intake import Intake
from homeostat.runtime.lake_sink import LakeSink
from homeostat.runtime.tallies import add_tallies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from homeostat.declare.views import FeatureView
    from homeostat.ingest.deadletters import DeadLetters
    from homeostat.ingest.log import EventLog
    from homeostat.ingest.schema_versions import SchemaRegistry
    from homeostat.lake.tables import Lake

__all__ = ["CHUNK", "Counts", "FoldWorker", "Pending"]

CHUNK = 400_000
"""Log records that are decoded at most at once: bounds the memory of a backlog.

A batch is what has come since the last one, so its size adapts to the load: a few events when it is
low, so many when the worker is behind, and then each costs least.
"""

FEWEST, WRITTEN_BYTES = 10_000, 384 << 20
"""A batch is made smaller, down to so many records, if the one before wrote more than so many bytes
into the online store: these are in memory until they are committed."""


@dataclass
class Counts:
    """What became of the records of one source; `notes` are what a person should know of them."""

    accepted: int = 0
    duplicates: int = 0
    too_late: int = 0
    rejected: int = 0
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def total(self) -> int:
        """How many records there were."""
        return self.accepted + self.duplicates + self.rejected

    def as_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return {
            "accepted": self.accepted, "duplicates": self.duplicates, "too_late": self.too_late,
            "rejected": self.rejected,
        }  # fmt: skip

    def add(self, other: Counts) -> None:
        """Add the counts of another stretch of the log."""
        self.accepted += other.accepted
        self.duplicates += other.duplicates
        self.too_late += other.too_late
        self.rejected += other.rejected


@dataclass
class Pending:
    """Decoded records of one source that wait to be folded, in log order."""

    source: EventSource
    events: pl.DataFrame
    known: npt.NDArray[np.int64]
    log_offsets: npt.NDArray[np.int64]
    log_known: npt.NDArray[np.int64]
    prepared: tuple[tuple[ViewFold, Prepared], ...]
    counts: Counts
    rejected_known: list[int]
    position: int = field(default=0)

    def advance(self, writer: Writer, end: int, log_end: int) -> None:
        """Fold the events up to position `end`; `log_end` records of the log are then read."""
        if end > self.position:
            for fold, prepared in self.prepared:
                fold.apply(writer, prepared, self.position, end)
            self.position = end
        if log_end:
            note_folded(
                writer,
                self.source.name,
                int(self.log_offsets[log_end - 1]),
                int(self.log_known[log_end - 1]),
            )

    def ends(
        self, instants: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return, per instant, how many events and how many records are known strictly before."""
        return (
            np.searchsorted(self.known, instants, side="left"),
            np.searchsorted(self.log_known, instants, side="left"),
        )

    def finish(self, writer: Writer) -> None:
        """Fold everything that is left, and count the records by the hour."""
        if len(self.log_known):
            add_tallies(writer, self.source.name, self.log_known, self.rejected_known)
        self.advance(writer, len(self.known), len(self.log_offsets))


class FoldWorker:
    """Takes records from the log and hands them to the two sinks."""

    def __init__(
        self,
        system: System,
        log: EventLog,
        lake: Lake,
        letters: DeadLetters,
        schemas: SchemaRegistry,
        kept: Sequence[FeatureView] = (),
    ) -> None:
        self._log, self._letters = log, letters
        self._views = system.views
        self.sources, self.lake = system.sources, LakeSink(lake, system.sources)
        self._intakes = {
            source.name: Intake(
                source,
                [version.schema for version in schemas.list(source.name)],
            )
            for source in system.sources
        }
        self._folds: dict[str, tuple[ViewFold, ...]] = {}
        self.follow(kept)
        self._limits = dict.fromkeys((s.name for s in system.sources), CHUNK)

    def follow(self, kept: Sequence[FeatureView]) -> None:
        """Fold into these definitions beside the declared views, from the next batch on.

        The caller sees to it that their state holds all that was folded so far.
        """
        had = {fold.view: fold for folds in self._folds.values() for fold in folds}
        views = (*self._views, *kept)
        self._folds = {
            source.name: tuple(
                had.get(v) or ViewFold(v) for v in views if v.source.name == source.name
            )
            for source in self.sources
        }

    def intake(self, source: str) -> Intake:
        """Return the intake of a source."""
        return self._intakes[source]

    def carry_over(self, writer: Writer) -> None:
        """Remember ids anew that an earlier release kept one by one: from the log, as they came."""
        for source in self.sources:
            former = [key for key, _ in writer.scan(b"seen/" + source.name.encode() + b"/")]
            if not former:
                continue
            done, folded = -1, folded_offset(writer, source.name)
            while done < folded:
                batch = self._log.read(source.name, done, min(CHUNK, folded - done))
                self._intakes[source.name].take(batch, writer)
                done = int(batch.offsets[-1])
            for key in former:
                writer.delete(key)

    def resume(self, writer: Writer) -> None:
        """Bring back what was folded and not yet in the lake when the last process ended."""
        for source in self.sources:
            done = self.lake.taken_to(source.name)
            folded = folded_offset(writer, source.name)
            if folded >= 0 and folded_known(writer, source.name) < 0:  # an earlier release's store
                known = int(self._log.read(source.name, folded - 1, 1).known[-1])
                note_known(writer, source.name, known)
            while done < folded:
                batch = self._log.read(source.name, done, min(CHUNK, folded - done))
                taken = self._intakes[source.name].take(batch, writer)
                self.lake.add(source.name, taken.events, int(batch.offsets[-1]))
                done = int(batch.offsets[-1])

    def load(
        self,
        writer: Writer,
        source: EventSource,
        known_before: int | None,
        limit: int | None = None,
    ) -> Pending:
        """Decode the next records of a source that are known before an instant (None: all)."""
        after, fitting = folded_offset(writer, source.name), self._limit(source)
        batch = self._log.read(source.name, after, limit or fitting, known_before)
        taken = self._intakes[source.name].take(batch, writer)
        self._letters.add(taken.rejected)
        if len(batch.offsets):
            self.lake.add(source.name, taken.events, int(batch.offsets[-1]))
        return Pending(
            source=source,
            events=taken.events,
            known=taken.events["_known_time"].dt.epoch("us").to_numpy(),
            log_offsets=batch.offsets,
            log_known=batch.known,
            prepared=tuple(
                (f, f.prepare(marked_for(f.view, taken.events, source)))
                for f in self._folds[source.name]
            ),
            counts=Counts(taken.accepted, taken.duplicates, taken.too_late, len(taken.rejected)),
            rejected_known=[letter.known for letter in taken.rejected],
        )

    def _limit(self, source: EventSource) -> int:
        """Return how many records are decoded at once, by what the last batch has written."""
        limit = self._limits[source.name]
        written = sum(fold.written() for fold in self._folds[source.name])
        if written > WRITTEN_BYTES:
            limit = max(limit * WRITTEN_BYTES // written, FEWEST)
        elif written < WRITTEN_BYTES // 2:
            limit = min(2 * limit, CHUNK)
        self._limits[source.name] = limit
        return limit

    def last_known(self, reader: Reader, source: str) -> int | None:
        """Return when the last folded record of a source became known, None before the first."""
        folded = folded_offset(reader, source)
        if folded < 0:
            return None
        return int(self._log.read(source, folded - 1, 1).known[-1])
