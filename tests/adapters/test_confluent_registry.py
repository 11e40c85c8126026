"""The client keeps to the documented API: a stub in this process answers as the reference says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import avro.compatibility
import avro.errors
import avro.schema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.adapters.confluent_registry import (
    ConfluentClient,
    ConfluentSchemas,
    NotFramed,
    Reference,
    RegistryRefused,
    RegistryUnreachable,
    frame,
    unframe,
)
from homeostat.declare.schema import EventSchema, Field
from homeostat.ingest.schema_export import to_avro
from homeostat.testing.schema_checks import schema_registry_checks
from homeostat.testing.toy_home import Commands

_CONTENT = "application/vnd.schemaregistry.v1+json"


class Refusal(Exception):
    """The error body of the documented API."""

    def __init__(self, status: int, code: int, message: str) -> None:
        self.status, self.body = status, {"error_code": code, "message": message}


@dataclass
class Stub:
    """A registry after the API reference: subjects, schemas by id, compatibility, config."""

    subjects: dict[str, list[int]] = field(default_factory=dict)
    schemas: list[tuple[str, str]] = field(default_factory=list)
    modes: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    raw: tuple[int, bytes] | None = None

    def answer(self, method: str, target: str, body: Any) -> Any:
        parts = urlsplit(target)
        path = [unquote(part) for part in parts.path.strip("/").split("/")]
        match method, path:
            case "GET", ["subjects"]:
                return sorted(self.subjects)
            case "GET", ["schemas", "ids", number]:
                return self.by_id(int(number))
            case "GET", ["config"]:
                return {"compatibilityLevel": "BACKWARD"}
            case "GET", ["config", subject]:
                if subject not in self.modes:
                    raise Refusal(404, 40408, f"Subject '{subject}' does not have subject-level "
                                  "compatibility configured")  # fmt: skip
                return {"compatibilityLevel": self.modes[subject]}
            case "PUT", ["config", subject]:
                self.modes[subject] = body["compatibility"]
                return body
            case "GET", ["subjects", subject, "versions"]:
                return list(range(1, len(self.ids(subject)) + 1))
            case "GET", ["subjects", subject, "versions", version]:
                return self.version(subject, version)
            case "POST", ["subjects", subject, "versions"]:
                return {"id": self.register(subject, body)}
            case "POST", ["subjects", subject]:
                return self.lookup(subject, body)
            case "POST", ["compatibility", "subjects", subject, "versions", version]:
                found = self.version(subject, version)
                why = self.conflicts(subject, body, [found["schema"]])
                said: dict[str, Any] = {"is_compatible": not why}
                if parse_qs(parts.query).get("verbose") == ["true"] and why:
                    said["messages"] = why
                return said
        raise Refusal(404, 404, "HTTP 404 Not Found")

    def ids(self, subject: str) -> list[int]:
        if subject not in self.subjects:
            raise Refusal(404, 40401, f"Subject '{subject}' not found.")
        return self.subjects[subject]

    def by_id(self, number: int) -> dict[str, Any]:
        if not 1 <= number <= len(self.schemas):
            raise Refusal(404, 40403, f"Schema {number} not found")
        kind, text = self.schemas[number - 1]
        return {"schema": text} if kind == "AVRO" else {"schema": text, "schemaType": kind}

    def version(self, subject: str, version: str) -> dict[str, Any]:
        ids = self.ids(subject)
        number = len(ids) if version == "latest" else int(version)
        if number < 1:
            raise Refusal(422, 42202, "The specified version is not a valid version id.")
        if number > len(ids):
            raise Refusal(404, 40402, f"Version {version} not found.")
        found = {"subject": subject, "version": number, "id": ids[number - 1]}
        return {**found, **self.by_id(ids[number - 1])}

    def lookup(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        said = (body.get("schemaType", "AVRO"), body["schema"])
        for version, number in enumerate(self.ids(subject), 1):
            if self.schemas[number - 1] == said:
                return self.version(subject, str(version))
        raise Refusal(404, 40403, "Schema not found")

    def register(self, subject: str, body: dict[str, Any]) -> int:
        said = (body.get("schemaType", "AVRO"), body["schema"])
        ids = self.subjects.get(subject, [])
        why = self.conflicts(subject, body, [self.schemas[i - 1][1] for i in ids[-1:]])
        if why:
            raise Refusal(409, 409, f"Schema being registered is incompatible: {why}")
        if said not in self.schemas:
            self.schemas.append(said)
        number = self.schemas.index(said) + 1
        if number not in ids:
            self.subjects[subject] = [*ids, number]
        return number

    def conflicts(self, subject: str, body: dict[str, Any], earlier: list[str]) -> list[str]:
        if body.get("schemaType", "AVRO") != "AVRO":
            return []
        try:
            new = avro.schema.parse(body["schema"])
        except avro.errors.AvroException as error:
            raise Refusal(422, 42201, f"Invalid schema: {error}") from error
        if self.modes.get(subject) == "NONE":
            return []
        why: list[str] = []
        for text in earlier:
            checker = avro.compatibility.ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
            found = checker.get_compatibility(new, avro.schema.parse(text))
            why += [f"{{errorType:'{kind.name.upper()}'}}" for kind in found.incompatibilities]
        return why


@contextmanager
def served(stub: Stub) -> Iterator[str]:
    """Serve a stub on a port of its own; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            stub.asked.append((self.command, self.path, dict(self.headers.items())))
            size = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(size)) if size else None
            status, said = 200, b""
            try:
                said = json.dumps(stub.answer(self.command, self.path, body)).encode()
            except Refusal as refusal:
                status, said = refusal.status, json.dumps(refusal.body).encode()
            status, said = stub.raw or (status, said)
            self.send_response(status)
            self.send_header("Content-Type", _CONTENT)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def address(stub: Stub) -> Iterator[str]:
    with served(stub) as url:
        yield url


