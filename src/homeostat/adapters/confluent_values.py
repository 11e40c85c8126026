"""Values in Confluent's wire format become JSON: the registry knows the schema each one names."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from homeostat.adapters.avro_values import AvroDecoder, BytesUnreadable, SchemaUnreadable
from homeostat.adapters.confluent_registry import (
    ConfluentClient,
    NotFramed,
    Reference,
    RegistryRefused,
    SchemaFile,
    unframe,
)
from homeostat.adapters.protobuf_values import ProtobufDecoder
from homeostat.ingest.refusals import Refusal

__all__ = ["ConfluentValues"]

_NOT_FOUND = 404

_Decode = Callable[[bytes], bytes]


class ConfluentValues:
    """Turns messages into JSON, or into the record of a refusal; a schema is asked for once.

    What is wrong with a message refuses that message. What is wrong with the registry is raised:
    the message waits until the registry answers.
    """

    def __init__(self, client: ConfluentClient) -> None:
        self._client = client
        self._decoders: dict[int, _Decode | Refusal] = {}

    def __call__(self, message: bytes) -> bytes:
        """Return what goes into the log for a message.

        Raises `RegistryUnreachable`, or `RegistryRefused` if it is not the schema that is missing.
        """
        try:
            schema_id, body = unframe(message)
        except NotFramed as odd:
            return Refusal("undecodable", str(odd), message).record()
        decode = self._decoders.get(schema_id)
        if decode is None:
            decode = self._decoders[schema_id] = self._decoder(schema_id)
        if isinstance(decode, Refusal):
            return Refusal(decode.reason, decode.detail, message).record()
        try:
            return decode(body)
        except BytesUnreadable as odd:
            detail = f"schema {schema_id}: {odd.found}"
            return Refusal("undecodable", detail, message).record()

    def _decoder(self, schema_id: int) -> _Decode | Refusal:
        try:
            file = self._client.file(schema_id)
            if file.kind == "AVRO":
                return AvroDecoder(file.text, (named.text for _, named in self._named(file)))
            if file.kind == "PROTOBUF":
                file = self._client.descriptor(schema_id)
                named = ((name, inner.text) for name, inner in self._named(file, binary=True))
                return ProtobufDecoder(file.text, named)
            if file.kind == "JSON":
                return bytes
        except SchemaUnreadable as odd:
            return Refusal("unknown_schema", f"schema {schema_id}: {odd.found}", b"")
        except RegistryRefused as refused:
            if refused.status != _NOT_FOUND:
                raise
            return Refusal("unknown_schema", f"schema {schema_id}: {refused.message}", b"")
        return Refusal("unknown_schema", f"schema {schema_id} is in {file.kind}", b"")

    def _named(self, file: SchemaFile, *, binary: bool = False) -> Iterator[tuple[str, SchemaFile]]:
        """Yield the schemas that a schema names, each once, those first that others name."""
        seen: set[str] = set()

        def visit(references: tuple[Reference, ...]) -> Iterator[tuple[str, SchemaFile]]:
            for reference in references:
                if reference.name in seen:
                    continue
                seen.add(reference.name)
                ask = self._client.descriptor if binary else self._client.referenced
                found = ask(reference)
                yield from visit(found.references)
                yield reference.name, found

        yield from visit(file.references)
