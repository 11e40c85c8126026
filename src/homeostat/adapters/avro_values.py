"""Avro values become JSON, by fastavro."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from datetime import date, datetime, time
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

    Instants become ISO 8601, decimals numbers, enumerations their names, bytes base64.

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
        known: dict[str, Any] = {}
        try:
            for text in named:
                fastavro.parse_schema(json.loads(text), known)
            self._schema = fastavro.parse_schema(json.loads(schema), known)
        except (SchemaParseException, UnknownType, ValueError, TypeError, KeyError) as error:
            raise SchemaUnreadable("Avro", f"{type(error).__name__}: {error}") from error
        self._read: Callable[..., Any] = fastavro.schemaless_reader

    def __call__(self, body: bytes) -> bytes:
        """Return the JSON of a value; raise `BytesUnreadable`."""
        source = io.BytesIO(body)
        try:
            value = self._read(source, self._schema, None)
        except Exception as error:  # hostile bytes meet compiled code: anything can be raised
            raise BytesUnreadable("Avro", f"{type(error).__name__} while reading it") from error
        left = len(body) - source.tell()
        if left:
            raise BytesUnreadable("Avro", f"{left} bytes are left over")
        return to_json(value)


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
