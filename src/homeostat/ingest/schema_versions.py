"""The versions of an event schema, and the port of what keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import canonical_json, content_hash
from homeostat.declare.schema import EventSchema, Field

__all__ = ["SchemaRegistry", "SchemaVersion", "UnknownSchemaVersion", "content_of", "schema_text"]


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One version of a source's schema; versions count from 1 in the order they were in force."""

    source: str
    version: int
    schema: EventSchema


class SchemaRegistry(Protocol):
    """Keeps every version of every source's schema, for good.

    Laws, checked by `homeostat.testing.schema_registry_checks`: registering the schema in force
    again changes nothing; a version never changes; versions of a source are listed from the first
    to the one in force.
    """

    def register(self, source: str, schema: EventSchema) -> int:
        """Put a schema in force and return its version."""

    def list(self, source: str) -> tuple[SchemaVersion, ...]:
        """Return the versions of a source, the first one first; none if it has none."""

    def get(self, source: str, version: int) -> SchemaVersion:
        """Return one version; raise `UnknownSchemaVersion` if there is none."""

    def close(self) -> None:
        """Release what is open."""


class UnknownSchemaVersion(HomeostatError, LookupError):
    """A version that was never registered."""

    def __init__(self, source: str, version: int, known: Sequence[int]) -> None:
        self.source, self.version, self.known = source, version, tuple(known)
        listed = ", ".join(map(str, known)) or "none are registered"
        super().__init__(
            f"schemas of {source!r}: no version {version}; allowed: {listed}; name one of those, "
            "or register a schema with `homeostat apply`"
        )


def content_of(schema: EventSchema) -> str:
    """Return the hash of what readers and writers of events depend on: the fields.

    The name of the class and its documentation are not part of it, nor is the order of fields.

    >>> one = EventSchema("Tap", (Field("a", "string"), Field("b", "float")), "A tap.")
    >>> content_of(one) == content_of(EventSchema("Taps", tuple(reversed(one.fields))))
    True
    """
    return content_hash(sorted(schema.fields, key=lambda field: field.name))


def schema_text(schema: EventSchema) -> str:
    """Return a schema as one line of JSON; `read_schema` reads it."""
    return canonical_json(schema)


def read_schema(text: str) -> EventSchema:
    """Return the schema of a line written by `schema_text`.

    >>> tap = EventSchema("Tap", (Field("a", "string", tags=frozenset({"personal"})),), "A tap.")
    >>> read_schema(schema_text(tap)) == tap
    True
    """
    found = json.loads(text)
    return EventSchema(found["name"], tuple(map(_read_field, found["fields"])), found["doc"])


def _read_field(found: dict[str, Any]) -> Field:
    field = Field(found["name"], found["kind"], found["nullable"], frozenset(found["tags"]))
    return replace(field, default=found.get("default"), aliases=tuple(found.get("aliases", ())))
