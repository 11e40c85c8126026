"""Event schemas, read from annotated classes."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin, get_type_hints

from homeostat.core.errors import DeclarationError, UnknownName
from homeostat.core.hashing import UNSET_IS_UNSAID
from homeostat.declare.mistakes import report, require
from homeostat.declare.names import twins

__all__ = ["Alias", "Event", "EventSchema", "Field", "Personal", "Tag", "Timestamp"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Tag:
    """A mark on a field that policies act on."""

    name: str


Personal = Tag("personal")
"""The field identifies a person: masked, erasable, never logged in clear."""


@dataclass(frozen=True, slots=True)
class Alias:
    """An earlier name of a field: events and tables that have it are read under the new one.

    >>> class Tap(Event):
    ...     reader: Annotated[str, Alias("terminal")]
    >>> Tap.schema.fields[0].aliases
    ('terminal',)
    """

    name: str


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
    """One column of an event: `kind` is string, integer, float, boolean or timestamp.

    `default` stands for a value that an event does not have, None for none; that of a timestamp
    is its text in UTC. `aliases` are the names the field had before.
    """

    name: str
    kind: str
    nullable: bool = False
    tags: frozenset[str] = frozenset()
    default: str | int | float | bool | None = dataclasses.field(
        default=None, metadata=UNSET_IS_UNSAID
    )
    aliases: tuple[str, ...] = dataclasses.field(default=(), metadata=UNSET_IS_UNSAID)

    @property
    def is_personal(self) -> bool:
        """Whether the field is tagged `Personal`."""
        return "personal" in self.tags

    @property
    def is_number(self) -> bool:
        """Whether sums and means of the field have a meaning."""
        return self.kind in ("integer", "float")

    @property
    def is_optional(self) -> bool:
        """Whether an event may be without the field."""
        return self.nullable or self.default is not None

    @property
    def filler(self) -> Any:
        """The value of an event without the field: the default, an instant as a datetime."""
        if self.kind == "timestamp" and self.default is not None:
            return datetime.fromisoformat(str(self.default))
        return self.default


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


def _field(owner: str, name: str, annotation: Any, default: Any) -> Field:
    """Return one field; `default` is the value in the class, `_NO_DEFAULT` for none."""
    tags: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()
    nullable = False
    while get_origin(annotation) in (Annotated, Union, types.UnionType):
        if get_origin(annotation) is Annotated:
            annotation, *marks = get_args(annotation)
            tags |= {mark.name for mark in marks if isinstance(mark, Tag)}
            aliases += tuple(mark.name for mark in marks if isinstance(mark, Alias))
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
    field = Field(name, kind or "string", nullable, tags, aliases=aliases)
    if default is _NO_DEFAULT or (default is None and nullable) or not kind:
        return field
    held = _default(kind, default)
    require(
        held is not None,
        f"event {owner!r}, field {name!r}",
        f"default {default!r}",
        _DEFAULTS[kind] + (", or None" if nullable else ""),
        "change the value, or drop it",
    )
    return dataclasses.replace(field, default=held)


_NO_DEFAULT = object()

_DEFAULTS = {
    "string": "a text that UTF-8 can hold",
    "integer": "a whole number of 64 bits",
    "float": "a finite number",
    "boolean": "True or False",
    "timestamp": "a datetime with a time zone",
}


def _default(kind: str, value: Any) -> str | int | float | bool | None:
    """Return a default as its field holds it, or None if the field cannot."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "string" and isinstance(value, str):
        return value if value.encode(errors="replace").decode() == value else None
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind == "integer" and is_number and isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else None
    if kind == "float" and is_number:
        return float(value) if abs(value) <= sys.float_info.max else None
    if kind == "timestamp" and isinstance(value, datetime) and value.tzinfo is not None:
        try:
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        except OverflowError:
            return None
    return None


def _check_case(owner: str, fields: Sequence[Field]) -> None:
    """Report fields whose names differ by case alone; one's own earlier name may."""
    for one, other in twins([field.name for field in fields]):
        require(
            False,
            f"event {owner!r}, field {other!r}",
            f"it differs from field {one!r} by case alone, and the lake could not hold both",
            "names that differ in their letters",
            f"rename one of them, and read it as before: Annotated[..., Alias({other!r})]",
        )


def _check_aliases(owner: str, fields: Sequence[Field]) -> None:
    """Report earlier names that are no names, or that stand for two things."""
    taken = [field.name for field in fields] + [name for f in fields for name in f.aliases]
    for field in fields:
        for alias in field.aliases:
            require(
                isinstance(alias, str) and _NAME.fullmatch(alias) is not None,
                f"event {owner!r}, field {field.name!r}",
                f"alias {alias!r}",
                "letters, digits and _, beginning with a letter",
                "write the name that the field had before",
            )
            require(
                taken.count(alias) == 1,
                f"event {owner!r}, field {field.name!r}",
                f"alias {alias!r} is also another field or alias",
                "earlier names that nothing else has",
                "drop the alias, or rename the other field",
            )


def _values(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield what is written into the bodies of a class and of its bases, the nearest last."""
    for base in reversed(cls.__mro__):
        yield from vars(base).items()


class Event:
    """Base of event classes; the annotations are the schema, and values are the defaults.

    >>> class Tap(Event):
    ...     card: Annotated[str, Personal]
    ...     at: Timestamp
    ...     amount: float | None
    ...     currency: str = "EUR"
    >>> [field.name for field in Tap.schema.fields if field.is_optional]
    ['amount', 'currency']
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
        values = dict(_values(cls))
        found = tuple(
            _field(cls.__name__, name, hint, values.get(name, _NO_DEFAULT))
            for name, hint in hints.items()
        )
        require(
            bool(found), f"event {cls.__name__!r}", "no fields", "one or more", "annotate a field"
        )
        _check_case(cls.__name__, found)
        _check_aliases(cls.__name__, found)
        cls.schema = EventSchema(cls.__name__, found, (cls.__doc__ or "").strip())
