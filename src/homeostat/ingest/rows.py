"""Rows of a database become payloads: values as the event's fields can hold them.

A value that a field cannot hold is written as it is, so that the intake refuses the row and says
why; nothing is rounded or guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from homeostat.core.errors import HomeostatError, did_you_mean
from homeostat.declare.schema import Field
from homeostat.declare.sources import EventSource
from homeostat.ingest.local_times import is_repeated
from homeostat.ingest.python_values import field_value, json_bytes, refused, within_limit
from homeostat.ingest.table_columns import ColumnsInvalid, columns_of

__all__ = [
    "ColumnMissing",
    "CursorInvalid",
    "ResultInvalid",
    "RowReader",
    "as_text",
    "earlier",
    "from_text",
]


class ColumnMissing(HomeostatError, LookupError):
    """A result without a column that is needed."""

    def __init__(self, source: str, name: str, found: Sequence[str]) -> None:
        super().__init__(
            f"source {source!r}: no column {name!r} in the result.{did_you_mean(name, found)} "
            f"Found: {', '.join(found)}; allowed: a column for every field that events must have, "
            "for the event id and for the cursor; rename it in the SELECT: amount_eur AS amount"
        )


class ResultInvalid(HomeostatError, LookupError):
    """A result whose columns are not those of the event."""

    def __init__(self, source: str, invalid: ColumnsInvalid) -> None:
        super().__init__(
            f"source {source!r}: the result: {invalid.found}; allowed: {invalid.allowed}; "
            "name the columns in the SELECT: amount_eur AS amount"
        )


class CursorInvalid(HomeostatError, TypeError):
    """A cursor whose values cannot be compared, kept or moved back as was declared."""

    def __init__(self, source: str, value: object, allowed: str) -> None:
        super().__init__(
            f"source {source!r}: the cursor's value is a {type(value).__name__}; allowed: "
            f"{allowed}; name another cursor column, or another overlap"
        )


class RowReader:
    """Turns rows with these columns into payloads of a source.

    Args:
        source: the event source.
        columns: the names of the result's columns.
        zone: what instants without a zone mean, None for nothing.

    Attributes:
        notes: one line for each field that no column fills.
        has_repeated: whether a row had a local time that comes twice.

    >>> from homeostat.declare.schema import Event, Timestamp
    >>> Tap = type("Tap", (Event,), {"__annotations__": {"tap": str, "at": Timestamp, "n": int}})
    >>> taps = EventSource("taps", Tap, event_id="tap", event_time="at")
    >>> reader = RowReader(taps, ("tap", "at", "n"), ZoneInfo("UTC"))
    >>> reader.payload(("a", datetime(2024, 2, 29), Decimal("2.00")))
    b'{"tap":"a","at":"2024-02-29T00:00:00+00:00","n":2}'
    """

    def __init__(
        self, source: EventSource, columns: Sequence[str], zone: ZoneInfo | None = None
    ) -> None:
        self.columns = tuple(columns)
        self._source, self._zone = source.name, zone
        try:
            found = columns_of(source.schema, [_of_sqlite(name) for name in self.columns])
        except ColumnsInvalid as invalid:
            raise ResultInvalid(source.name, invalid) from invalid
        self.notes, self.has_repeated = found.notes, False
        self._fields = [
            (source.schema.field(name, source.name), place) for name, place in found.places.items()
        ]

    def place(self, column: str) -> int:
        """Return where a column stands; raise `ColumnMissing` if it does not."""
        if column not in self.columns:
            raise ColumnMissing(self._source, column, self.columns)
        return self.columns.index(column)

    def payload(self, row: Sequence[object]) -> bytes:
        """Return one row as JSON; columns that the event does not have are left out."""
        said: dict[str, object] = {}
        for field, place in self._fields:
            if row[place] is None and not field.nullable:
                continue
            try:
                if field.kind == "timestamp" and is_repeated(row[place], self._zone):
                    self.has_repeated = True
                value = _held(field, row[place], self._zone)
                self._encoded({field.name: value})
            except Exception as odd:  # noqa: BLE001 - a driver's value of any class may raise
                found = f"a {type(odd).__name__} when its {type(row[place]).__name__} is written"
                return refused(f"column {self.columns[place]!r}", found, tuple(row))
            said[field.name] = value
        return within_limit(self._encoded(said))

    def _encoded(self, said: dict[str, object]) -> bytes:
        try:
            # a driver keeps bytes that are not UTF-8 as such surrogates
            return json_bytes(said, _ENCODER, "surrogateescape")
        except UnicodeEncodeError:
            return json_bytes(said, _ENCODER, "surrogatepass")


def _of_sqlite(name: str) -> str:
    """Return a column's name without what SQLite adds to one that comes again, as in `amount:1`."""
    return re.sub(r":\d+$", "", name)


def _held(field: Field, value: object, zone: ZoneInfo | None) -> object:
    """Return a value as its field's JSON; a database's 0, 1 and JSON are read as such."""
    if field.kind == "boolean" and type(value) is int and value in (0, 1):
        return bool(value)
    if field.kind == "string" and isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=_as_it_is)
    return field_value(field, value, zone)


def _as_it_is(value: object) -> object:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return str(value)


_ENCODER = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, default=_as_it_is
)  # NaN and infinities stay as they are: the intake refuses them by name


def as_text(value: object, source: str) -> str:
    """Return a cursor's value as text that `from_text` reads back to the same value."""
    for name, kind in _KINDS.items():
        if type(value) is kind:
            said = value.isoformat() if isinstance(value, date) else str(value)
            return f"{name}:{said}"
    raise CursorInvalid(source, value, "a number, a text, a date, an instant or a UUID")


def from_text(text: str) -> object:
    """Return the value of a text that `as_text` wrote.

    >>> from_text(as_text(Decimal("1.50"), "taps")), from_text(as_text("a:b", "taps"))
    (Decimal('1.50'), 'a:b')
    """
    name, _, said = text.partition(":")
    kind: Any = _KINDS[name]
    value: object = kind.fromisoformat(said) if issubclass(kind, date) else kind(said)
    return value


_KINDS: Mapping[str, type] = {
    "int": int, "float": float, "text": str, "decimal": Decimal, "instant": datetime, "date": date,
    "uuid": UUID,
}  # fmt: skip


def earlier(value: object, overlap: timedelta | int, source: str) -> object:
    """Return a cursor's value moved back by an overlap.

    >>> earlier("2024-03-01 00:00:00", timedelta(seconds=1), "taps"), earlier(7, 5, "taps")
    ('2024-02-29 23:59:59', 2)
    """
    if not overlap:
        return value
    if isinstance(overlap, int) and isinstance(value, int | float | Decimal):
        return value - overlap
    if isinstance(overlap, timedelta) and isinstance(value, date):
        if not isinstance(value, datetime):
            return value - timedelta(days=-(-overlap // timedelta(days=1)))
        return value - overlap
    if isinstance(overlap, timedelta) and isinstance(value, str):
        try:
            instant = datetime.fromisoformat(value) - overlap
        except ValueError:
            raise CursorInvalid(source, value, "an instant, for an overlap of time") from None
        text = instant.isoformat(sep=value[10:11] or " ")
        return text.replace("+00:00", "Z") if value.endswith("Z") else text
    allowed = "a number" if isinstance(overlap, int) else "an instant or a date"
    raise CursorInvalid(source, value, f"{allowed}, for an overlap of {overlap}")
