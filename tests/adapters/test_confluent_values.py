"""Avro, Protobuf and JSON in Confluent's wire format become what the intake validates."""

from __future__ import annotations

import base64
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import avro.io
import avro.schema
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.adapters.confluent_registry import (
    ConfluentClient,
    Reference,
    RegistryRefused,
    RegistryUnreachable,
    SchemaFile,
    frame,
)
from homeostat.adapters.confluent_values import ConfluentValues
from homeostat.core.clock import from_micros
from homeostat.ingest.decode import PayloadDecoder
from homeostat.ingest.refusals import refusal_of

AT = datetime(2024, 5, 1, 12, 30, 0, 123456, tzinfo=UTC)


class Tap(hs.Event):
    tap: str
    count: int
    amount: float | None
    open: bool
    at: hs.Timestamp


def instant(unit: str) -> dict[str, str]:
    return {"type": "long", "logicalType": f"timestamp-{unit}"}


def record(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": field, "type": kind} for field, kind in fields.items()],
    }


TAP = record(
    "Tap",
    tap="string",
    count="int",
    amount=["null", "double"],
    open="boolean",
    at=instant("micros"),
)
ROW = {"tap": "ü1", "count": 3, "amount": 2.5, "open": True, "at": AT}


class Registry(ConfluentClient):
    """A registry in memory; `files` by id, `others` by subject."""

    def __init__(self, *files: SchemaFile, **others: SchemaFile) -> None:
        super().__init__("http://registry")
        self.files, self.others, self.asked = files, others, 0

    def file(self, schema_id: int) -> SchemaFile:
        self.asked += 1
        if schema_id > len(self.files):
            raise RegistryRefused(self.address, 404, 40403, f"Schema {schema_id} not found")
        return self.files[schema_id - 1]

    def referenced(self, reference: Reference) -> SchemaFile:
        return self.others[reference.subject]

    def descriptor(self, of: int | Reference) -> SchemaFile:
        return self.file(of) if isinstance(of, int) else self.referenced(of)


def avro_file(schema: Any, *references: Reference) -> SchemaFile:
    return SchemaFile("AVRO", json.dumps(schema), references)


def written(schema: Any, row: Any) -> bytes:
    """Write a value by another implementation than the one that reads it."""
    out = io.BytesIO()
    avro.io.DatumWriter(avro.schema.parse(json.dumps(schema))).write(
        row, avro.io.BinaryEncoder(out)
    )
    return out.getvalue()


def read(schema: Any, row: Any) -> Any:
    decoded = ConfluentValues(Registry(avro_file(schema)))(frame(1, written(schema, row)))
    return json.loads(decoded)


def test_an_avro_record_is_read_as_the_event(capsys: pytest.CaptureFixture[str]) -> None:
    values = ConfluentValues(Registry(avro_file(TAP)))
    payload = values(frame(1, written(TAP, ROW)))
    found = PayloadDecoder(Tap.schema).decode([payload])
    assert found.faults == []
    assert {name: getattr(found.rows[0], name) for name in ROW} == ROW


@given(
    tap=st.text(max_size=20),
    count=st.integers(-(2**31), 2**31 - 1),
    amount=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    at=st.integers(0, 2**52).map(from_micros),
)
def test_any_avro_record_keeps_its_values(
    tap: str, count: int, amount: float | None, at: datetime
) -> None:
    row = {"tap": tap, "count": count, "amount": amount, "open": False, "at": at}
    values = ConfluentValues(Registry(avro_file(TAP)))
    found = PayloadDecoder(Tap.schema).decode([values(frame(1, written(TAP, row)))])
    assert [{name: getattr(r, name) for name in row} for r in found.rows] == [row]


def test_kinds_that_an_event_may_be_written_in() -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    cases: list[tuple[Any, Any, Any]] = [
        (instant("millis"), datetime(2024, 5, 1, tzinfo=UTC), "2024-05-01T00:00:00Z"),
        (decimal, Decimal("12.50"), 12.5),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "B"),
        ("bytes", b"\x00\x01", base64.b64encode(b"\x00\x01").decode()),
        ({"type": "array", "items": "int"}, [1, 2], [1, 2]),
        ({"type": "map", "values": "int"}, {"a": 1}, {"a": 1}),
        (record("Inner", n="long"), {"n": 2**40}, {"n": 2**40}),
        ("float", 0.5, 0.5),
        (["null", "string", "long"], 7, 7),
    ]
    for kind, value, expected in cases:
        assert read(record("Odd", x=kind), {"x": value}) == {"x": expected}, kind


