"""Avro values become JSON, by fastavro."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date, datetime, time
from functools import partial
from typing import Any

import msgspec

from homeostat.core.errors import HomeostatError, MissingExtra

__all__ = ["AvroDecoder", "BytesUnreadable", "SchemaUnreadable", "to_json"]

_ENCODE = msgspec.json.Encoder(decimal_format="number").encode


class BytesUnreadable(HomeostatError, ValueError):
    """Bytes that are no value of their schema; `found` quotes none of them."""

    def __init__(self, kind: str, found: str) -> None:
        self.found = found
        super().__init__(
            f"{kind} value: {found}; allowed: bytes that were written under the schema they name; "
            "look at the producer"
        )


class SchemaUnreadable(HomeostatError, ValueError):
    """A schema that its language does not allow."""

    def __init__(self, kind: str, found: str) -> None:
        self.found = found
        super().__init__(
            f"{kind} schema: {found}; allowed: a schema of that language; register a correct one"
        )


class AvroDecoder:
    """Reads values under the schema they were written with; an event is a record.

    Instants become ISO 8601, decimals numbers, enumerations their names, bytes base64. A member
    that is none of its logical type (an instant after the year 9999, a text that is no UUID) stands
    as the number, text or bytes it is: the intake refuses it if an event has it, by its name.

    Args:
        schema: the writer's schema, JSON as text.
        named: the schemas it refers to, those first that others refer to.

    >>> schema = '{"type": "record", "name": "T", "fields": [{"name": "n", "type": "long"}]}'
    >>> AvroDecoder(schema)(bytes([6]))
    b'{"n":3}'
    """

    def __init__(self, schema: str, named: Iterable[str] = ()) -> None:
        try:
            import fastavro
            from fastavro.schema import SchemaParseException, UnknownType
        except ModuleNotFoundError as missing:
            raise MissingExtra("an Avro value", "kafka") from missing
        self._raises = (SchemaParseException, UnknownType, ValueError, TypeError, KeyError)
        self._texts = (*named, schema)
        self._parse: Callable[..., Any] = fastavro.parse_schema
        self._read: Callable[..., Any] = fastavro.schemaless_reader
        self._schema = self._parsed(lambda written: written)
        self._each: tuple[Any, dict[str, Any]] | None = None

    def __call__(self, body: bytes) -> bytes:
        """Return the JSON of a value; raise `BytesUnreadable`."""
        source = io.BytesIO(body)
        try:
            value = self._read(source, self._schema, None)
        except Exception as error:  # noqa: BLE001 - bytes meet compiled code: anything is raised
            source.seek(0)
            value = self._member_by_member(source, error)
        left = len(body) - source.tell()
        if left:
            raise BytesUnreadable("Avro", f"{left} bytes are left over")
        return to_json(value)

    def _parsed(self, changed: Callable[[Any], Any]) -> Any:
        """Return the schema with a change in what was written."""
        known: dict[str, Any] = {}
        try:
            *named, schema = [json.loads(text) for text in self._texts]
            for each in named:
                self._parse(changed(each), known)
            return self._parse(changed(schema), known)
        except self._raises as error:
            raise SchemaUnreadable("Avro", f"{type(error).__name__}: {error}") from error

    def _member_by_member(self, source: io.BytesIO, error: Exception) -> Any:
        """Return a record of which some members are none of their logical types, or raise."""
        if self._each is None:
            written = json.loads(self._texts[-1])
            members = written.get("fields", ()) if isinstance(written, dict) else ()
            self._each = (
                self._parsed(_plain_types),
                {
                    member["name"]: self._parsed(partial(_plain_types, besides=member["name"]))
                    for member in members
                },
            )
        plain, each = self._each
        try:
            value = self._read(source, plain, None)
        except Exception:  # noqa: BLE001 - these bytes are no value of the schema at all
            value = None
        if not isinstance(value, dict):
            raise BytesUnreadable("Avro", f"{type(error).__name__} while reading it") from error
        for name, schema in each.items():
            again = io.BytesIO(source.getvalue())
            with suppress(Exception):  # this one is at fault: it stands as it is
                value[name] = self._read(again, schema, None)[name]
        return value


def _plain_types(written: Any, besides: str | None = None) -> Any:
    """Return a schema without logical types, except of the member of the record named `besides`."""
    if isinstance(written, list):
        return [_plain_types(part) for part in written]
    if not isinstance(written, dict):
        return written
    return {
        key: [
            part if part.get("name") == besides else {**part, "type": _plain_types(part["type"])}
            for part in inner
        ]
        if key == "fields"
        else _plain_types(inner)
        if key in ("type", "items", "values")
        else inner
        for key, inner in written.items()
        if key != "logicalType"
    }


def to_json(value: Any) -> bytes:
    """Return a value as JSON; NaN and infinities stand as such, for the intake to refuse.

    >>> to_json({"a": float("nan"), "at": datetime.fromisoformat("2024-01-01T00:00:00+00:00")})
    b'{"a":NaN,"at":"2024-01-01T00:00:00+00:00"}'
    """
    if isinstance(value, dict) and any(
        type(inner) is float and inner - inner != 0.0 for inner in value.values()
    ):
        return json.dumps(value, default=_plain, separators=(",", ":")).encode()
    return _ENCODE(value)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return json.loads(_ENCODE(value))
