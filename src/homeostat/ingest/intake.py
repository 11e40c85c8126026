"""Intake: log records become accepted events, each exactly once, or dead letters with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.core.durations import Micros, format_duration
from homeostat.core.errors import DeclarationError
from homeostat.core.row_threads import RowThreads
from homeostat.declare.schema import EventSchema
from homeostat.declare.sources import EventSource
from homeostat.ingest.columns import INSTANT, events_schema
from homeostat.ingest.earlier import EarlierReading
from homeostat.ingest.event_columns import ColumnDecoder, EventColumns
from homeostat.ingest.identities import Identities, identities
from homeostat.ingest.log import LogBatch
from homeostat.ingest.payloads import Payloads
from homeostat.ingest.push import is_ahead
from homeostat.ingest.refusals import refusal_of
from homeostat.ingest.seen import CONFLICT, DUPLICATE, FRESH, Remembered, SeenIds, remembered

if TYPE_CHECKING:
    from homeostat.core.store import Reader, Writer

__all__ = ["DeadLetter", "Intake", "Taken"]

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that is no event: where it is, why, and its bytes; `known` in microseconds."""

    source: str
    offset: int
    known: Micros
    reason: str
    detail: str
    payload: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What became of a batch; accepted + duplicates + len(rejected) is its length.

    `too_late` of the accepted events are in the frame, marked, and count in no feature.
    """

    events: pl.DataFrame
    rejected: list[DeadLetter]
    duplicates: int
    too_late: int
    accepted: int


class Intake:
    """Validates, clocks and deduplicates the records of one source.

    `take` is a function of the batch and of what `seen` holds, and taking a batch again accepts
    the same rows again: an id is remembered with the offset that brought it first.

    Args:
        source: the declared source.
        earlier: the schemas that the source had before, under which an event may have been
            remembered: it is the same event if one of them finds it so.
        threads: what runs the loops over payloads; what comes out does not depend on it.
    """

    def __init__(
        self,
        source: EventSource,
        earlier: Sequence[EventSchema] = (),
        threads: RowThreads | None = None,
    ) -> None:
        if source.revisions:
            raise DeclarationError(
                f"event source {source.name!r}",
                "revisions=True, which this release cannot fold",
                "revisions=False: a second content under one id is quarantined as a conflict",
                "send the correction as an event with an id of its own",
            )
        self._source = source
        self._decoder = ColumnDecoder(source.schema, threads)
        self._earlier = tuple(EarlierReading(schema, self._decoder) for schema in earlier)
        self._schema = events_schema(source)
        self._seen = SeenIds(source.name, source.dedup_us)

    def take(self, batch: LogBatch, seen: Writer) -> Taken:
        """Return the batch's events and dead letters, and remember the ids in `seen`."""
        payloads = Payloads.of(batch.payloads)
        columns = self._decoder.decode(payloads)
        known, offsets = batch.known, batch.offsets
        event_times = columns.numbers(self._source.event_time)
        usable = columns.valid.copy()
        rejected = [self._letter(batch, f.place, f.reason, f.detail) for f in columns.faults]

        def refuse(places: Int64s, reason: str, details: Sequence[str]) -> None:
            usable[places] = False
            for place, detail in zip(places.tolist(), details, strict=True):
                rejected.append(self._letter(batch, place, reason, detail))

        ahead = np.flatnonzero(usable & is_ahead(self._source, event_times, known))
        by = (event_times[ahead] - known[ahead]).tolist()
        refuse(ahead, "future", [f"{format_duration(micros)} ahead" for micros in by])
        ids = identities(columns, self._source, self._decoder.threads)
        empty = np.flatnonzero(usable & ids.empty)
        refuse(empty, f"invalid_field:{self._source.event_id}", ["the id is empty"] * len(empty))
        verdicts = self._verdicts(columns, payloads, np.flatnonzero(usable), ids, batch, seen)
        conflicts = np.flatnonzero(usable & (verdicts == CONFLICT))
        detail = "the id came before with other content"
        refuse(conflicts, "conflict", [detail] * len(conflicts))
        keep = np.flatnonzero(usable & (verdicts == FRESH))
        late = known[keep] - event_times[keep] > self._source.lateness_us
        system = [
            pl.Series("_offset", offsets[keep]),
            pl.Series("_known_time", known[keep]).cast(INSTANT),
            pl.Series("_event_time", np.minimum(event_times, known)[keep]).cast(INSTANT),
            ids.series(keep).alias("_id"),
            pl.Series("_tie", ids.ties[keep]),
            pl.Series("_too_late", late),
        ]
        rejected.sort(key=lambda letter: letter.offset)
        fields = [columns.series(field.name, keep) for field in self._source.schema.fields]
        return Taken(
            events=pl.DataFrame([*fields, *system], schema=self._schema),
            rejected=rejected,
            duplicates=int(np.count_nonzero(usable & (verdicts == DUPLICATE))),
            too_late=int(np.count_nonzero(late)),
            accepted=len(keep),
        )

    def remembered(
        self, reader: Reader, event_ids: Sequence[str], at: Micros
    ) -> dict[str, Remembered]:
        """Return by which records a snapshot knows ids: an event at `at` with one is not fresh."""
        known = [name for name in event_ids if self._seen.may_hold(reader, name)]
        return remembered(reader, self._source.name, known, at, self._source.dedup_us)

    def _letter(self, batch: LogBatch, place: int, reason: str, detail: str) -> DeadLetter:
        payload = bytes(batch.payloads[place])
        refusal = refusal_of(payload)
        return DeadLetter(
            self._source.name,
            int(batch.offsets[place]),
            int(batch.known[place]),
            reason,
            detail,
            payload if refusal is None else refusal.received,
        )

    def _verdicts(
        self, columns: EventColumns, payloads: Payloads, usable: Int64s, ids: Identities,
        batch: LogBatch, seen: Writer,
    ) -> npt.NDArray[np.int8]:  # fmt: skip
        """Tell fresh rows from duplicates and conflicts."""
        contents = self._decoder.contents(columns)
        judged = self._seen.judge(
            seen, ids.digests[usable], contents[usable], batch.offsets[usable], batch.known[usable]
        )
        verdicts = np.full(len(columns), FRESH, np.int8)
        verdicts[usable] = judged.verdicts
        if self._earlier:
            for rank in np.flatnonzero(judged.verdicts == CONFLICT).tolist():
                place = int(usable[rank])
                payload, before = payloads[place : place + 1], int(judged.remembered[rank])
                if any(e.is_same(payload, before, int(contents[place])) for e in self._earlier):
                    verdicts[place] = DUPLICATE
        return verdicts
