"""Puts what came beside a payload (a key, headers) into it, where it does not say it itself."""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

from homeostat.declare.schema import EventSchema

__all__ = ["Beside"]


class Beside:
    """Adds fields to JSON payloads in front, so that what the payload says itself counts.

    >>> from homeostat.declare.schema import Event
    >>> class Tap(Event):
    ...     card: str
    ...     trace: int | None
    >>> beside = Beside(Tap.schema)
    >>> beside.add(b'{"amount":1}', [("card", b"a"), ("trace", b"7")])
    b'{"card":"a","trace":7,"amount":1}'
    >>> beside.add(b'{}', [("card", None)])
    b'{}'
    """

    def __init__(self, schema: EventSchema) -> None:
        self._kinds = {field.name: field.kind for field in schema.fields}

    def add(self, payload: bytes, said: Iterable[tuple[str, bytes | None]]) -> bytes:
        """Return the payload with the fields that `said` gives; a payload that is no object as is.

        Of a field said twice the last counts, which is the payload's own.
        """
        parts = [part for name, raw in said if (part := self._part(name, raw)) is not None]
        body = payload.lstrip()
        if not parts or not body.startswith(b"{"):
            return payload
        rest = body[1:].lstrip()
        return b"{" + b",".join(parts) + (b"" if rest.startswith(b"}") else b",") + rest

    def _part(self, name: str, raw: bytes | None) -> bytes | None:
        """Return `"name":value`, None where there is none or it is no text."""
        if raw is None:
            return None
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return None
        value = json.dumps(text)
        if self._kinds[name] in ("integer", "float", "boolean"):
            try:
                if not isinstance(msgspec.json.decode(raw), dict | list):
                    value = text
            except (msgspec.DecodeError, RecursionError):
                pass  # the text, so that the intake names the field and what is wrong with it
        return json.dumps(name).encode() + b":" + value.encode()
