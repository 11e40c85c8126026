"""Payloads become typed rows, or a reason; one bad payload never touches its neighbours."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter, eq
from typing import Annotated, Any

import msgspec

from homeostat.declare.schema import EventSchema, Field
from homeostat.ingest.field_names import misspellings
from homeostat.ingest.lines import BOM
from homeostat.ingest.refusals import refusal_of
from homeostat.ingest.value_forms import is_finer, restated

__all__ = ["Decoded", "Fault", "PayloadDecoder"]

_INT64 = msgspec.Meta(ge=-(2**63), le=2**63 - 1)
_TYPES: dict[str, Any] = {
    "string": str,
    "integer": Annotated[int, _INT64],
    "float": float,
    "boolean": bool,
    "timestamp": Annotated[datetime, msgspec.Meta(tz=True)],
}


_KEYS = 1_000
"""Sets of keys of which a decoder remembers whether one is a misspelling."""

_Refused = dict[int, tuple[str, str]]
"""Reason and detail by row."""


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

    Values may have another form (`value_forms`), and a byte order mark stands before an object for
    nothing. An object that does not say an optional field, and has a key that is most likely a
    misspelling of it (`field_names`), is refused: the value would be lost.

    Rows have one attribute per field. Instants are held in UTC, so that equal events have equal
    canonical bytes. A missing field has its default; one that was renamed is also read under its
    aliases, and where an event has both, its name counts unless that is only the default.

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
        self._schema, self._fields = schema, schema.fields
        optional = [field for field in schema.fields if field.is_optional]
        names = [field.name for field in optional]
        # of one name, attrgetter would return the value itself
        self._said: Callable[[Any], Sequence[Any]] = (
            attrgetter(*names) if len(names) > 1 else lambda row: [getattr(row, n) for n in names]
        )
        self._fillers = [field.filler for field in optional]
        self._known_keys: dict[tuple[str, ...], tuple[str, str] | None] = {}
        self._instants = tuple(f.name for f in schema.fields if f.kind == "timestamp")
        self._renamed = tuple(f for f in schema.fields if f.aliases)
        self._defaults = {f.name: f.filler for f in schema.fields if f.default is not None}
        row = _row_type(schema.name, schema.fields)
        self._decode = msgspec.json.Decoder(row).decode
        self._raw = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._single = {f.name: msgspec.json.Decoder(_annotation(f)) for f in schema.fields}
        self._canonical = msgspec.json.Encoder().encode

    def decode(self, payloads: Sequence[bytes]) -> Decoded:
        """Decode a batch; every payload is in the rows or in the faults."""
        rows: list[Any] = []
        faults: list[Fault] = []
        bad: set[int] = set()
        for place, payload in enumerate(payloads):
            fault: tuple[str, str] | None
            try:
                row = self._row(payload)
            except (ValueError, RecursionError) as error:
                fault = self._diagnose(payload.removeprefix(BOM), error)
            else:
                fault = self._misspelled(row, payload)
                if fault is None:
                    rows.append(row)
            if fault is not None:
                faults.append(Fault(place, *fault))
                bad.add(place)
        places: Sequence[int] = range(len(payloads))
        if bad:
            places = [place for place in places if place not in bad]
        found = Decoded(rows, places, faults)
        if self._renamed:
            found = _without(found, self._adopt(rows))
        found = _without(found, self._to_utc(found.rows))
        self._name_defaults(found.rows)
        return found

    def canonical(self, rows: Iterable[Any]) -> list[bytes]:
        """Return one text per row: JSON, fields by name, missing ones left out."""
        encode = self._canonical
        return [encode(row) for row in rows]

    def _row(self, payload: bytes) -> Any:
        """Return the row of one payload; raise what decoding raises."""
        body = payload.removeprefix(BOM)
        if is_finer(body):
            return self._restated_row(body)
        try:
            return self._decode(body)
        except msgspec.ValidationError:
            return self._restated_row(body)

    def _restated_row(self, body: bytes) -> Any:
        other = restated(self._fields, self._raw.decode(body))
        return self._decode(body if other is None else other)

    def _misspelled(self, row: Any, payload: bytes) -> tuple[str, str] | None:
        """Return why a row is refused that has nothing in a field, and a key like its name."""
        if not any(map(eq, self._said(row), self._fillers)):
            return None
        try:
            keys = tuple(self._raw.decode(payload.removeprefix(BOM)))
        except UnicodeDecodeError:  # a key that is no field's, nor like one
            return None
        known = self._known_keys
        if keys not in known:
            if len(known) >= _KEYS:
                known.clear()
            found = next(iter(misspellings(self._schema, keys).items()), None)
            known[keys] = found and (
                f"misspelled_field:{found[0]}",
                f"the key {found[1][:80]!r} is most likely {found[0]!r}",
            )
        return known[keys]

    def _adopt(self, rows: list[Any]) -> _Refused:
        """Move what came under earlier names to the present one; return the rows without either."""
        refused: _Refused = {}
        for field in self._renamed:
            name, filler = field.name, field.filler if field.is_optional else msgspec.UNSET
            for alias in field.aliases:
                for i, value in enumerate(map(attrgetter(alias), rows)):
                    if value is not msgspec.UNSET:
                        if getattr(rows[i], name) == filler:
                            setattr(rows[i], name, value)
                        setattr(rows[i], alias, msgspec.UNSET)
            if not field.is_optional:
                for i, value in enumerate(map(attrgetter(name), rows)):
                    if value is msgspec.UNSET:
                        refused.setdefault(
                            i, (f"missing_field:{name}", f"a {field.kind} is required")
                        )
        return refused

    def _name_defaults(self, rows: list[Any]) -> None:
        """Make a value that equals the default the default itself, which msgspec then leaves out.

        So an event has the same canonical bytes whether it says the default or not, and whether
        or not it was read before its field was there.
        """
        for name, default in self._defaults.items():
            text = repr(default)  # tells -0.0 from 0.0
            for i, value in enumerate(map(attrgetter(name), rows)):
                if value is not default and value == default and repr(value) == text:
                    setattr(rows[i], name, default)

    def _to_utc(self, rows: list[Any]) -> _Refused:
        """Move the rows' instants to UTC; return the rows where that is not possible."""
        outside: _Refused = {}
        for name in self._instants:
            for i, row in enumerate(rows):
                instant = getattr(row, name)
                if instant is None or instant.tzinfo is UTC:
                    continue
                try:
                    setattr(row, name, instant.astimezone(UTC))
                except OverflowError:
                    detail = "the instant lies outside years 1 to 9999"
                    outside.setdefault(i, (f"invalid_field:{name}", detail))
        return outside

    def _diagnose(self, payload: bytes, error: Exception) -> tuple[str, str]:
        """Return reason and detail of a payload that was refused with `error`."""
        refusal = refusal_of(payload)
        if refusal is not None:
            return refusal.reason, refusal.detail
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
        other = restated(self._fields, raw)
        raw = raw if other is None else self._raw.decode(other)
        found = [fault for field in self._fields if (fault := self._field_fault(field, raw))]
        if not found:
            return "malformed", str(error)
        return found[0][0], "; ".join(f"{reason}: {detail}" for reason, detail in found)

    def _field_fault(self, field: Field, raw: dict[str, msgspec.Raw]) -> tuple[str, str] | None:
        said = [raw[name] for name in (field.name, *field.aliases) if name in raw]
        if not said and not field.is_optional:
            return f"missing_field:{field.name}", f"a {field.kind} is required"
        for value in said:
            if bytes(value) == b"null" and not field.nullable:
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


