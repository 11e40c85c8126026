"""Event schemas in the languages of others: Avro and JSON Schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from homeostat.core.clock import from_micros, to_micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.schema import EventSchema, Field

__all__ = ["SchemaNotOurs", "from_avro", "to_avro", "to_json_schema"]

_AVRO_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INSTANT = {"type": "long", "logicalType": "timestamp-micros"}
_AVRO: dict[str, Any] = {
    "string": "string", "integer": "long", "float": "double", "boolean": "boolean",
    "timestamp": _INSTANT,
}  # fmt: skip
_KINDS = {
    "string": "string", "int": "integer", "long": "integer", "float": "float", "double": "float",
    "boolean": "boolean",
}  # fmt: skip
_JSON: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float": {"type": "number"},
    "boolean": {"type": "boolean"},
    "timestamp": {"type": "string", "format": "date-time"},
}


class SchemaNotOurs(HomeostatError, ValueError):
    """A schema that cannot be said in the other language."""

    def __init__(self, name: str, found: str, allowed: str, next_step: str) -> None:
        super().__init__(f"schema {name!r}: {found}; allowed: {allowed}; {next_step}.")


def to_avro(schema: EventSchema, name: str) -> dict[str, Any]:
    """Return the Avro record of an event schema, under a name that should outlive its class.

    An optional field is a union with null; without a default of its own its default is null.
    Tags are kept as `confluent:tags`.

    >>> to_avro(EventSchema("Tap", (Field("amount", "float", nullable=True),)), "taps")["fields"]
    [{'name': 'amount', 'type': ['null', 'double'], 'default': None}]
    """
    for said in (name, *schema.names()):
        if _AVRO_NAME.fullmatch(said) is None:
            raise SchemaNotOurs(
                name, f"Avro has no name {said!r}", "letters of ASCII, digits and _", "rename it"
            )
    record = {"type": "record", "name": name, "fields": [_avro_field(f) for f in schema.fields]}
    return {**record, "doc": schema.doc} if schema.doc else record


def _avro_field(field: Field) -> dict[str, Any]:
    kind = _AVRO[field.kind]
    said: dict[str, Any] = {"name": field.name, "type": kind}
    if field.nullable:
        # The default of a union is a value of its first member.
        said["type"] = ["null", kind] if field.default is None else [kind, "null"]
        said["default"] = None
    if field.default is not None:
        is_instant = field.kind == "timestamp"
        said["default"] = to_micros(field.filler) if is_instant else field.default
    if field.aliases:
        said["aliases"] = list(field.aliases)
    if field.tags:
        said["confluent:tags"] = sorted(field.tags)
    return said


def from_avro(record: Mapping[str, Any]) -> EventSchema:
    """Return the event schema of an Avro record of strings, numbers, booleans and instants.

    >>> tap = EventSchema("taps", (Field("a", "string", aliases=("b",)), Field("n", "integer")))
    >>> from_avro(to_avro(tap, "taps")) == tap
    True
    """
    name = str(record.get("name", "?")) if isinstance(record, Mapping) else "?"
    if not isinstance(record, Mapping) or record.get("type") != "record":
        raise SchemaNotOurs(name, "it is no record", "a record of fields", "wrap it in a record")
    fields = tuple(_from_avro_field(name, field) for field in record["fields"])
    return EventSchema(name, fields, str(record.get("doc", "")))


def _from_avro_field(record: str, said: Mapping[str, Any]) -> Field:
    members = said["type"] if isinstance(said["type"], list) else [said["type"]]
    kinds = [member for member in members if member != "null"]
    kind = _kind(kinds[0]) if len(kinds) == 1 else None
    if kind is None:
        raise SchemaNotOurs(
            record,
            f"field {said['name']!r} is {json.dumps(said['type'])}",
            "string, int, long, float, double, boolean, timestamp-millis, timestamp-micros, each "
            "also in a union with null",
            "leave the field out, or flatten it",
        )
    default = said.get("default")
    if kind == "timestamp" and default is not None:
        millis = kinds[0]["logicalType"] == "timestamp-millis"
        instant = from_micros(int(default) * (1000 if millis else 1))
        default = instant.isoformat().replace("+00:00", "Z")
    if kind == "float" and default is not None:
        default = float(default)
    return Field(
        said["name"],
        kind,
        nullable=len(kinds) < len(members),
        tags=frozenset(said.get("confluent:tags", ())),
        default=default,
        aliases=tuple(said.get("aliases", ())),
    )


def _kind(said: Any) -> str | None:
    """Return the kind of an Avro type, None if there is none."""
    if isinstance(said, str):
        return _KINDS.get(said)
    if not isinstance(said, Mapping):
        return None
    logical = said.get("logicalType")
    if logical in ("timestamp-micros", "timestamp-millis") and said.get("type") == "long":
        return "timestamp"
    return _KINDS.get(str(said.get("type"))) if logical is None else None


def to_json_schema(schema: EventSchema, name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the payloads that are events of a schema.

    Unknown fields are allowed, as the intake ignores them. A field that was renamed may come under
    any of its names.

    >>> found = to_json_schema(EventSchema("Tap", (Field("n", "integer", default=1),)), "taps")
    >>> found["required"], found["properties"]["n"]["default"]
    ([], 1)
    """
    properties: dict[str, Any] = {}
    one_of: list[dict[str, Any]] = []
    for field in schema.fields:
        properties[field.name] = _json_field(field)
        for alias in field.aliases:
            properties[alias] = {**_json_field(field), "deprecated": True}
        if field.aliases and not field.is_optional:
            names = (field.name, *field.aliases)
            one_of.append({"anyOf": [{"required": [name]} for name in names]})
    said: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "type": "object",
        "properties": properties,
        "required": [f.name for f in schema.fields if not f.is_optional and not f.aliases],
    }
    if schema.doc:
        said["description"] = schema.doc
    if one_of:
        said["allOf"] = one_of
    return said


def _json_field(field: Field) -> dict[str, Any]:
    said = dict(_JSON[field.kind])
    if field.nullable:
        said["type"] = [said["type"], "null"]
    if field.default is not None:
        said["default"] = field.default
    if field.tags:
        said["confluent:tags"] = sorted(field.tags)
    return said
