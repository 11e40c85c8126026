"""Digests of event ids: the order of ties, and the key of deduplication."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["id_digest", "id_digests"]


def id_digest(event_id: str) -> int:
    """Return the signed 64-bit digest of an event id (BLAKE2b of its UTF-8 bytes).

    >>> id_digest("UA1545") == id_digest("UA1545")
    True
    """
    raw = hashlib.blake2b(event_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(raw, "big", signed=True)


def id_digests(event_ids: Iterable[str]) -> npt.NDArray[np.int64]:
    """Return the digests of many event ids, int64 of shape (n,)."""
    blake = hashlib.blake2b
    raw = b"".join(
        blake(i.encode("utf-8", "surrogatepass"), digest_size=8).digest() for i in event_ids
    )
    return np.frombuffer(raw, dtype=">i8").astype(np.int64)
