"""Which schema reads the events of which, and what to write instead where it does not.

The rules are those of Avro's schema resolution, by which Confluent's registry judges; an optional
field is one that may be missing: it can be None, or has a default. They are stricter in one point
(decision 0008): an instant is not a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from homeostat.declare.schema import EventSchema, Field
from homeostat.ingest.schema_versions import SchemaVersion

__all__ = ["Incompatibility", "case_conflict", "compatible", "widens"]

_PYTHON = {
    "string": "str", "integer": "int", "float": "float", "boolean": "bool",
    "timestamp": "Timestamp",
}  # fmt: skip
_DEFAULTS = {
    "string": '""', "integer": "0", "float": "0.0", "boolean": "False",
    "timestamp": "datetime(1970, 1, 1, tzinfo=UTC)",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """One field for which a reader cannot read what a writer writes.

    `direction` is backward (the new schema reads the events of `version`), forward (`version` reads
    the events of the new schema), lake or table (the lake cannot hold the field, or a table for the
    source); `instead` is the compatible way to do it.
    """

    version: int
    direction: str
    field: str
    why: str
    instead: str

    def __str__(self) -> str:
        what = "source" if self.direction == "table" else "field"
        return f"{what} {self.field!r}: {self.why}; {self.instead}"

    def as_json(self) -> dict[str, Any]:
        """Return the incompatibility as JSON values."""
        return {
            "version": self.version, "direction": self.direction, "field": self.field,
            "why": self.why, "instead": self.instead,
        }  # fmt: skip


def case_conflict(column: str, where: str) -> tuple[str, str]:
    """Return why a field cannot be beside a column that differs by case alone, and what instead."""
    return (
        f"{where} has {column!r}, which differs by case alone, and the lake cannot hold both",
        f"call the field {column!r}, and read events of the other name by an Alias",
    )


def compatible(
    mode: str, new: EventSchema, versions: Sequence[SchemaVersion]
) -> tuple[Incompatibility, ...]:
    """Return what a new schema would break under a compatibility mode; nothing if it may follow.

    Args:
        mode: one of `COMPATIBILITY_MODES`.
        new: the schema that would be put in force.
        versions: those that were in force before, the first one first.

    >>> old = EventSchema("Tap", (Field("tap", "string"),))
    >>> new = EventSchema("Tap", (Field("tap", "string"), Field("items", "integer")))
    >>> [found] = compatible("BACKWARD", new, [SchemaVersion("taps", 1, old)])
    >>> found.why
    'events of version 1 do not have it'
    >>> found.instead
    "give it a default ('items: int = 0') or make it optional ('items: int | None')"
    """
    judged = versions if mode.endswith("_TRANSITIVE") else versions[-1:]
    rule = mode.removesuffix("_TRANSITIVE")
    found: list[Incompatibility] = []
    for earlier in judged:
        if rule in ("BACKWARD", "FULL"):
            found += _backward(new, earlier)
        if rule in ("FORWARD", "FULL"):
            found += _forward(new, earlier)
    return tuple(found)


def widens(written: str, read: str) -> bool:
    """Return whether values of one kind are also values of another.

    >>> widens("integer", "float"), widens("float", "integer")
    (True, False)
    """
    return written == read or (written, read) == ("integer", "float")


def _sources(field: Field, writer: EventSchema) -> list[Field]:
    """Return the writer's fields that hold what the reader's field wants."""
    return [w for w in writer.fields if w.name == field.name or w.name in field.aliases]


def _backward(new: EventSchema, earlier: SchemaVersion) -> Iterator[Incompatibility]:
    """Yield why the new schema cannot read the events of an earlier version."""
    events = f"events of version {earlier.version}"
    for field in new.fields:
        sources = _sources(field, earlier.schema)
        if not sources and not field.is_optional:
            why, instead = f"{events} do not have it", _make_optional(field)
            renamed = _renamed(field, new, earlier.schema)
            if renamed:
                instead += f"; if it is the old {renamed!r}, write {_aliased(field, renamed)!r}"
        elif len(sources) > 1:
            names = " and ".join(repr(source.name) for source in sources)
            why = f"{events} have {names}, and its aliases make one of them"
            instead = "drop the alias, and keep both fields"
        elif sources and not widens(sources[0].kind, field.kind):
            why = f"{events} have it as {sources[0].kind}, which is no {field.kind}"
            instead = _another_name(field, sources[0].kind)
        elif sources and sources[0].nullable and not field.nullable:
            why = f"{events} may have it without a value"
            instead = f"keep it optional ({_written(field, ' | None')!r})"
        else:
            continue
        yield Incompatibility(earlier.version, "backward", field.name, why, instead)


def _forward(new: EventSchema, earlier: SchemaVersion) -> Iterator[Incompatibility]:
    """Yield why an earlier version cannot read the events of the new schema."""
    reader = f"version {earlier.version}"
    for field in earlier.schema.fields:
        sources = _sources(field, new)
        if not sources and not field.is_optional:
            heir = next((f.name for f in new.fields if field.name in f.aliases), None)
            why = f"{reader} requires it, and the new events do not have it"
            instead = (
                f"keep it and send {heir!r} beside it until its readers know that name"
                if heir
                else f"keep it; first give it a default ({_defaulted(field)!r}), and drop it in "
                "the version after that"
            )
        elif len(sources) > 1:
            names = " and ".join(repr(source.name) for source in sources)
            why = f"{reader} reads {names} as one, by its aliases"
            instead = "choose a name that was none of its aliases"
        elif sources and not widens(sources[0].kind, field.kind):
            why = f"{reader} reads it as {field.kind}, and the new events have {sources[0].kind}"
            instead = _another_name(sources[0], field.kind)
        elif sources and sources[0].nullable and not field.nullable:
            why = f"{reader} requires a value, and the new events may have none"
            instead = f"keep it required ({_written(field)!r})"
        else:
            continue
        yield Incompatibility(earlier.version, "forward", field.name, why, instead)


def _renamed(field: Field, new: EventSchema, old: EventSchema) -> str | None:
    """Return the one field that is gone and could be this one under its old name."""
    kept = {name for f in new.fields for name in (f.name, *f.aliases)}
    gone = [f.name for f in old.fields if f.name not in kept and widens(f.kind, field.kind)]
    return gone[0] if len(gone) == 1 else None


def _written(field: Field, more: str = "") -> str:
    return f"{field.name}: {_PYTHON[field.kind]}{more}"


def _defaulted(field: Field) -> str:
    return _written(field, f" = {_DEFAULTS[field.kind]}")


def _aliased(field: Field, alias: str) -> str:
    return f'{field.name}: Annotated[{_PYTHON[field.kind]}, Alias("{alias}")]'


def _make_optional(field: Field) -> str:
    optional = _written(field, " | None")
    return f"give it a default ({_defaulted(field)!r}) or make it optional ({optional!r})"


def _another_name(field: Field, kept: str) -> str:
    return (
        f"keep it {kept}, and add the {field.kind} as a field of another name, with a default or "
        "optional"
    )