def _without(found: Decoded, refused: _Refused) -> Decoded:
    """Return what was decoded, with some of the rows as faults."""
    if not refused:
        return found
    faults = [
        *found.faults,
        *(Fault(found.places[i], reason, detail) for i, (reason, detail) in refused.items()),
    ]
    return Decoded(
        [row for i, row in enumerate(found.rows) if i not in refused],
        [place for i, place in enumerate(found.places) if i not in refused],
        sorted(faults, key=lambda fault: fault.place),
    )


def _annotation(field: Field) -> Any:
    return _TYPES[field.kind] | None if field.nullable else _TYPES[field.kind]


def _row_type(name: str, fields: Sequence[Field]) -> type[msgspec.Struct]:
    """Return a struct with the fields in the order of their names: the canonical one.

    Earlier names follow as members of their own, which are unset in every row that is handed out.
    """
    members: list[Any] = []
    for field in sorted(fields, key=lambda f: f.name):
        kind = _annotation(field)
        if field.is_optional:
            members.append((field.name, kind, field.filler))
        elif field.aliases:
            members.append((field.name, kind | msgspec.UnsetType, msgspec.UNSET))
        else:
            members.append((field.name, kind))
    members += [
        (alias, _annotation(field) | msgspec.UnsetType, msgspec.UNSET)
        for field in fields
        for alias in field.aliases
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
