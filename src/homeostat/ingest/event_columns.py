"""Payloads become typed columns, or a reason; one bad payload never touches its neighbours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.core.clock import to_micros
from homeostat.core.row_threads import RowThreads
from homeostat.declare.schema import EventSchema, Field
from homeostat.ingest.columns import INSTANT
from homeostat.ingest.decode import Fault, PayloadDecoder
from homeostat.ingest.field_names import folded
from homeostat.ingest.payloads import Payloads

__all__ = ["ColumnDecoder", "EventColumns"]

Int64s = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """What a batch of n payloads says: one row each, also for those that say nothing.

    Attributes:
        schema: the schema they were read under; its fields are the rows of the arrays.
        words: the values, int64 of shape (fields, n): numbers, the bits of floats, microseconds,
            booleans as 0 and 1, and where texts begin.
        lengths: of texts, in bytes, int64 of shape (fields, n).
        has: whether there is a value, uint8 of shape (fields, n).
        body: the payloads' bytes; a text that begins beyond their end is a piece of `extra`.
        extra: texts that do not stand in the payloads as they are.
        valid: which payloads are events, shape (n,).
        faults: why the others are none, by place.
    """

    schema: EventSchema
    words: Int64s
    lengths: Int64s
    has: npt.NDArray[np.uint8]
    body: npt.NDArray[np.uint8]
    extra: npt.NDArray[np.uint8]
    valid: Flags
    faults: list[Fault]

    def __len__(self) -> int:
        return len(self.valid)

    def place(self, name: str) -> int:
        """Return which row of the arrays a field is."""
        return self.schema.names().index(name)

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """Return a field's values, of shape (n,): float64 of a float, int64 of any other kind."""
        place = self.place(name)
        words: npt.NDArray[Any] = self.words[place]
        return words.view(np.float64) if self.schema.fields[place].kind == "float" else words

    def series(self, name: str, rows: Int64s) -> pl.Series:
        """Return some rows of a field as a column, None where there is no value."""
        place = self.place(name)
        field, has = self.schema.fields[place], self.has[place][rows]
        if field.kind == "string":
            return self._texts(name, place, rows, has)
        values: npt.NDArray[Any] = self.numbers(name)[rows]
        if field.kind == "boolean":
            values = values.astype(np.bool_)
        found = pl.Series(name, values)
        if not has.all():
            found = found.set(pl.Series(has == 0), None)
        return found.cast(INSTANT) if field.kind == "timestamp" else found

    def _texts(self, name: str, place: int, rows: Int64s, has: npt.NDArray[np.uint8]) -> pl.Series:
        import pyarrow as pa

        from homeostat.ingest.buffers import views

        laid = np.zeros((len(rows), 4), np.int32)
        views(self.body, self.extra, self.words[place], self.lengths[place], rows, laid)
        valid = None
        if not has.all():
            laid[has == 0] = 0
            valid = pa.py_buffer(np.packbits(has, bitorder="little"))
        buffers = [valid, *map(pa.py_buffer, (laid, self.body, self.extra))]
        return pl.Series(name, pa.Array.from_buffers(pa.string_view(), len(rows), buffers))