def test_a_float_that_is_no_number_reaches_the_intake_as_such() -> None:
    schema = record("Odd", amount="double", at=instant("micros"))
    values = ConfluentValues(Registry(avro_file(schema)))
    payload = values(frame(1, written(schema, {"amount": float("nan"), "at": AT})))
    fault = PayloadDecoder(Tap.schema).decode([payload]).faults[0]
    assert fault.reason == "not_finite:amount"


def test_a_record_that_names_other_schemas() -> None:
    money = record("Money", amount="double")
    odd = {**record("Outer", price="Money"), "namespace": ""}
    values = ConfluentValues(
        Registry(avro_file(odd, Reference("Money", "money", 1)), money=avro_file(money))
    )
    body = written(record("Outer", price=money), {"price": {"amount": 1.5}})
    assert json.loads(values(frame(1, body))) == {"price": {"amount": 1.5}}


def test_json_in_the_wire_format_is_itself() -> None:
    values = ConfluentValues(Registry(SchemaFile("JSON", "{}", ())))
    assert values(frame(1, b'{"a":1}')) == b'{"a":1}'


def refusal(values: ConfluentValues, message: bytes) -> tuple[str, str]:
    found = refusal_of(values(message))
    assert found is not None
    assert found.received == message
    return found.reason, found.detail


def test_what_cannot_be_read_is_refused_with_its_reason() -> None:
    registry = Registry(
        avro_file(TAP), SchemaFile("AVRO", '{"type": "strange"}', ()), SchemaFile("XML", "", ()),
        SchemaFile("PROTOBUF", encoded(tap_proto()), ()),
    )  # fmt: skip
    values = ConfluentValues(registry)
    body = written(TAP, ROW)
    assert refusal(values, b'{"a": 1}')[0] == "undecodable"
    assert refusal(values, b"")[0] == "undecodable"
    assert refusal(values, frame(1, body[:-1]))[0] == "undecodable"
    assert refusal(values, frame(1, body + b"xy")) == (
        "undecodable", "schema 1: 2 bytes are left over",
    )  # fmt: skip
    assert refusal(values, frame(2, body))[0] == "unknown_schema"
    assert refusal(values, frame(3, body)) == ("unknown_schema", "schema 3 is in XML")
    assert refusal(values, frame(4, body))[0] == "unknown_schema"
    asked = registry.asked
    for _ in range(3):
        assert refusal(values, frame(99, body))[0] == "unknown_schema"
    assert registry.asked == asked + 1, "a schema is asked for once"


