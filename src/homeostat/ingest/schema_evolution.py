"""What a declared source would change in its registered schema: the part of `plan` and `apply`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from homeostat.core.errors import HomeostatError
from homeostat.declare.names import twin_of
from homeostat.declare.schema import EventSchema, Field
from homeostat.declare.sources import EventSource
from homeostat.ingest.schema_compatibility import Incompatibility, case_conflict, compatible
from homeostat.ingest.schema_versions import SchemaVersion, content_of

__all__ = ["Evolution", "SchemaIncompatible", "evolution", "history"]

FIRST = "first version"


class SchemaIncompatible(HomeostatError, ValueError):
    """A schema that those who read or write a source's events could not follow."""

    def __init__(self, evolution: Evolution) -> None:
        self.evolution = evolution
        listed = "\n".join(f"  - {line}" for line in evolution.explain())
        super().__init__(
            f"event source {evolution.source!r}: its schema cannot follow version "
            f"{evolution.previous} under compatibility {evolution.mode}:\n{listed}\n"
            "allowed: changes that the readers and writers of its events can follow; change the "
            "event class as said above, or declare another EventSource(compatibility=...)."
        )


@dataclass(frozen=True, slots=True)
class Evolution:
    """The step from the schema in force to the declared one.

    `previous` is the version in force, 0 before the first; `version` the one that the declared
    schema has or will have; `changes` says field by field what is new; `conflicts` why it cannot
    be put in force.
    """

    source: str
    mode: str
    previous: int
    version: int
    changes: tuple[str, ...]
    conflicts: tuple[Incompatibility, ...]

    @property
    def is_change(self) -> bool:
        """Whether the declared schema is a new version."""
        return self.version != self.previous

    def explain(self) -> tuple[str, ...]:
        """Return one line per conflict: where, why, and the compatible way to do it."""
        return tuple(map(str, self.conflicts))

    def require(self) -> None:
        """Raise `SchemaIncompatible` if the declared schema cannot be put in force."""
        if self.conflicts:
            raise SchemaIncompatible(self)

    def as_json(self) -> dict[str, Any]:
        """Return the step as JSON values."""
        return {
            "source": self.source, "mode": self.mode, "previous": self.previous,
            "version": self.version, "changes": list(self.changes),
            "conflicts": [conflict.as_json() for conflict in self.conflicts],
        }  # fmt: skip


def evolution(
    source: EventSource,
    versions: Sequence[SchemaVersion],
    stored: Sequence[Incompatibility] = (),
) -> Evolution:
    """Return the step from the registered versions of a source to its declared schema.

    Args:
        source: the source as it is declared now.
        versions: its registered versions, the first one first.
        stored: what its lake table could not hold (`Lake.conflicts`), whatever the mode.

    >>> from homeostat.declare.schema import Event, Timestamp
    >>> Tap = type("Tap", (Event,), {"__annotations__": {"tap": str, "at": Timestamp}})
    >>> taps = EventSource("taps", Tap, event_id="tap", event_time="at")
    >>> first = evolution(taps, [])
    >>> first.version, first.changes
    (1, ('first version',))
    >>> evolution(taps, [SchemaVersion("taps", 1, Tap.schema)]).is_change
    False
    """
    if not versions:
        return Evolution(source.name, source.compatibility, 0, 1, (FIRST,), tuple(stored))
    latest = versions[-1]
    if content_of(latest.schema) == content_of(source.schema):
        return Evolution(
            source.name, source.compatibility, latest.version, latest.version, (), tuple(stored)
        )
    return Evolution(
        source=source.name,
        mode=source.compatibility,
        previous=latest.version,
        version=latest.version + 1,
        changes=tuple(_changes(latest.schema, source.schema)),
        conflicts=(
            *compatible(source.compatibility, source.schema, versions),
            *_case_conflicts(source.schema, versions),
            *stored,
        ),
    )


def _case_conflicts(
    schema: EventSchema, versions: Sequence[SchemaVersion]
) -> Iterator[Incompatibility]:
    """Yield new fields that differ by case alone from one there was: the lake has its column."""
    before = {field.name: found.version for found in versions for field in found.schema.fields}
    for name in schema.names():
        one = twin_of(name, before)
        if one is not None:
            yield Incompatibility(
                before[one], "lake", name, *case_conflict(one, f"version {before[one]}")
            )


def history(versions: Sequence[SchemaVersion]) -> dict[int, tuple[str, ...]]:
    """Return what each version of a schema changed, field by field, the first one first.

    >>> tap = EventSchema("Tap", (Field("tap", "string"),))
    >>> more = EventSchema("Tap", (*tap.fields, Field("amount", "float", nullable=True)))
    >>> history([SchemaVersion("taps", 1, tap), SchemaVersion("taps", 2, more)])
    {1: ('first version',), 2: ('amount: added, optional float',)}
    """
    found: dict[int, tuple[str, ...]] = {}
    for number, one in enumerate(versions):
        if number:
            found[one.version] = tuple(_changes(versions[number - 1].schema, one.schema))
        else:
            found[one.version] = (FIRST,)
    return found


def _changes(old: EventSchema, new: EventSchema) -> Iterator[str]:
    """Yield what is different, one line per field."""
    before = {field.name: field for field in old.fields}
    renamed: set[str] = set()
    for field in new.fields:
        earlier = [name for name in field.aliases if name in before]
        if field.name in before:
            was, now = _said(before[field.name]), _said(field)
            if was != now:
                yield f"{field.name}: {was} -> {now}"
            elif before[field.name].aliases != field.aliases:
                yield f"{field.name}: also read as {', '.join(field.aliases) or 'nothing else'}"
        elif earlier:
            renamed.add(earlier[0])
            was, now = _said(before[earlier[0]]), _said(field)
            yield f"{field.name}: was {earlier[0]}" + (f", {was} -> {now}" if was != now else "")
        else:
            yield f"{field.name}: added, {_said(field)}"
    kept = {field.name for field in new.fields} | renamed
    for name in before:
        if name not in kept:
            yield f"{name}: removed"


def _said(field: Field) -> str:
    """Return what a person says of a field, its aliases left out."""
    said = f"{'optional ' if field.nullable else ''}{field.kind}"
    if field.tags:
        said += f" ({', '.join(sorted(field.tags))})"
    return said if field.default is None else f"{said}, default {field.default!r}"