class ColumnDecoder:
    """Reads JSON objects of one event schema, as `PayloadDecoder` does, into columns.

    Payloads that are written plainly are read by compiled loops, all others one by one.

    Args:
        schema: what events have.
        threads: what runs the compiled loops.

    >>> from homeostat.declare.schema import Event
    >>> class Tap(Event):
    ...     card: str
    ...     amount: float | None
    >>> found = ColumnDecoder(Tap.schema).decode(Payloads.of([b'{"card":"a","amount":1}', b'{}']))
    >>> found.series("amount", np.array([0])).to_list(), found.faults[0].reason
    ([1.0], 'missing_field:card')
    """

    def __init__(self, schema: EventSchema, threads: RowThreads | None = None) -> None:
        from homeostat.ingest.json_rows import FORMER, KINDS, letters, powers

        self.schema, self._others = schema, PayloadDecoder(schema)
        self.threads = threads or RowThreads()
        fields = schema.fields
        names = [f.name for f in fields] + [alias for f in fields for alias in f.aliases]
        self._names = Payloads.of([name.encode() for name in names])
        self._kinds = np.array(
            [KINDS.index(f.kind) for f in fields] + [FORMER] * (len(names) - len(fields)), np.int64
        )
        allowed = [2 if f.nullable else 1 if f.is_optional else 0 for f in fields]
        self._allowed = np.array(allowed + [1] * (len(names) - len(fields)), np.int64)
        optional = [folded(field.name) for field in fields if field.is_optional]
        self._sums = np.array([letters(name) for name in optional if name.isascii()], np.int64)
        self._powers = powers()
        self._fillers = np.zeros((len(fields), 3), np.int64)
        self._texts = b"".join(
            f.filler.encode() for f in fields if f.kind == "string" and f.filler is not None
        )
        at = 0
        for place, field in enumerate(fields):
            if not field.is_optional:
                continue
            if field.filler is None:
                self._fillers[place, 0] = 2
            elif field.kind == "string":
                size = len(field.filler.encode())
                self._fillers[place] = 1, at, size
                at += size
            else:
                self._fillers[place] = 1, _word(field, field.filler), 0
        self._order = np.argsort(np.array(schema.names()), kind="stable").astype(np.int64)
        salts = b"".join(
            hashlib.blake2b(f.name.encode(), digest_size=8, person=b"field").digest()
            for f in fields
        )
        self._salts = np.frombuffer(salts, np.uint64)

    def decode(self, payloads: Payloads) -> EventColumns:
        """Decode a batch; every payload is a valid row, or in the faults."""
        from homeostat.ingest.json_rows import parsed

        fields, count = len(self.schema.fields), len(payloads)
        words = np.zeros((fields, count), np.int64)
        lengths = np.zeros((fields, count), np.int64)
        said = np.zeros((len(self._kinds), count), np.uint8)
        valid = np.zeros(count, np.bool_)
        self.threads.run(count, partial(
            parsed,
            payloads.body, payloads.starts, payloads.ends, self._names.body, self._names.ends,
            self._kinds, self._allowed, self._sums, self._powers, words, lengths, said, valid,
        ))  # fmt: skip
        extra = [self._texts]
        beyond = len(payloads.body) + len(self._texts)
        faults: list[Fault] = []
        has = said[:fields]
        self._fill(payloads, words, lengths, has)
        odd = np.flatnonzero(~valid).tolist()
        if odd:
            found = self._others.decode([payloads[place] for place in odd])
            faults = [Fault(odd[f.place], f.reason, f.detail) for f in found.faults]
            places = np.array(odd, np.int64)[np.asarray(found.places, np.int64)]
            valid[places] = True
            for place, field in enumerate(self.schema.fields):
                values = list(map(attrgetter(field.name), found.rows))
                has[place, places] = [value is not None for value in values]
                if field.kind != "string":
                    words[place, places] = [
                        0 if value is None else _word(field, value) for value in values
                    ]
                    continue
                texts = ["" if value is None else value for value in values]
                held = [text.encode("utf-8", "surrogatepass") for text in texts]
                sizes = np.fromiter(map(len, held), np.int64, len(held))
                words[place, places] = beyond + np.cumsum(sizes) - sizes
                lengths[place, places] = sizes
                extra += held
                beyond += int(sizes.sum())
        return EventColumns(
            self.schema, words, lengths, has, payloads.body,
            np.frombuffer(b"".join(extra), np.uint8), valid, faults,
        )  # fmt: skip

    def contents(self, columns: EventColumns) -> Int64s:
        """Return a digest of what each row says, int64 of shape (n,); defaults say nothing."""
        from homeostat.ingest.digests import content_digests

        found = np.empty(len(columns), np.int64)
        self.threads.run(len(columns), partial(
            content_digests,
            columns.body, columns.extra, columns.words, columns.lengths, columns.has,
            self._kinds, self._order, self._salts, self._fillers,
            np.frombuffer(self._texts, np.uint8), found,
        ))  # fmt: skip
        return found

    def _fill(
        self, payloads: Payloads, words: Int64s, lengths: Int64s, has: npt.NDArray[np.uint8]
    ) -> None:
        """Put the defaults where nothing was said; then `has` is 1 where there is a value."""
        for place, (kind, word, size) in enumerate(self._fillers.tolist()):
            if kind == 1 and (unsaid := has[place] == 0).any():
                is_text = self.schema.fields[place].kind == "string"
                words[place, unsaid] = word + len(payloads.body) * is_text
                lengths[place, unsaid] = size
                has[place, unsaid] = 1
            if kind:
                has[place] &= 1


def _word(field: Field, value: Any) -> int:
    """Return what stands for a value, of any kind but text, in `EventColumns.words`."""
    if field.kind == "float":
        return int(np.float64(value).view(np.int64))
    if isinstance(value, datetime):
        return to_micros(value)
    return int(value)
