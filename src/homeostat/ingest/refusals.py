"""Records that cannot be read as JSON, kept in the log as they came, with the reason.

A stream outside may bring bytes that nothing can turn into an event: their schema is unknown, they
are cut off, there are none. They go into the log like every record, so that their place and their
known time are kept, behind a mark that no JSON begins with. The intake makes dead letters of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import msgspec

from homeostat.core.errors import HomeostatError

__all__ = ["REASONS", "Refusal", "refusal_of"]

REASONS = ("undecodable", "unknown_schema", "tombstone", "too_large", "malformed")
"""Why a record was refused before the intake saw it."""

_MARK = b"\x00refused\x00"


class RefusalUnknown(HomeostatError, ValueError):
    """A refusal for a reason that nobody counts."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"refusal for {reason!r}; allowed: {', '.join(REASONS)}; use the nearest, and say the "
            "rest in the detail"
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was received, and why it is no event; `detail` quotes no value.

    >>> refusal_of(Refusal("undecodable", "4 bytes are left over", b"abc").record()).received
    b'abc'
    >>> refusal_of(b"{}") is None
    True
    """

    reason: str
    detail: str
    received: bytes

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise RefusalUnknown(self.reason)

    def record(self) -> bytes:
        """Return the bytes that stand for it in the log."""
        head = json.dumps([self.reason, self.detail]).encode()
        return _MARK + head + b"\n" + self.received


def refusal_of(payload: bytes) -> Refusal | None:
    """Return the refusal that a record stands for, None for any other record."""
    if not payload.startswith(_MARK):
        return None
    head, _, received = payload[len(_MARK) :].partition(b"\n")
    try:
        reason, detail = msgspec.json.decode(head, type=tuple[str, str])
        return Refusal(reason, detail, received)
    except ValueError:  # somebody else's bytes that begin like ours
        return None