@given(body=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    values = ConfluentValues(Registry(avro_file(TAP), proto_file(), avro_file("string")))
    for number in (1, 2, 3):
        made = values(frame(number, body))
        refusal = refusal_of(made)
        if refusal is None:
            json.loads(made)
        else:
            assert refusal.received == frame(number, body)


def test_a_registry_that_fails_refuses_no_message() -> None:
    class Broken(Registry):
        def file(self, schema_id: int) -> SchemaFile:
            if schema_id == 1:
                raise RegistryUnreachable(self.address, "it is away")
            raise RegistryRefused(self.address, 500, 50001, "Error in the backend data store")

    values = ConfluentValues(Broken())
    with pytest.raises(RegistryUnreachable):
        values(frame(1, b"x"))
    with pytest.raises(RegistryRefused, match="backend"):
        values(frame(2, b"x"))


# Protobuf: what `protoc` makes of
#   message Shop { string city = 1; }             (in shop.proto)
#   message Other {}
#   message Tap { string tap = 1; int64 count = 2; optional double amount = 3; bool open = 4;
#     Timestamp at = 5; enum Kind { IN = 0; OUT = 1; } Kind kind = 6; Shop shop = 7;
#     repeated uint64 many = 8; bytes raw = 9; DoubleValue wrapped = 10; map<string, int32> by = 11;
#     message Inner { string name = 1; } }

_F = descriptor_pb2.FieldDescriptorProto


def shop_proto() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", syntax="proto3")
    shop = file.message_type.add(name="Shop")
    shop.field.add(name="city", number=1, type=_F.TYPE_STRING, label=_F.LABEL_OPTIONAL)
    return file


def tap_proto() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="tap.proto", syntax="proto3")
    file.dependency.extend(
        ["shop.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"]
    )
    file.message_type.add(name="Other")
    tap = file.message_type.add(name="Tap")
    tap.enum_type.add(name="Kind").value.extend(
        [
            descriptor_pb2.EnumValueDescriptorProto(name="IN", number=0),
            descriptor_pb2.EnumValueDescriptorProto(name="OUT", number=1),
        ]
    )
    for number, (name, kind, of) in enumerate(
        [
            ("tap", _F.TYPE_STRING, ""), ("count", _F.TYPE_INT64, ""),
            ("amount", _F.TYPE_DOUBLE, ""), ("open", _F.TYPE_BOOL, ""),
            ("at", _F.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
            ("kind", _F.TYPE_ENUM, ".Tap.Kind"), ("shop", _F.TYPE_MESSAGE, ".Shop"),
            ("many", _F.TYPE_UINT64, ""), ("raw", _F.TYPE_BYTES, ""),
            ("wrapped", _F.TYPE_MESSAGE, ".google.protobuf.DoubleValue"),
            ("by", _F.TYPE_MESSAGE, ".Tap.ByEntry"),
        ],
        1,
    ):  # fmt: skip
        several = _F.LABEL_REPEATED if name in ("many", "by") else _F.LABEL_OPTIONAL
        field = tap.field.add(name=name, number=number, type=kind, label=several)
        if of:
            field.type_name = of
    tap.field[2].proto3_optional = True
    tap.field[2].oneof_index = 0
    tap.oneof_decl.add(name="_amount")
    entry = tap.nested_type.add(name="ByEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_F.TYPE_STRING, label=_F.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=_F.TYPE_INT32, label=_F.LABEL_OPTIONAL)
    inner = tap.nested_type.add(name="Inner")
    inner.field.add(name="name", number=1, type=_F.TYPE_STRING, label=_F.LABEL_OPTIONAL)
    return file


def encoded(file: descriptor_pb2.FileDescriptorProto) -> str:
    return base64.b64encode(file.SerializeToString()).decode()


def proto_file() -> SchemaFile:
    file = tap_proto()
    del file.dependency[0]
    del file.message_type[1].field[6]
    return SchemaFile("PROTOBUF", encoded(file), ())


def message(name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for module in ("timestamp", "wrappers"):
        pool.AddSerializedFile(
            __import__(f"google.protobuf.{module}_pb2", fromlist=["x"]).DESCRIPTOR.serialized_pb
        )
    for file in (shop_proto(), tap_proto()):
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()


def proto_values() -> ConfluentValues:
    main = SchemaFile("PROTOBUF", encoded(tap_proto()), (Reference("shop.proto", "shop", 1),))
    shop = SchemaFile("PROTOBUF", encoded(shop_proto()), ())
    return ConfluentValues(Registry(main, shop=shop))


def test_a_protobuf_message_is_read_as_the_event() -> None:
    tap = message("Tap")
    tap.tap, tap.count, tap.amount, tap.open = "ü1", 2**53 + 1, 2.5, True
    tap.at.FromDatetime(AT)
    tap.kind, tap.shop.city, tap.raw, tap.wrapped.value = 1, "Bern", b"\x00", 0.0
    tap.many.extend([1, 2**63])
    tap.by["x"] = 4
    payload = proto_values()(frame(1, bytes([2, 2]) + tap.SerializeToString()))
    assert json.loads(payload) == {
        "tap": "ü1", "count": 2**53 + 1, "amount": 2.5, "open": True,
        "at": "2024-05-01T12:30:00.123456Z", "kind": "OUT", "shop": {"city": "Bern"},
        "many": [1, 2**63], "raw": "AA==", "wrapped": 0.0, "by": {"x": 4},
    }  # fmt: skip
    found = PayloadDecoder(Tap.schema).decode([payload])
    assert (found.faults, found.rows[0].at) == ([], AT)


def test_what_a_protobuf_message_leaves_out() -> None:
    payload = json.loads(proto_values()(frame(1, bytes([2, 2]))))
    assert payload == {
        "tap": "", "count": 0, "open": False, "kind": "IN", "many": [], "raw": "", "by": {},
    }  # fmt: skip


def test_which_message_of_the_file_it_is() -> None:
    inner = message("Tap.Inner")
    inner.name = "x"
    values = proto_values()
    assert json.loads(values(frame(1, b"\x00"))) == {}
    nested = bytes([4, 2, 2]) + inner.SerializeToString()
    assert json.loads(values(frame(1, nested))) == {"name": "x"}
    assert "no message [7]" in refusal(values, frame(1, bytes([2, 14])))[1]
    assert "ends before" in refusal(values, frame(1, b"\x80"))[1]
    assert "which message" in refusal(values, frame(1, b"\x80" * 9))[1]
    assert "a path of" in refusal(values, frame(1, b"\x01"))[1]
    assert "no message of its type" in refusal(values, frame(1, bytes([0, 10, 99])))[1]


def test_an_instant_that_is_none_is_left_to_the_intake() -> None:
    tap = message("Tap")
    tap.at.seconds = 2**60
    payload = proto_values()(frame(1, bytes([2, 2]) + tap.SerializeToString()))
    fault = PayloadDecoder(Tap.schema).decode([payload]).faults[0]
    assert fault.reason == "invalid_field:at"
