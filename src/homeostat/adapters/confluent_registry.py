"""A Confluent-compatible schema registry over its REST API, and the framing of its messages.

Written after the published API reference (docs.confluent.io, Schema Registry API); Redpanda,
Karapace and Apicurio speak the same.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from homeostat.core.errors import HomeostatError
from homeostat.declare.schema import EventSchema
from homeostat.ingest.schema_export import from_avro, to_avro
from homeostat.ingest.schema_versions import SchemaVersion, UnknownSchemaVersion

__all__ = [
    "ConfluentClient",
    "ConfluentSchemas",
    "NotFramed",
    "Reference",
    "RegisteredSchema",
    "RegistryRefused",
    "RegistryUnreachable",
    "SchemaFile",
    "frame",
    "unframe",
]

_JSON = "application/vnd.schemaregistry.v1+json"
_MAGIC = 0
_HEADER = 5
_NO_SUBJECT, _NO_VERSION, _NO_SCHEMA, _NO_SUBJECT_MODE = 40401, 40402, 40403, 40408


class RegistryUnreachable(HomeostatError, ConnectionError):
    """The registry did not answer, or not as a registry; asking again later may help."""

    retryable = True

    def __init__(self, address: str, found: str) -> None:
        super().__init__(
            f"schema registry {address}: {found}; allowed: a registry that answers in JSON; check "
            "the address, the network and the credentials, and try again."
        )


class RegistryRefused(HomeostatError, ValueError):
    """The registry's own answer: `code` is its error code, `status` that of HTTP."""

    def __init__(self, address: str, status: int, code: int, message: str) -> None:
        self.status, self.code, self.message = status, code, message
        self.retryable = status >= 500 or status == 429
        super().__init__(
            f"schema registry {address}: {message} (error {code}, HTTP {status}); allowed: what "
            "the registry accepts; change the request as it says."
        )


class NotFramed(HomeostatError, ValueError):
    """Bytes that do not begin with a schema id."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"Confluent message: {found}; allowed: a byte 0, then the schema id in 4 bytes; "
            "declare the topic's format as plain JSON if it has no schema ids."
        )


def frame(schema_id: int, payload: bytes) -> bytes:
    """Return a payload in Confluent's wire format: a byte 0, the schema id, the payload.

    >>> frame(258, b"x")
    b'\\x00\\x00\\x00\\x01\\x02x'
    """
    if not 0 <= schema_id < 2**31:
        raise NotFramed(f"schema id {schema_id}")
    return bytes([_MAGIC]) + schema_id.to_bytes(4, "big") + payload


def unframe(message: bytes) -> tuple[int, bytes]:
    """Return the schema id and the payload of a message in Confluent's wire format.

    >>> unframe(frame(258, b"x"))
    (258, b'x')
    """
    if len(message) < _HEADER:
        raise NotFramed(f"{len(message)} bytes")
    if message[0] != _MAGIC:
        raise NotFramed(f"the first byte is {message[0]}")
    return int.from_bytes(message[1:_HEADER], "big"), bytes(message[_HEADER:])


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema as the registry has it: `kind` is AVRO, JSON or PROTOBUF, `text` the schema."""

    subject: str
    version: int
    id: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Reference:
    """Another schema that a schema names: `name` is how, subject and version where it is."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """A schema as text, or base64 of its descriptor, and the schemas it names."""

    kind: str
    text: str
    references: tuple[Reference, ...]


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirection: the credentials are for one address."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Refuse, so that the answer is an error."""


