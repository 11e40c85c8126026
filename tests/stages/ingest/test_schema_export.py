"""Exported schemas say in Avro and in JSON Schema what the intake reads."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Annotated, Any

import avro.io
import avro.schema
import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.declare.schema import EventSchema, Field
from homeostat.ingest.decode import PayloadDecoder
from homeostat.ingest.schema_export import SchemaNotOurs, from_avro, to_avro, to_json_schema


class Tap(hs.Event):
    """A card was held to a reader."""

    tap: str
    at: hs.Timestamp
    holder: Annotated[str | None, hs.Personal]
    reader: Annotated[str, hs.Alias("terminal")]
    currency: str = "EUR"
    rate: float | None = 0.5
    seen_at: hs.Timestamp = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


def test_avro_of_an_event() -> None:
    instant = {"type": "long", "logicalType": "timestamp-micros"}
    assert to_avro(Tap.schema, "taps") == {
        "type": "record",
        "name": "taps",
        "doc": "A card was held to a reader.",
        "fields": [
            {"name": "tap", "type": "string"},
            {"name": "at", "type": instant},
            {"name": "holder", "type": ["null", "string"], "default": None,
             "confluent:tags": ["personal"]},
            {"name": "reader", "type": "string", "aliases": ["terminal"]},
            {"name": "currency", "type": "string", "default": "EUR"},
            {"name": "rate", "type": ["double", "null"], "default": 0.5},
            {"name": "seen_at", "type": instant, "default": 1_000_000},
        ],
    }  # fmt: skip


def test_json_schema_of_an_event() -> None:
    found = to_json_schema(Tap.schema, "taps")
    assert found["title"] == "taps"
    assert found["description"] == "A card was held to a reader."
    assert found["required"] == ["tap", "at"]
    assert found["allOf"] == [{"anyOf": [{"required": ["reader"]}, {"required": ["terminal"]}]}]
    assert found["properties"]["at"] == {"type": "string", "format": "date-time"}
    assert found["properties"]["terminal"] == {"type": "string", "deprecated": True}
    assert found["properties"]["rate"] == {"type": ["number", "null"], "default": 0.5}
    assert found["properties"]["holder"]["confluent:tags"] == ["personal"]


texts = st.text(st.characters(codec="utf-8"), max_size=5)
values: dict[str, st.SearchStrategy[Any]] = {
    "string": texts,
    "integer": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "timestamp": st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001
        lambda instant: instant.isoformat() + "Z"
    ),
}


@st.composite
def schemas(draw: st.DrawFn) -> EventSchema:
    names = draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))
    fields = []
    for name in names:
        kind = draw(st.sampled_from(sorted(values)))
        default = draw(st.none() | values[kind])
        if kind == "timestamp" and default is not None:
            default = datetime.fromisoformat(default).isoformat().replace("+00:00", "Z")
        aliases = tuple(f"{name}{i}" for i in range(draw(st.integers(0, 2))))
        tags = draw(st.sampled_from([frozenset[str](), frozenset({"personal", "vip"})]))
        fields.append(Field(name, kind, draw(st.booleans()), tags, default, aliases))
    return EventSchema("E", tuple(fields), draw(texts))


@given(schemas())
@settings(max_examples=100, deadline=None)
def test_avro_takes_the_export_and_gives_it_back(schema: EventSchema) -> None:
    text = json.dumps(to_avro(schema, "E"))
    assert isinstance(avro.schema.parse(text), avro.schema.RecordSchema)
    assert from_avro(json.loads(text)) == schema


@given(schemas(), st.data())
@settings(max_examples=200, deadline=None)
def test_json_schema_allows_what_the_intake_reads(schema: EventSchema, data: st.DataObject) -> None:
    odd: st.SearchStrategy[Any] = st.sampled_from(
        [None, "x", 1, 1.5, True, [], {}, 2**63, -(2**63) - 1, 2**70, "2013-01-01T00:00:00Z"]
    )
    payload: dict[str, Any] = {"unknown": 1}
    for field in schema.fields:
        for name in (field.name, *field.aliases):
            kind = data.draw(st.integers(0, 5))
            if kind:
                payload[name] = data.draw(values[field.kind] if kind > 1 else odd)
            if payload.get(name) == "x" and field.kind == "timestamp":
                payload[name] = 5  # whether a format is checked is left to the validator
    found = to_json_schema(schema, "e")
    jsonschema.Draft202012Validator.check_schema(found)
    allows = jsonschema.Draft202012Validator(found).is_valid(payload)
    faults = PayloadDecoder(schema).decode([json.dumps(payload).encode()]).faults
    assert allows == (not faults), faults


def test_avro_bytes_hold_our_values() -> None:
    parsed = avro.schema.parse(json.dumps(to_avro(Tap.schema, "taps")))
    row = {
        "tap": "a", "at": datetime(2013, 1, 1, tzinfo=UTC), "holder": None, "reader": "r",
        "currency": "EUR", "rate": None, "seen_at": datetime(2014, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    body = io.BytesIO()
    avro.io.DatumWriter(parsed).write(row, avro.io.BinaryEncoder(body))
    body.seek(0)
    assert avro.io.DatumReader(parsed).read(avro.io.BinaryDecoder(body)) == row


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"type": "enum", "name": "e", "symbols": ["a"]}, "it is no record"),
        ("string", "it is no record"),
        ({"type": "array", "items": "string"}, r"field 'f' is \{"),
        (["string", "long"], "field 'f' is"),
        (["null"], "field 'f' is"),
        ("bytes", "field 'f' is \"bytes\""),
        ({"type": "int", "logicalType": "date"}, "field 'f' is"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4}, "field 'f' is"),
        (7, "field 'f' is 7"),
    ],
)
def test_avro_that_no_event_has_is_refused(said: Any, why: str) -> None:
    record = {"type": "record", "name": "r", "fields": [{"name": "f", "type": said}]}
    with pytest.raises(SchemaNotOurs, match=why):
        from_avro(said if "record" in why else record)


def test_avro_of_others_is_read() -> None:
    millis = {"type": "long", "logicalType": "timestamp-millis"}
    fields = [
        {"name": "a", "type": "int", "default": 1},
        {"name": "b", "type": ["float", "null"], "default": 1},
        {"name": "c", "type": millis, "default": 1000},
        {"name": "d", "type": {"type": "string", "avro.java.string": "String"}},
    ]
    found = from_avro({"type": "record", "name": "r", "fields": fields})
    assert found.fields == (
        Field("a", "integer", default=1),
        Field("b", "float", nullable=True, default=1.0),
        Field("c", "timestamp", default="1970-01-01T00:00:01Z"),
        Field("d", "string"),
    )


def test_a_name_that_avro_does_not_have_is_refused() -> None:
    with pytest.raises(SchemaNotOurs, match="Avro has no name 'größe'"):
        to_avro(EventSchema("E", (Field("größe", "float"),)), "e")
    with pytest.raises(SchemaNotOurs, match="Avro has no name 'a-value'"):
        to_avro(EventSchema("E", (Field("a", "float"),)), "a-value")
