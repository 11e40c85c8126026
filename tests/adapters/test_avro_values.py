"""A member that is none of its logical type stands as it is, and costs no other."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

fastavro = pytest.importorskip("fastavro")

from homeostat.adapters.avro_values import AvroDecoder, BytesUnreadable  # noqa: E402

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
PLAIN = {
    "type": "record", "name": "T", "fields": [
        {"name": "id", "type": "string"}, {"name": "at", "type": "long"},
        {"name": "expires", "type": ["null", "long"]}, {"name": "u", "type": "string"},
        {"name": "price", "type": "bytes"},
        {"name": "inner", "type": {"type": "record", "name": "I", "fields": [
            {"name": "until", "type": "long"}, {"name": "at", "type": "long"}]}},
        {"name": "all", "type": {"type": "array", "items": "long"}},
    ],
}  # fmt: skip
TYPED: dict[str, Any] = {
    "type": "record", "name": "T", "fields": [
        {"name": "id", "type": "string"}, {"name": "at", "type": MILLIS},
        {"name": "expires", "type": ["null", MILLIS]},
        {"name": "u", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9,
                                   "scale": 2}},
        {"name": "inner", "type": {"type": "record", "name": "I", "fields": [
            {"name": "until", "type": MILLIS}, {"name": "at", "type": MILLIS}]}},
        {"name": "all", "type": {"type": "array", "items": MILLIS}},
    ],
}  # fmt: skip
NOW, NEVER = 1_709_543_000_000, 253_402_300_800_000
GOOD = {
    "id": "x", "at": NOW, "expires": NOW, "u": "00000000-0000-0000-0000-000000000005",
    "price": (1250).to_bytes(2, "big"), "inner": {"until": NOW, "at": NOW}, "all": [NOW],
}  # fmt: skip
AT = "2024-03-04T09:03:20Z"
READ = {
    "id": "x", "at": AT, "expires": AT, "u": GOOD["u"], "price": Decimal("12.50"),
    "inner": {"until": AT, "at": AT}, "all": [AT],
}  # fmt: skip


def body(**changes: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(PLAIN), {**GOOD, **changes})
    return out.getvalue()


def read(decoder: AvroDecoder, raw: bytes) -> Any:
    found = json.loads(decoder(raw), parse_float=Decimal)
    assert datetime.fromisoformat(AT) == datetime(2024, 3, 4, 9, 3, 20, tzinfo=UTC)
    return json.loads(json.dumps(found, default=str).replace("+00:00", "Z"))


@pytest.mark.parametrize(
    ("changes", "becomes"),
    [
        ({}, {}), ({"expires": NEVER}, {"expires": NEVER}), ({"u": "none"}, {"u": "none"}),
        ({"at": -(2**62)}, {"at": -(2**62)}),
        ({"expires": NEVER, "u": "none"}, {"expires": NEVER, "u": "none"}),
        ({"inner": {"until": NEVER, "at": NOW}}, {"inner": {"until": NEVER, "at": NOW}}),
        ({"all": [NOW, NEVER]}, {"all": [NOW, NEVER]}), ({"expires": None}, {"expires": None}),
    ],
)  # fmt: skip
def test_the_other_members_are_read(changes: dict[str, Any], becomes: dict[str, Any]) -> None:
    decoder = AvroDecoder(json.dumps(TYPED))
    wanted = json.loads(json.dumps({**READ, **becomes}, default=str))
    assert read(decoder, body(**changes)) == wanted
    assert read(decoder, body(**changes)) == wanted


def test_bytes_that_are_no_value_are_still_refused() -> None:
    decoder = AvroDecoder(json.dumps(TYPED))
    raw = body(expires=NEVER)
    for spoilt in (raw[:-1], raw + b"x", b"", raw[:5]):
        with pytest.raises(BytesUnreadable):
            decoder(spoilt)


def test_named_types_are_read_without_their_logical_types_too() -> None:
    inner = {"type": "record", "name": "I", "fields": [{"name": "until", "type": MILLIS}]}
    outer = {"type": "record", "name": "T", "fields": [
        {"name": "id", "type": "string"}, {"name": "a", "type": "I"}]}  # fmt: skip
    plain = {"type": "record", "name": "I", "fields": [{"name": "until", "type": "long"}]}
    out = io.BytesIO()
    known: dict[str, Any] = {}
    fastavro.parse_schema(plain, known)
    fastavro.schemaless_writer(
        out, fastavro.parse_schema(outer, known), {"id": "x", "a": {"until": NEVER}}
    )
    decoder = AvroDecoder(json.dumps(outer), [json.dumps(inner)])
    assert json.loads(decoder(out.getvalue())) == {"id": "x", "a": {"until": NEVER}}