class ConfluentClient:
    """Asks a registry; one request per call, no state but the schemas seen, which never change.

    Args:
        url: the registry's address; a name and password in it are sent as credentials.
        token: a bearer token, instead of a name and password.
        timeout_s: how long one answer may take.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self.address = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        if parts.scheme not in ("http", "https") or not host:
            raise RegistryUnreachable(self.address, "the address is not that of a web server")
        self._timeout_s = timeout_s
        self._headers = {"Accept": f"{_JSON}, application/json", "Content-Type": _JSON}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        elif parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        self._open = build_opener(_NoRedirects).open
        self._by_id: dict[int, SchemaFile] = {}

    def subjects(self) -> tuple[str, ...]:
        """Return the names of all subjects."""
        return tuple(self._ask("GET", "/subjects"))

    def register(self, subject: str, text: str, kind: str = "AVRO") -> int:
        """Register a schema under a subject and return its id; again, and it keeps its id.

        Raises `RegistryRefused`: status 409 if it is incompatible, code 42201 if it is invalid.
        """
        path = f"/subjects/{_part(subject)}/versions"
        return int(self._said(self._ask("POST", path, _body(text, kind)), "id"))

    def schema(self, schema_id: int) -> tuple[str, str]:
        """Return kind and text of the schema with an id, as in a message's frame."""
        found = self.file(schema_id)
        return found.kind, found.text

    def file(self, schema_id: int) -> SchemaFile:
        """Return the schema with an id, and which others it names."""
        if schema_id not in self._by_id:
            self._by_id[schema_id] = self._file(f"/schemas/ids/{schema_id}")
        return self._by_id[schema_id]

    def referenced(self, reference: Reference) -> SchemaFile:
        """Return a schema that another one names."""
        return self._file(f"/subjects/{_part(reference.subject)}/versions/{reference.version}")

    def descriptor(self, of: int | Reference) -> SchemaFile:
        """Return a Protobuf schema as its FileDescriptorProto in base64."""
        path = f"/schemas/ids/{of}"
        if isinstance(of, Reference):
            path = f"/subjects/{_part(of.subject)}/versions/{of.version}"
        found = self._file(f"{path}?format=serialized")
        try:
            base64.b64decode(found.text, validate=True)
        except ValueError as error:
            raise RegistryUnreachable(
                self.address, f"{path} is no descriptor: it does not know format=serialized"
            ) from error
        return found

    def _file(self, path: str) -> SchemaFile:
        found = self._ask("GET", path)
        references = tuple(
            Reference(*(self._said(said, key) for key in ("name", "subject", "version")))
            for said in found.get("references") or ()
        )
        text = str(self._said(found, "schema"))
        return SchemaFile(found.get("schemaType", "AVRO"), text, references)

    def versions(self, subject: str) -> tuple[int, ...]:
        """Return the versions of a subject, none if there is no such subject."""
        path = f"/subjects/{_part(subject)}/versions"
        return tuple(self._unless((_NO_SUBJECT,), lambda: self._ask("GET", path)) or ())

    def version(self, subject: str, version: int | str) -> RegisteredSchema | None:
        """Return one version of a subject, or the "latest"; None if there is none."""
        path = f"/subjects/{_part(subject)}/versions/{version}"
        found = self._unless((_NO_SUBJECT, _NO_VERSION), lambda: self._ask("GET", path))
        return None if found is None else self._registered(found)

    def latest(self, subject: str) -> RegisteredSchema | None:
        """Return the newest version of a subject, None if it has none."""
        return self.version(subject, "latest")

    def lookup(self, subject: str, text: str, kind: str = "AVRO") -> RegisteredSchema | None:
        """Return the version of a subject that has this very schema, None if there is none."""
        path = f"/subjects/{_part(subject)}"
        found = self._unless(
            (_NO_SUBJECT, _NO_SCHEMA), lambda: self._ask("POST", path, _body(text, kind))
        )
        return None if found is None else self._registered(found)

    def incompatibilities(
        self, subject: str, text: str, kind: str = "AVRO", version: int | str = "latest"
    ) -> tuple[str, ...]:
        """Return why the registry would refuse a schema, in its own words; nothing if it would not.

        A subject without versions refuses nothing.
        """
        path = f"/compatibility/subjects/{_part(subject)}/versions/{version}?verbose=true"
        found = self._unless(
            (_NO_SUBJECT, _NO_VERSION), lambda: self._ask("POST", path, _body(text, kind))
        )
        if found is None or self._said(found, "is_compatible"):
            return ()
        return tuple(found.get("messages") or ("the registry does not say why",))

    def mode(self, subject: str) -> str:
        """Return the compatibility mode of a subject: its own, or else the registry's."""
        path = f"/config/{_part(subject)}"
        found = self._unless((_NO_SUBJECT, _NO_SUBJECT_MODE), lambda: self._ask("GET", path))
        return str(self._said(found or self._ask("GET", "/config"), "compatibilityLevel"))

    def set_mode(self, subject: str, mode: str) -> None:
        """Give a subject a compatibility mode of its own."""
        body = {"compatibility": mode}
        self._ask("PUT", f"/config/{_part(subject)}", body)

    def _unless(self, codes: tuple[int, ...], ask: Callable[[], Any]) -> Any:
        """Return an answer, or None where the registry says one of `codes`."""
        try:
            return ask()
        except RegistryRefused as refused:
            if refused.code in codes:
                return None
            raise

    def _registered(self, found: Any) -> RegisteredSchema:
        subject, version, schema_id, text = (
            self._said(found, key) for key in ("subject", "version", "id", "schema")
        )
        kind = found.get("schemaType", "AVRO")
        return RegisteredSchema(subject, int(version), int(schema_id), kind, text)

    def _said(self, answer: Any, key: str) -> Any:
        if not isinstance(answer, dict) or key not in answer:
            raise RegistryUnreachable(self.address, f"an answer without {key!r}")
        return answer[key]

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.address + path, data, self._headers, method=method)
        try:
            with self._open(request, timeout=self._timeout_s) as answer:
                return json.loads(answer.read())
        except HTTPError as error:
            with error:
                raise self._refused(error.code, error.read()) from None
        except (URLError, OSError, HTTPException) as error:
            raise RegistryUnreachable(self.address, str(getattr(error, "reason", error))) from error
        except ValueError as error:
            raise RegistryUnreachable(self.address, "the answer is no JSON") from error

    def _refused(self, status: int, body: bytes) -> HomeostatError:
        try:
            said = json.loads(body)
            code, message = int(said["error_code"]), str(said["message"])
        except (ValueError, KeyError, TypeError):
            return RegistryUnreachable(self.address, f"HTTP {status} without an error of its own")
        return RegistryRefused(self.address, status, code, message)


