"""Payloads become typed rows, or a reason; one bad payload never touches its neighbours."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from homeostat.declare.schema import EventSchema, Field

__all__ = ["Decoded", "Fault", "PayloadDecoder"]

_INT64 = msgspec.Meta(ge=-(2**63), le=2**63 - 1)
_TYPES: dict[str, Any] = {
    "string": str,
    "integer": Annotated[int, _INT64],
    "float": float,
    "boolean": bool,
    "timestamp": Annotated[datetime, msgspec.Meta(tz=True)],
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the payload at `place` in its batch is no event; `detail` quotes no value."""

    place: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The rows that could be read, `places[i]` of row i in the batch, and the faults."""

    rows: list[Any]
    places: Sequence[int]
    faults: list[Fault]


class PayloadDecoder:
    """Reads JSON objects of one event schema; unknown fields are ignored.

    Rows have one attribute per field. Instants are held in UTC, so that equal events have equal
    canonical bytes.

    >>> from homeostat.declare.schema import Event
    >>> class Tap(Event):
    ...     card: str
    ...     amount: float | None
    >>> decoder = PayloadDecoder(Tap.schema)
    >>> found = decoder.decode([b'{"card": "a", "amount": 1}', b'{"amount": 2}'])
    >>> found.rows[0].amount, found.faults[0].reason
    (1.0, 'missing_field:card')
    """

    def __init__(self, schema: EventSchema) -> None:
        self._fields = schema.fields
        self._instants = tuple(f.name for f in schema.fields if f.kind == "timestamp")
        row = _row_type(schema.name, schema.fields)
        self._decode = msgspec.json.Decoder(row).decode
        self._raw = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._single = {f.name: msgspec.json.Decoder(_annotation(f)) for f in schema.fields}
        self._canonical = msgspec.json.Encoder().encode

    def decode(self, payloads: Sequence[bytes]) -> Decoded:
        """Decode a batch; every payload is in the rows or in the faults."""
        decode = self._decode
        rows: list[Any] = []
        faults: list[Fault] = []
        bad: set[int] = set()
        for place, payload in enumerate(payloads):
            try:
                rows.append(decode(payload))
            except (ValueError, RecursionError) as error:
                reason, detail = self._diagnose(payload, error)
                faults.append(Fault(place, reason, detail))
                bad.add(place)
        places: Sequence[int] = range(len(payloads))
        if bad:
            places = [place for place in places if place not in bad]
        outside = self._to_utc(rows)
        if outside:
            faults += [
                Fault(
                    places[i], f"invalid_field:{name}", "the instant lies outside years 1 to 9999"
                )
                for i, name in outside.items()
            ]
            faults.sort(key=lambda fault: fault.place)
            rows = [row for i, row in enumerate(rows) if i not in outside]
            places = [place for i, place in enumerate(places) if i not in outside]
        return Decoded(rows, places, faults)

    def canonical(self, rows: Iterable[Any]) -> list[bytes]:
        """Return one text per row: JSON, fields by name, missing ones left out."""
        encode = self._canonical
        return [encode(row) for row in rows]

    def _to_utc(self, rows: list[Any]) -> dict[int, str]:
        """Move the rows' instants to UTC; return the rows where that is not possible."""
        outside: dict[int, str] = {}
        for name in self._instants:
            for i, row in enumerate(rows):
                instant = getattr(row, name)
                if instant is None or instant.tzinfo is UTC:
                    continue
                try:
                    setattr(row, name, instant.astimezone(UTC))
                except OverflowError:
                    outside.setdefault(i, name)
        return outside

    def _diagnose(self, payload: bytes, error: Exception) -> tuple[str, str]:
        """Return reason and detail of a payload that was refused with `error`."""
        try:
            raw = self._raw.decode(payload)
        except RecursionError:
            return "malformed", "the JSON is nested too deeply"
        except UnicodeDecodeError:
            return "malformed", "a key is not valid UTF-8"
        except msgspec.ValidationError:
            return "malformed", "the JSON is not an object"
        except msgspec.DecodeError as malformed:
            name = _not_finite(payload, self._fields)
            if name is not None:
                return f"not_finite:{name}", "NaN and infinities are no JSON numbers"
            return "malformed", str(malformed)
        found = [fault for field in self._fields if (fault := self._field_fault(field, raw))]
        if not found:
            return "malformed", str(error)
        return found[0][0], "; ".join(f"{reason}: {detail}" for reason, detail in found)

    def _field_fault(self, field: Field, raw: dict[str, msgspec.Raw]) -> tuple[str, str] | None:
        value = raw.get(field.name)
        if value is None or bytes(value) == b"null":
            if field.nullable:
                return None
            return f"missing_field:{field.name}", f"a {field.kind} is required"
        try:
            self._single[field.name].decode(value)
        except UnicodeDecodeError:
            return f"invalid_field:{field.name}", "the text is not valid UTF-8"
        except RecursionError:
            return f"invalid_field:{field.name}", "the JSON is nested too deeply"
        except msgspec.DecodeError as error:
            return f"invalid_field:{field.name}", str(error)
        return None


def _annotation(field: Field) -> Any:
    return _TYPES[field.kind] | None if field.nullable else _TYPES[field.kind]


def _row_type(name: str, fields: Sequence[Field]) -> type[msgspec.Struct]:
    """Return a struct with the fields in the order of their names: the canonical one."""
    members: list[Any] = [
        (f.name, _annotation(f), None) if f.nullable else (f.name, _annotation(f))
        for f in sorted(fields, key=lambda f: f.name)
    ]
    return msgspec.defstruct(name, members, kw_only=True, omit_defaults=True, gc=False)


def _not_finite(payload: bytes, fields: Sequence[Field]) -> str | None:
    """Return the first field that holds a NaN or infinity token, if Python can read the rest."""
    if b"NaN" not in payload and b"Infinity" not in payload:
        return None
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    for field in fields:
        value = found.get(field.name)
        if isinstance(value, float) and not math.isfinite(value):
            return field.name
    return None
