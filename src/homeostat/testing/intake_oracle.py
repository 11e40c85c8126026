"""The intake in plain Python, one record at a time: obviously right, and slow."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from homeostat.core.clock import to_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.schema import Field
from homeostat.declare.sources import EventSource
from homeostat.ingest.field_names import misspellings

__all__ = ["Outcome", "expected_outcomes"]

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d(?::?\d\d)?)", re.ASCII
)


class _Float(float):
    """A number with a fraction or an exponent, and how it was written."""

    text: str

    def __new__(cls, text: str) -> _Float:
        found = super().__new__(cls, text)
        found.text = text
        return found

    @property
    def is_whole(self) -> bool:
        """Whether it is a whole number, of no more digits than anybody would read."""
        return Decimal(self.text).adjusted() < 40 and Decimal(self.text) % 1 == 0


class _NotOfItsKind(HomeostatError):
    """A value that its field cannot hold."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the record at `offset` becomes: "accepted", "duplicate", or the reason it is refused."""

    offset: int
    verdict: str
    event_time: Micros | None = None
    is_too_late: bool = False


def expected_outcomes(
    source: EventSource, records: Iterable[tuple[int, Micros, bytes]]
) -> list[Outcome]:
    """Return the outcome of every (offset, known time, payload), read from the first on.

    Payloads are valid UTF-8.
    """
    first: dict[str, str] = {}
    return [_outcome(source, first, *record) for record in records]


def _outcome(
    source: EventSource, first: dict[str, str], offset: int, known: Micros, payload: bytes
) -> Outcome:
    try:
        event = json.loads(payload, parse_float=_Float)
        json.dumps(event, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return Outcome(offset, "malformed")
    if not isinstance(event, dict):
        return Outcome(offset, "malformed")
    misspelled = list(misspellings(source.schema, event))
    values: dict[str, Any] = {}
    for field in source.schema.fields:
        said = [event[name] for name in (field.name, *field.aliases) if name in event]
        if not said and not field.is_optional:
            return Outcome(offset, f"missing_field:{field.name}")
        read = []
        for value in said:
            if isinstance(value, float) and not math.isfinite(value):
                return Outcome(offset, f"not_finite:{field.name}")
            if value is None and not field.nullable:
                return Outcome(offset, f"missing_field:{field.name}")
            try:
                read.append(None if value is None else _typed(field, value))
            except (_NotOfItsKind, ValueError, OverflowError):
                return Outcome(offset, f"invalid_field:{field.name}")
        default = None if field.default is None else _typed(field, field.default)
        # The default says no more than a field that is not there.
        values[field.name] = next(
            (value for value in read if repr(value) != repr(default)), default
        )
    if misspelled:
        return Outcome(offset, f"misspelled_field:{misspelled[0]}")
    event_time: Micros = values[source.event_time]
    event_id = str(values[source.event_id])
    if event_time > known + source.clock_skew_us:
        return Outcome(offset, "future")
    if event_id == "":
        return Outcome(offset, f"invalid_field:{source.event_id}")
    content = repr(values)
    if event_id in first:
        return Outcome(offset, "duplicate" if first[event_id] == content else "conflict")
    first[event_id] = content
    too_late = known - event_time > source.lateness_us
    return Outcome(offset, "accepted", min(event_time, known), too_late)


def _typed(field: Field, value: Any) -> Any:
    """Return the value in the field's type; or raise."""
    if field.kind == "boolean" and isinstance(value, bool):
        return value
    if field.kind == "string" and isinstance(value, str):
        return value
    if field.kind == "timestamp" and isinstance(value, str) and (at := _RFC3339.fullmatch(value)):
        said = f"{at[1]}{(at[2] or '')[:7]}{at[3]}".upper()
        return to_micros(datetime.fromisoformat(said).astimezone(UTC))
    if field.kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if field.kind == "integer" and isinstance(value, _Float) and value.is_whole:
        value = int(Decimal(value.text))
    if field.kind == "integer" and isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise _NotOfItsKind(field.name)
        return value
    raise _NotOfItsKind(field.name)
