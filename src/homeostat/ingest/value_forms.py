"""Values written in other forms than a field's own, where they mean one value exactly.

A whole number is an integer however it is written (`3.0`, `3e2`); instants end at microseconds,
later digits are cut off and never rounded up into the next day; an offset may have two digits
(`+01`), as PostgreSQL writes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from homeostat.declare.schema import Field

__all__ = ["is_finer", "restated", "restated_instant", "whole_number"]

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,4})?", re.ASCII)
_FINER = re.compile(rb":\d\d\.\d{7}|\\u003")
_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:(\.\d{1,6})\d*)?([Zz]|[+-]\d\d(?::?\d\d)?)", re.ASCII
)


def whole_number(text: str) -> int | None:
    """Return the whole number that a JSON number is, None if it is none, or has a fraction.

    >>> whole_number("3.0"), whole_number("9007199254740993.00"), whole_number("2.5e1")
    (3, 9007199254740993, 25)
    >>> whole_number("2.5"), whole_number("1e999"), whole_number("3.")
    (None, None, None)
    """
    if _NUMBER.fullmatch(text) is None:
        return None
    value = Decimal(text)
    # adjusted(): 1e999 would be a thousand digits as an integer
    is_whole = value.adjusted() < 20 and value == value.to_integral_value()
    return int(value) if is_whole or not value else None


def restated_instant(text: str) -> str:
    """Return an instant with six decimals at most and an offset in full; another text as it is.

    >>> restated_instant("2024-03-04 23:59:59.9999999+01")
    '2024-03-04 23:59:59.999999+01:00'
    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        return text
    moment, fraction, offset = found.groups()
    return f"{moment}{fraction or ''}{offset}{':00' * (len(offset) == 3)}"


def is_finer(payload: bytes) -> bool:
    """Return whether an instant in a payload may have more than six decimals."""
    return _FINER.search(payload) is not None


def restated(fields: Sequence[Field], raw: Mapping[str, msgspec.Raw]) -> bytes | None:
    """Return an object with its values in the fields' own forms, None if they are already."""
    said: dict[str, msgspec.Raw] = {}
    for field in fields:
        for name in (field.name, *field.aliases):
            value = raw.get(name)
            if value is None or field.kind not in ("integer", "timestamp"):
                continue
            try:
                text = bytes(value).decode()
                other = (_integer if field.kind == "integer" else _instant)(text)
            except (UnicodeDecodeError, msgspec.DecodeError):
                continue  # the diagnosis says what is wrong with it
            if other != text:
                said[name] = msgspec.Raw(other.encode())
    return msgspec.json.encode({**raw, **said}) if said else None


def _integer(text: str) -> str:
    number = whole_number(text)
    return text if number is None else str(number)


def _instant(text: str) -> str:
    if not text.startswith('"'):
        return text
    said = msgspec.json.decode(text.encode(), type=str)
    other = restated_instant(said)
    return text if other == said else msgspec.json.encode(other).decode()
