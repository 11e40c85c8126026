"""Event schemas, read from annotated classes."""

from __future__ import annotations

import types
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin, get_type_hints

from homeostat.core.errors import DeclarationError, UnknownName
from homeostat.declare.mistakes import report, require

__all__ = ["Event", "EventSchema", "Field", "Personal", "Tag", "Timestamp"]


@dataclass(frozen=True, slots=True)
class Tag:
    """A mark on a field that policies act on."""

    name: str


Personal = Tag("personal")
"""The field identifies a person: masked, erasable, never logged in clear."""

Timestamp = datetime
"""An instant with a time zone; on the wire ISO 8601 text, in columns UTC microseconds."""

_KINDS: dict[type, str] = {
    str: "string",
    int: "integer",
    float: "float",
    bool: "boolean",
    datetime: "timestamp",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One column of an event: `kind` is string, integer, float, boolean or timestamp."""

    name: str
    kind: str
    nullable: bool = False
    tags: frozenset[str] = frozenset()

    @property
    def is_personal(self) -> bool:
        """Whether the field is tagged `Personal`."""
        return "personal" in self.tags

    @property
    def is_number(self) -> bool:
        """Whether sums and means of the field have a meaning."""
        return self.kind in ("integer", "float")


@dataclass(frozen=True, slots=True)
class EventSchema:
    """The fields of an event class, in their order."""

    name: str
    fields: tuple[Field, ...]
    doc: str = ""

    def names(self) -> tuple[str, ...]:
        """Return the names of all fields."""
        return tuple(field.name for field in self.fields)

    def has(self, name: str) -> bool:
        """Return whether a field of that name exists."""
        return any(field.name == name for field in self.fields)

    def field(self, name: str, where: str) -> Field:
        """Return one field; report `UnknownName` with the nearest name otherwise."""
        for field in self.fields:
            if field.name == name:
                return field
        report(UnknownName("field", name, self.names(), where))
        return Field(name, "float", nullable=True)


def _field(owner: str, name: str, annotation: Any) -> Field:
    tags: frozenset[str] = frozenset()
    nullable = False
    while get_origin(annotation) in (Annotated, Union, types.UnionType):
        if get_origin(annotation) is Annotated:
            annotation, *marks = get_args(annotation)
            tags |= {mark.name for mark in marks if isinstance(mark, Tag)}
            continue
        members = [member for member in get_args(annotation) if member is not type(None)]
        nullable |= len(members) < len(get_args(annotation))
        if len(members) != 1:
            break
        annotation = members[0]
    kind = _KINDS.get(annotation, "") if isinstance(annotation, type) else ""
    require(
        not name.startswith("_") and name != "schema",
        f"event {owner!r}",
        f"a field named {name!r}",
        "names that do not begin with _ and are not 'schema'",
        "rename the field: these names belong to the system",
    )
    require(
        kind != "",
        f"event {owner!r}",
        f"field {name!r} has type {annotation!r}",
        "str, int, float, bool, homeostat.Timestamp, each also with '| None'",
        "change the annotation",
    )
    return Field(name, kind or "string", nullable, tags)


class Event:
    """Base of event classes; the annotations are the schema.

    >>> class Tap(Event):
    ...     card: Annotated[str, Personal]
    ...     at: Timestamp
    ...     amount: float | None
    >>> Tap.schema.fields[2]
    Field(name='amount', kind='float', nullable=True, tags=frozenset())
    """

    schema: ClassVar[EventSchema]

    def __init_subclass__(cls) -> None:
        try:
            hints = get_type_hints(cls, include_extras=True)
        except NameError as unknown:
            raise DeclarationError(
                f"event {cls.__name__!r}",
                f"an annotation names {unknown.name!r}, which cannot be found",
                "types that the module of the class imports or defines",
                "import the type at the top of the file, and define the class there",
            ) from unknown
        if get_origin(hints["schema"]) is ClassVar:
            del hints["schema"]
        found = tuple(_field(cls.__name__, name, hint) for name, hint in hints.items())
        require(
            bool(found), f"event {cls.__name__!r}", "no fields", "one or more", "annotate a field"
        )
        cls.schema = EventSchema(cls.__name__, found, (cls.__doc__ or "").strip())
