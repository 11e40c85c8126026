"""A list of mappings becomes payloads, one per element, whatever the others are.

Elements of plain types are encoded together; every other one by itself. Nothing is converted to a
type that a neighbour has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import numpy.typing as npt

from homeostat.core.clock import to_micros
from homeostat.declare.schema import Field
from homeostat.declare.sources import EventSource
from homeostat.ingest.field_names import may_misspell, misspellings
from homeostat.ingest.python_values import (
    ValueUnwritable,
    field_value,
    json_bytes,
    refused,
    within_limit,
)

__all__ = ["known_times", "mapping_payload", "mapping_payloads"]

_UNSET = msgspec.UNSET
_PLAIN: dict[str, frozenset[type]] = {
    "string": frozenset((str,)),
    "integer": frozenset((int,)),
    "float": frozenset((float, int)),
    "boolean": frozenset((bool,)),
    "timestamp": frozenset((str, datetime)),
}
_UNSAID = frozenset((type(None), msgspec.UnsetType))
_SCALARS = (bool, int, float, str, datetime, date, time, timedelta, Decimal, UUID)


def mapping_payloads(source: EventSource, elements: Sequence[object]) -> list[bytes]:
    """Return one record per element, as `mapping_payload` does.

    >>> from homeostat.declare.schema import Event, Timestamp
    >>> Tap = type("Tap", (Event,), {"__annotations__": {"tap": str, "at": Timestamp, "n": int}})
    >>> taps = EventSource("taps", Tap, event_id="tap", event_time="at")
    >>> mapping_payloads(taps, [{"tap": "a", "n": 2**53 + 1}, {"tap": "b", "n": 2.5, "x": 1}])
    [b'{"tap":"a","n":9007199254740993}', b'{"tap":"b","n":2.5}']
    """
    try:
        quick = _together(source, elements)
    except Exception:  # noqa: BLE001 - an element of any class may raise: each is asked by itself
        quick = [None] * len(elements)
    return [
        mapping_payload(source, place, elements[place]) if payload is None else payload
        for place, payload in enumerate(quick)
    ]


def mapping_payload(source: EventSource, place: int, element: object) -> bytes:
    """Return the JSON of one element, or the refusal of what is no mapping or has no JSON.

    Keys that are no field's name, now or before, are not looked at; one that is most likely a
    misspelling of a field's stays, so that the intake refuses the element by name. NaN is missing,
    as in a frame, and so is None where the field has a default; infinities stay, and are refused by
    the intake.
    """
    where = f"element {place} of the list"
    if not isinstance(element, Mapping):
        return refused(where, f"a {type(element).__name__}, and no mapping", element)
    said: dict[str, object] = {}
    for field in source.schema.fields:
        for name in (field.name, *field.aliases):
            try:
                value = element.get(name, _UNSET)
                if value is _UNSET:
                    continue
                value = _scalar(value)
                if value is None and not field.nullable:
                    continue
                value = _held(field, value)
                _encoded({name: value})
            except Exception as odd:  # noqa: BLE001 - a value of any class may raise
                found = f"field {name!r}: {_why(odd)}"
                return refused(where, found, element)
            said[name] = value
    for key in misspellings(source.schema, filter(_is_text, element)).values():
        with suppress(Exception):  # without its value it is refused as well
            said[key] = None
            _encoded({key: (value := _scalar(element[key]))})
            said[key] = value
    return within_limit(_encoded(said))


def _is_text(key: object) -> bool:
    return isinstance(key, str)


def _why(odd: Exception) -> str:
    if isinstance(odd, ValueUnwritable):
        return str(odd)
    return f"a {type(odd).__name__} when it is written as JSON"  # its text may quote the value


def known_times(
    elements: Sequence[object], name: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return when each element says under a key that it was known, and which ones do say it."""
    times, said = np.zeros(len(elements), np.int64), np.zeros(len(elements), np.bool_)
    for place, element in enumerate(elements):
        value = element.get(name) if isinstance(element, Mapping) else None
        if isinstance(value, datetime) and value.utcoffset() is not None:
            times[place], said[place] = to_micros(value), True
    return times, said


def _together(source: EventSource, elements: Sequence[object]) -> list[bytes | None]:
    """Return the JSON of the elements that are plain, None for each other one."""
    by_itself = {place for place, element in enumerate(elements) if type(element) is not dict}
    dicts: list[dict[Any, Any]] = [element if type(element) is dict else {} for element in elements]
    members = [(f, name) for f in source.schema.fields for name in (f.name, *f.aliases)]
    keys = filter(_is_text, set().union(*dicts))
    for key in may_misspell(source.schema, keys):
        by_itself.update(place for place, element in enumerate(dicts) if key in element)
    columns = [_column(field, name, dicts, by_itself) for field, name in members]
    kinds: list[Any] = [(name, Any, _UNSET) for _, name in members]
    row, encode = msgspec.defstruct("Row", kinds, gc=False), msgspec.json.Encoder().encode
    found: list[bytes | None] = []
    for place, values in enumerate(zip(*columns, strict=True)):
        try:
            found.append(None if place in by_itself else within_limit(encode(row(*values))))
        except (ValueError, OverflowError):  # half a surrogate pair
            found.append(None)
    return found


def _column(
    field: Field, name: str, dicts: Sequence[dict[Any, Any]], by_itself: set[int]
) -> list[Any]:
    """Return a field of plain elements; add to `by_itself` those in which it is not plain."""
    values = [element.get(name, _UNSET) for element in dicts]
    kinds, plain = set(map(type, values)), _PLAIN[field.kind] | _UNSAID
    if not kinds <= plain:
        by_itself.update(place for place, value in enumerate(values) if type(value) not in plain)
        values = [value if type(value) in plain else _UNSET for value in values]
    if type(None) in kinds and not field.nullable:
        values = [_UNSET if value is None else value for value in values]
    if field.kind == "float" and float in kinds:
        by_itself.update(
            place
            for place, value in enumerate(values)
            if type(value) is float and not isfinite(value)
        )
    if field.kind == "timestamp" and datetime in kinds:
        values = [
            value.astimezone(UTC)  # msgspec rounds an offset to whole minutes
            if type(value) is datetime and value.tzinfo is not None and value.tzinfo is not UTC
            else value
            for value in values
        ]
    return values


def _scalar(value: object) -> object:
    """Return a value as a type of Python's own, NaN as None; raise `ValueUnwritable` otherwise.

    Lists and mappings fit no field; they stay, so that the intake refuses them by name.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, list | dict):
        return value
    if not isinstance(value, _SCALARS):
        raise ValueUnwritable(type(value).__name__)
    return None if value != value else value


def _held(field: Field, value: object) -> object:
    """Return a value as its field holds it, an instant in UTC."""
    if field.kind == "timestamp" and isinstance(value, datetime):
        with suppress(OverflowError):  # outside years 1 to 9999 in UTC: the intake refuses it
            return value if value.utcoffset() is None else value.astimezone(UTC)
    return field_value(field, value)


def _encoded(said: dict[str, object]) -> bytes:
    """Return the same bytes as elements that are encoded together have, if it can be such a one."""
    if all(type(value) in _QUICK for value in said.values()) and all(
        isfinite(value) for value in said.values() if type(value) is float
    ):
        try:
            return msgspec.json.encode(said)
        except UnicodeEncodeError:  # half a surrogate pair
            pass
    return json_bytes(said, _ENCODER, "surrogatepass")


def _as_text(value: object) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise ValueUnwritable(type(value).__name__)


_QUICK = frozenset((type(None), str, int, float, bool, datetime))
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=_as_text)
