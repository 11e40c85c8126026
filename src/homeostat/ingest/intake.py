"""Intake: log records become accepted events, each exactly once, or dead letters with a reason."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.core.durations import Micros, format_duration
from homeostat.core.errors import DeclarationError
from homeostat.core.ids import id_digests
from homeostat.declare.schema import EventSchema
from homeostat.declare.sources import EventSource
from homeostat.ingest.columns import column, events_schema, instants
from homeostat.ingest.decode import PayloadDecoder
from homeostat.ingest.log import LogBatch
from homeostat.ingest.refusals import refusal_of

if TYPE_CHECKING:
    from homeostat.core.store import Writer

__all__ = ["DeadLetter", "Intake", "Taken"]

Int64s = npt.NDArray[np.int64]

_SLICE = 8_192
"""Records that are worked on at once: as Python objects they still fit the processor's cache."""

_FRESH, _DUPLICATE, _CONFLICT = 0, 1, 2


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
        bounds: by field, the magnitude that a number must stay below to be aggregated exactly.
        earlier: the schemas that the source had before, under which an event may have been
            remembered: it is the same event if one of them finds it so.
    """

    def __init__(
        self,
        source: EventSource,
        bounds: Mapping[str, float] | None = None,
        earlier: Sequence[EventSchema] = (),
    ) -> None:
        if source.revisions:
            raise DeclarationError(
                f"event source {source.name!r}",
                "revisions=True, which this release cannot fold",
                "revisions=False: a second content under one id is quarantined as a conflict",
                "send the correction as an event with an id of its own",
            )
        self._source, self._bounds = source, dict(bounds or {})
        self._decoder = PayloadDecoder(source.schema)
        self._earlier = tuple(PayloadDecoder(schema) for schema in earlier)
        self._schema = events_schema(source)
        self._prefix = b"seen/" + source.name.encode() + b"/"

    def take(self, batch: LogBatch, seen: Writer) -> Taken:
        """Return the batch's events and dead letters, and remember the ids in `seen`."""
        parts = [
            self._take(_part(batch, begin, begin + _SLICE), seen)
            for begin in range(0, max(len(batch), 1), _SLICE)
        ]
        if len(parts) == 1:
            return parts[0]
        return Taken(
            events=pl.concat([part.events for part in parts]),
            rejected=[letter for part in parts for letter in part.rejected],
            duplicates=sum(part.duplicates for part in parts),
            too_late=sum(part.too_late for part in parts),
            accepted=sum(part.accepted for part in parts),
        )

    def _take(self, batch: LogBatch, seen: Writer) -> Taken:
        decoded = self._decoder.decode(batch.payloads)
        rejected = [
            self._letter(batch, fault.place, fault.reason, fault.detail) for fault in decoded.faults
        ]
        rows = decoded.rows
        places = np.asarray(decoded.places, dtype=np.int64)
        ids = list(map(attrgetter(self._source.event_id), rows))
        if self._source.schema.field(self._source.event_id, "intake").kind == "integer":
            ids = list(map(str, ids))
        event_times = instants(list(map(attrgetter(self._source.event_time), rows)))
        known, offsets = batch.known[places], batch.offsets[places]

        usable = np.ones(len(rows), dtype=np.bool_)
        for i in np.flatnonzero(event_times > known + self._source.clock_skew_us).tolist():
            usable[i] = False
            ahead = format_duration(int(event_times[i] - known[i]))
            rejected.append(self._letter(batch, int(places[i]), "future", f"{ahead} ahead"))
        if "" in ids:
            reason = f"invalid_field:{self._source.event_id}"
            for i in [i for i, name in enumerate(ids) if name == "" and usable[i]]:
                usable[i] = False
                rejected.append(self._letter(batch, int(places[i]), reason, "the id is empty"))
        for place, detail, reason in self._out_of_range(rows):
            if usable[place]:
                usable[place] = False
                rejected.append(self._letter(batch, int(places[place]), reason, detail))
        ties = id_digests(ids)
        verdicts = self._verdicts(rows, np.flatnonzero(usable), ties, offsets, seen)
        for i in np.flatnonzero(usable & (verdicts == _CONFLICT)).tolist():
            remembered = seen.get(self._prefix + int(ties[i]).to_bytes(8, "big", signed=True))
            if self._was(batch.payloads[int(places[i])], rows[i], (remembered or b"")[:8]):
                verdicts[i] = _DUPLICATE
                continue
            rejected.append(
                self._letter(
                    batch, int(places[i]), "conflict", "the id came before with other content"
                )
            )
        keep = np.flatnonzero(usable & (verdicts == _FRESH))
        late = known - event_times > self._source.lateness_us
        system = {
            "_offset": offsets,
            "_known_time": known.view("datetime64[us]"),
            "_event_time": np.minimum(event_times, known).view("datetime64[us]"),
            "_id": pl.Series(ids, dtype=pl.String),
            "_tie": ties,
            "_too_late": late,
        }
        rejected.sort(key=lambda letter: letter.offset)
        return Taken(
            events=self._frame(rows, keep, system),
            rejected=rejected,
            duplicates=int(np.count_nonzero(usable & (verdicts == _DUPLICATE))),
            too_late=int(np.count_nonzero(late[keep])),
            accepted=len(keep),
        )

    def _out_of_range(self, rows: list[Any]) -> Iterator[tuple[int, str, str]]:
        """Yield (row, detail, reason) of every number that no view could aggregate exactly."""
        for field, bound in self._bounds.items():
            for place, value in enumerate(map(attrgetter(field), rows)):
                if value is not None and abs(value) >= bound:
                    detail = f"{field} must be below {bound:.0f} in magnitude"
                    yield place, detail, f"out_of_range:{field}"

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
        self, rows: list[Any], usable: Int64s, ties: Int64s, offsets: Int64s, seen: Writer
    ) -> npt.NDArray[np.int8]:
        """Tell fresh rows from duplicates and conflicts; ids are looked up in key order."""
        verdicts = np.full(len(rows), _FRESH, dtype=np.int8)
        order = usable[np.argsort(ties[usable], kind="stable")]
        keys = ties[order].astype(">i8").tobytes()
        firsts = offsets[order].astype(">i8").tobytes()
        contents = self._decoder.canonical(rows[i] for i in order.tolist())
        get, put, prefix, blake = seen.get, seen.put, self._prefix, hashlib.blake2b
        for rank, content in enumerate(contents):
            cut = slice(8 * rank, 8 * rank + 8)
            key, first = prefix + keys[cut], firsts[cut]
            digest = blake(content, digest_size=8).digest()
            found = get(key)
            if found is None:
                put(key, digest + first)
            elif found[8:] != first:
                verdicts[order[rank]] = _DUPLICATE if found[:8] == digest else _CONFLICT
        return verdicts

    def _was(self, payload: bytes, row: Any, remembered: bytes) -> bool:
        """Return whether an earlier schema read this very event when it was remembered.

        An earlier schema does not see what came later: what it reads must be all there is.
        """
        for decoder in self._earlier:
            contents = decoder.canonical(decoder.decode([payload]).rows)
            if [hashlib.blake2b(content, digest_size=8).digest() for content in contents] == [
                remembered
            ]:
                again = self._decoder.decode(contents).rows
                return self._decoder.canonical(again) == self._decoder.canonical([row])
        return False

    def _frame(self, rows: list[Any], keep: Int64s, system: dict[str, Any]) -> pl.DataFrame:
        """Return the kept rows' fields, then the system's columns, which hold all rows."""
        added = pl.DataFrame(system)
        if len(keep) < len(rows):
            rows, added = [rows[i] for i in keep.tolist()], added[keep]
        fields = {
            field.name: column(list(map(attrgetter(field.name), rows)), self._schema[field.name])
            for field in self._source.schema.fields
        }
        return pl.DataFrame(fields).hstack(added).cast(self._schema)


def _part(batch: LogBatch, begin: int, end: int) -> LogBatch:
    if begin == 0 and end >= len(batch):
        return batch
    return LogBatch(
        batch.source,
        batch.offsets[begin:end],
        batch.known[begin:end],
        batch.payloads[begin:end],
    )