TAP = EventSchema("Tap", (Field("tap", "string"), Field("items", "integer")), "A tap.")
MORE = EventSchema("Tap", (*TAP.fields, Field("amount", "float", nullable=True)))
ODD = EventSchema("Tap", (*TAP.fields, Field("shop", "string")))


def text(schema: EventSchema) -> str:
    return json.dumps(to_avro(schema, "taps"))


def test_a_schema_is_registered_found_and_read_by_id(address: str) -> None:
    client = ConfluentClient(address)
    number = client.register("taps-value", text(TAP))
    assert client.register("taps-value", text(TAP)) == number
    assert client.register("other-value", text(TAP)) == number
    assert client.schema(number) == ("AVRO", text(TAP))
    latest = client.latest("taps-value")
    assert latest is not None
    assert latest == client.version("taps-value", 1) == client.lookup("taps-value", text(TAP))
    assert (latest.subject, latest.version, latest.id) == ("taps-value", 1, number)
    assert (latest.kind, latest.text) == ("AVRO", text(TAP))
    assert client.subjects() == ("other-value", "taps-value")
    client.register("taps-value", text(MORE))
    assert client.versions("taps-value") == (1, 2)


def test_what_is_not_there_is_none(address: str) -> None:
    client = ConfluentClient(address)
    assert client.versions("taps") == ()
    assert client.latest("taps") is None
    assert client.lookup("taps", text(TAP)) is None
    client.register("taps", text(TAP))
    assert client.version("taps", 7) is None
    assert client.lookup("taps", text(MORE)) is None


def test_compatibility_is_asked_before_registering(address: str) -> None:
    client = ConfluentClient(address)
    assert client.incompatibilities("taps", text(ODD)) == (), "no version refuses nothing"
    client.register("taps", text(TAP))
    assert client.incompatibilities("taps", text(MORE)) == ()
    [why] = client.incompatibilities("taps", text(ODD))
    assert "READER_FIELD_MISSING_DEFAULT_VALUE" in why
    assert client.incompatibilities("taps", text(ODD), version=1) == (why,)
    with pytest.raises(RegistryRefused, match="is incompatible") as refused:
        client.register("taps", text(ODD))
    assert (refused.value.status, refused.value.retryable) == (409, False)