class ConfluentSchemas:
    """A `SchemaRegistry` in a Confluent registry: one subject per source, schemas in Avro.

    The registry judges compatibility by itself, and gives a schema that an earlier version had
    that version again; so `register` may return less than the newest. `subject_of` names the
    subject of a source; by default that of the values of a topic of the same name.
    """

    def __init__(
        self,
        client: ConfluentClient,
        subject_of: Callable[[str], str] = lambda source: f"{source}-value",
    ) -> None:
        self._client, self._subject_of = client, subject_of

    def register(self, source: str, schema: EventSchema) -> int:
        """Register a schema and return its version; `RegistryRefused` if it may not follow."""
        subject, text = self._subject_of(source), json.dumps(to_avro(schema, source))
        self._client.register(subject, text)
        found = self._client.lookup(subject, text)
        if found is None:
            raise RegistryUnreachable(self._client.address, f"{subject!r} vanished")
        return found.version

    def list(self, source: str) -> tuple[SchemaVersion, ...]:
        """Return the versions of a source, the first one first."""
        subject = self._subject_of(source)
        found = [self._client.version(subject, v) for v in self._client.versions(subject)]
        return tuple(_version(source, registered) for registered in found if registered)

    def get(self, source: str, version: int) -> SchemaVersion:
        """Return one version; raise `UnknownSchemaVersion` if there is none."""
        subject = self._subject_of(source)
        found = self._client.version(subject, version)
        if found is None:
            raise UnknownSchemaVersion(source, version, self._client.versions(subject))
        return _version(source, found)

    def close(self) -> None:
        """Nothing stays open between calls."""


def _version(source: str, found: RegisteredSchema) -> SchemaVersion:
    return SchemaVersion(source, found.version, from_avro(json.loads(found.text)))


def _body(text: str, kind: str) -> dict[str, Any]:
    # A registry older than schema types knows Avro alone, and refuses the word.
    return {"schema": text} if kind == "AVRO" else {"schema": text, "schemaType": kind}


def _part(name: str) -> str:
    return quote(name, safe="")
