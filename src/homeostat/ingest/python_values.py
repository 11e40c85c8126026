"""Python values as the JSON of a field; a value that does not fit stands there as it is.

So the intake refuses that row by the field's name, and says why; nothing is rounded or guessed.
"""

from __future__ import annotations

import json
import reprlib
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from homeostat.core.errors import HomeostatError
from homeostat.declare.schema import Field
from homeostat.ingest.lines import BEGINNING, LONGEST
from homeostat.ingest.refusals import Refusal

__all__ = ["ValueUnwritable", "field_value", "json_bytes", "refused", "within_limit"]

_SHOWN = reprlib.Repr()
_SHOWN.maxdict, _SHOWN.maxlist, _SHOWN.maxtuple, _SHOWN.maxset = 200, 50, 50, 50
_SHOWN.maxstring, _SHOWN.maxother = 2_000, 500


class ValueUnwritable(HomeostatError, TypeError):
    """A value of a class that no field holds; the element that has it becomes a dead letter."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"a {kind} has no JSON; allowed: numbers, texts, instants, dates, UUIDs and Decimals; "
            "convert it before"
        )


def field_value(field: Field, value: object, zone: ZoneInfo | None = None) -> object:
    """Return a scalar as its field's JSON has it; `zone` is what instants without one mean.

    >>> field_value(Field("n", "integer"), Decimal("2.00")), field_value(Field("n", "float"), 2**70)
    (2, 1180591620717411303424)
    """
    if field.kind == "timestamp":
        return _instant(value, zone)
    if isinstance(value, Decimal):
        if field.kind == "float":
            return float(value)
        if field.kind == "integer" and _is_whole(value):
            return int(value)
        return str(value)
    if field.kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if field.kind == "float" and isinstance(value, timedelta):
        return value.total_seconds()
    return value


def _is_whole(value: Decimal) -> bool:
    # adjusted(): Decimal("1e999999") would be a million digits as an integer
    return value.is_finite() and value.adjusted() < 20 and value == value.to_integral_value()


def _instant(value: object, zone: ZoneInfo | None) -> object:
    if isinstance(value, str) and zone is not None:
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if isinstance(value, date) and not isinstance(value, datetime) and zone is not None:
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=zone) if value.tzinfo is None and zone is not None else value
        return aware.isoformat()
    return value


def json_bytes(said: dict[str, object], encode: json.JSONEncoder, errors: str) -> bytes:
    """Return an object as JSON; `errors` says what half a surrogate pair becomes (`str.encode`)."""
    return encode.encode(said).encode("utf-8", errors)


def within_limit(payload: bytes) -> bytes:
    """Return a payload, or the refusal of one that is longer than a record may be.

    >>> within_limit(b"{}")
    b'{}'
    """
    if len(payload) <= LONGEST:
        return payload
    detail = f"{len(payload):,} bytes; at most {LONGEST:,}; its beginning stands here"
    return Refusal("too_large", detail, payload[:BEGINNING]).record()


def refused(where: str, found: str, element: object) -> bytes:
    """Return the record of an element that cannot be written as JSON, with a bounded text of it."""
    try:
        shown = _SHOWN.repr(element).encode(errors="backslashreplace")
    except Exception as odd:  # noqa: BLE001 - a value of any class may refuse to be shown
        shown = f"<{type(element).__name__}: {type(odd).__name__}>".encode()
    return Refusal("malformed", f"{where}: {found}", shown).record()
