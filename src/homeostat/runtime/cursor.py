"""Which step of the loop was completed last, kept in the online store with what it folded."""

from __future__ import annotations

from homeostat.core.store import Reader, Writer

__all__ = ["complete", "completed"]

_KEY = b"step"


def completed(reader: Reader) -> int | None:
    """Return the last step that was completed, None before the first."""
    raw = reader.get(_KEY)
    return None if raw is None else int.from_bytes(raw, "big", signed=True)


def complete(writer: Writer, step: int) -> None:
    """Note in the store's transaction that a step is complete."""
    writer.put(_KEY, step.to_bytes(8, "big", signed=True))