def test_a_subject_has_a_mode(address: str) -> None:
    client = ConfluentClient(address)
    assert client.mode("taps") == "BACKWARD"
    client.set_mode("taps", "NONE")
    assert client.mode("taps") == "NONE"
    client.register("taps", text(TAP))
    assert client.register("taps", text(ODD)) == 2


def test_an_invalid_schema_is_refused_in_the_registrys_words(address: str) -> None:
    with pytest.raises(RegistryRefused, match=r"Invalid schema.*error 42201, HTTP 422") as refused:
        ConfluentClient(address).register("taps", '{"type": "nothing"}')
    assert refused.value.code == 42201


def test_other_kinds_of_schemas_say_so(address: str) -> None:
    client = ConfluentClient(address)
    number = client.register("taps", "{}", "JSON")
    assert client.schema(number) == ("JSON", "{}")
    found = client.lookup("taps", "{}", "JSON")
    assert found is not None
    assert found.kind == "JSON"
    assert client.lookup("taps", "{}") is None


def test_a_schema_is_asked_for_once(address: str, stub: Stub) -> None:
    client = ConfluentClient(address)
    number = client.register("taps", text(TAP))
    asked = len(stub.asked)
    assert client.schema(number) == client.schema(number)
    assert len(stub.asked) == asked + 1
    with pytest.raises(RegistryRefused, match="Schema 99 not found"):
        client.schema(99)


def test_requests_are_as_the_reference_says(address: str, stub: Stub) -> None:
    host = address.removeprefix("http://")
    client = ConfluentClient(f"http://me%40here:se%3Acret@{host}/")
    client.register("a/b c", text(TAP))
    client.incompatibilities("a/b c", text(TAP))
    (posted, path, headers), (_, asked, _) = stub.asked
    assert (posted, path) == ("POST", "/subjects/a%2Fb%20c/versions")
    assert asked == "/compatibility/subjects/a%2Fb%20c/versions/latest?verbose=true"
    assert headers["Content-Type"] == _CONTENT
    assert headers["Accept"].startswith(_CONTENT)
    assert headers["Authorization"] == "Basic bWVAaGVyZTpzZTpjcmV0"
    ConfluentClient(address, token="abc").subjects()
    assert stub.asked[-1][2]["Authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b"<html>", "the answer is no JSON"),
        (200, b"[]", "an answer without 'id'"),
        (302, b"", "HTTP 302 without an error of its own"),
        (502, b"Bad gateway", "HTTP 502 without an error of its own"),
        (500, b'{"error": "x"}', "HTTP 500 without an error of its own"),
    ],
)
def test_what_is_no_registry_is_said(
    address: str, stub: Stub, status: int, body: bytes, why: str
) -> None:
    stub.raw = (status, body)
    with pytest.raises(RegistryUnreachable, match=re.escape(why)) as found:
        ConfluentClient(address).register("taps", text(TAP))
    assert found.value.retryable
    assert len(stub.asked) == 1, "no redirection is followed"


def test_a_fault_of_the_registry_may_be_tried_again(address: str, stub: Stub) -> None:
    stub.raw = (500, b'{"error_code": 50001, "message": "Error in the backend data store"}')
    with pytest.raises(RegistryRefused, match="backend data store") as found:
        ConfluentClient(address).latest("taps")
    assert found.value.retryable


def test_no_registry_at_all() -> None:
    with served(Stub()) as url:
        port = url.rpartition(":")[2]
    with pytest.raises(RegistryUnreachable) as found:
        ConfluentClient(f"http://me:secret@127.0.0.1:{port}").subjects()
    assert "secret" not in str(found.value)
    for odd in ("file:///etc/passwd", "registry:8081", "http://"):
        with pytest.raises(RegistryUnreachable, match="not that of a web server"):
            ConfluentClient(odd)


NAMES = [name for name, _ in schema_registry_checks(lambda name: _schemas("", name))]


def _schemas(address: str, name: str) -> ConfluentSchemas:
    return ConfluentSchemas(ConfluentClient(address), lambda source: f"{name}-{source}")


@pytest.mark.parametrize("name", NAMES)
def test_the_registry_keeps_the_law(name: str, address: str) -> None:
    dict(schema_registry_checks(lambda registry: _schemas(address, registry)))[name]()


