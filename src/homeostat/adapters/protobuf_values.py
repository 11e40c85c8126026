"""Protobuf values become JSON, by the descriptors that a registry keeps."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from homeostat.adapters.avro_values import BytesUnreadable, SchemaUnreadable, to_json
from homeostat.core.errors import MissingExtra

__all__ = ["ProtobufDecoder"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STANDARD = (
    "any", "source_context", "type", "api", "duration", "empty", "field_mask", "struct",
    "timestamp", "wrappers",
)  # fmt: skip
"""The files that every schema may import, those first that others import."""
_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


class ProtobufDecoder:
    """Reads messages of one file, in Confluent's framing: which message it is, then its bytes.

    Fields have the names of the schema, 64-bit integers are numbers, `Timestamp` is ISO 8601 (to
    the microsecond), enumerations are names, bytes base64. A field that knows whether it was set
    is left out where it was not; others have their zero.

    Args:
        file: the FileDescriptorProto in base64.
        named: (name, the same) of each file it imports, those first that others import.
    """

    def __init__(self, file: str, named: Iterable[tuple[str, str]] = ()) -> None:
        try:
            from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
            from google.protobuf.message import DecodeError
        except ModuleNotFoundError as missing:
            raise MissingExtra("a Protobuf value", "kafka") from missing
        self._errors: type[Exception] = DecodeError
        self._class_of = message_factory.GetMessageClass
        pool = descriptor_pool.DescriptorPool()
        try:
            for standard in _STANDARD:
                pool.AddSerializedFile(_standard_file(standard))
            for name, text in (*named, ("value.proto", file)):
                made = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text))
                made.name = name
                pool.AddSerializedFile(made.SerializeToString())
            self._file = pool.FindFileByName("value.proto")
        except (TypeError, KeyError, DecodeError) as error:
            raise SchemaUnreadable("Protobuf", f"{type(error).__name__}: {error}") from error
        self._classes: dict[tuple[int, ...], Any] = {}

    def __call__(self, body: bytes) -> bytes:
        """Return the JSON of a message; raise `BytesUnreadable`."""
        path, begin = _path(body)
        message = self._class(path)()
        try:
            message.ParseFromString(body[begin:])
        except self._errors as error:
            raise BytesUnreadable("Protobuf", "the bytes are no message of its type") from error
        return to_json(_fields(message))

    def _class(self, path: tuple[int, ...]) -> Any:
        """Return the class of the message at a path: its place in the file, then inside others."""
        if path not in self._classes:
            places = list(self._file.message_types_by_name.values())
            found = None
            for place in path:
                if not 0 <= place < len(places):
                    raise BytesUnreadable("Protobuf", f"its schema has no message {list(path)}")
                found = places[place]
                places = list(found.nested_types)
            self._classes[path] = self._class_of(found)
        return self._classes[path]


def _standard_file(name: str) -> bytes:
    from importlib import import_module

    descriptor: Any = import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR
    raw: bytes = descriptor.serialized_pb
    return raw


def _path(body: bytes) -> tuple[tuple[int, ...], int]:
    """Return the indexes of the message, and where its bytes begin; a byte 0 is the first one."""
    length, at = _varint(body, 0)
    if length == 0:
        return (0,), at
    if not 0 < length <= 32:
        raise BytesUnreadable("Protobuf", f"a path of {length} messages")
    path = []
    for _ in range(length):
        place, at = _varint(body, at)
        path.append(place)
    return tuple(path), at


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return a zigzag number of at most five bytes, and where the next thing begins.

    >>> _varint(bytes([4]), 0)
    (2, 1)
    """
    raw = shift = 0
    while shift < 35:
        if at >= len(body):
            raise BytesUnreadable("Protobuf", "it ends before its message begins")
        byte, at = body[at], at + 1
        raw |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (raw >> 1) ^ -(raw & 1), at
    raise BytesUnreadable("Protobuf", "it does not say which message it is")


def _fields(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            found[field.name] = _several(field, getattr(message, field.name))
        elif not field.has_presence or message.HasField(field.name):
            found[field.name] = _value(field, getattr(message, field.name))
    return found


def _several(field: Any, values: Any) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        inner = kind.fields_by_name["value"]
        return {str(key): _value(inner, values[key]) for key in values}
    return [_value(field, value) for value in values]


def _value(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return value if named is None else named.name
    if field.message_type is None:
        return value
    name = field.message_type.full_name
    if name == "google.protobuf.Timestamp":
        try:
            return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
        except OverflowError:
            return f"{value.seconds} s"  # no instant, and the intake says so
    if name == "google.protobuf.Duration":
        return value.seconds + value.nanos / 1e9
    if name in _WRAPPERS:
        return value.value
    return _fields(value)