def test_a_source_is_the_values_of_its_topic(address: str, stub: Stub) -> None:
    registry = ConfluentSchemas(ConfluentClient(address))
    assert registry.register("taps", TAP) == 1
    assert list(stub.subjects) == ["taps-value"]
    assert registry.get("taps", 1).schema.fields == TAP.fields
    with pytest.raises(RegistryRefused):
        registry.register("taps", ODD)


@given(st.integers(0, 2**31 - 1), st.binary(max_size=20))
def test_a_framed_payload_comes_back(number: int, payload: bytes) -> None:
    message = frame(number, payload)
    assert message[:1] == b"\0"
    assert len(message) == 5 + len(payload)
    assert unframe(message) == (number, payload)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "0 bytes"),
        (b"\0\0\0\0", "4 bytes"),
        (b'{"tap": 1}', "the first byte is 123"),
        (b"\1" + bytes(20), "the first byte is 1"),
    ],
)
def test_what_has_no_frame_is_refused(message: bytes, why: str) -> None:
    with pytest.raises(NotFramed, match=why):
        unframe(message)


@pytest.mark.parametrize("number", [-1, 2**31])
def test_an_id_that_no_registry_gives_is_refused(number: int) -> None:
    with pytest.raises(NotFramed, match=f"schema id {number}"):
        frame(number, b"")


def test_the_schemas_that_a_schema_names(address: str, stub: Stub) -> None:
    client, said = ConfluentClient(address), {"name": "a.proto", "subject": "a/b", "version": 3}
    body = {"schemaType": "PROTOBUF", "schema": "AAAA", "references": [said]}
    stub.raw = 200, json.dumps(body).encode()
    reference = Reference("a.proto", "a/b", 3)
    assert client.file(7).references == (reference,)
    assert client.descriptor(7).text == client.descriptor(reference).text == "AAAA"
    assert client.referenced(reference).kind == "PROTOBUF"
    assert [path for _, path, _ in stub.asked] == [
        "/schemas/ids/7",
        "/schemas/ids/7?format=serialized",
        "/subjects/a%2Fb/versions/3?format=serialized",
        "/subjects/a%2Fb/versions/3",
    ]
    stub.raw = 200, json.dumps({**body, "schema": "syntax = 'proto3';"}).encode()
    with pytest.raises(RegistryUnreachable, match="format=serialized"):
        client.descriptor(7)


SYSTEM = """\
import homeostat as hs


class Tap(hs.Event):
    tap: str
    at: hs.Timestamp
    {more}


taps = hs.EventSource("taps", Tap, event_id="tap", event_time="at")
system = hs.System("taps", sources=(taps,))
"""


def test_declared_schemas_are_published(address: str, tmp_path: Path) -> None:
    file, run = tmp_path / "system.py", Commands(tmp_path)
    file.write_text(SYSTEM.format(more=""))
    nowhere = run("schemas", "publish")
    assert (nowhere.status, "name it with --registry" in nowhere.err) == (1, True)
    published = {
        "source": "taps", "subject": "taps-value", "compatibility": "BACKWARD", "version": 1,
        "refused": "",
    }  # fmt: skip
    for _ in range(2):
        assert run("schemas", "publish", "--registry", address, "--json").json == [published]

    (tmp_path / "homeostat.toml").write_text(
        f'[kafka]\nbrokers = "one:9092"\nregistry = "{address}"\n[kafka.sources.taps]\n'
        'topic = "card-taps"\n'
    )
    assert run("schemas", "publish", "--json").json == [{**published, "subject": "card-taps-value"}]
    file.write_text(SYSTEM.format(more="shop: str"))
    asked = run("schemas", "publish", "--dry-run", "--json")
    assert (asked.status, asked.json[0]["version"]) == (3, None)
    assert "READER_FIELD_MISSING_DEFAULT_VALUE" in asked.json[0]["refused"]
    refused = run("schemas", "publish", "taps")
    assert (refused.status, "incompatible" in refused.err) == (1, True)
    assert len(ConfluentClient(address).versions("card-taps-value")) == 1
    file.write_text(SYSTEM.format(more="shop: str | None"))
    assert run("schemas", "publish", "--json").json[0]["version"] == 2
