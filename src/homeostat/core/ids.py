"""Digests of event ids, by which repeats are found, and ties, which order simultaneous events."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from homeostat.core.id_symbols import DIGIT_BITS, SHORT, SYMBOLS

__all__ = [
    "event_tie",
    "event_ties",
    "id_digest",
    "id_digests",
    "number_tie",
    "number_ties",
]

_RADIX = max(SYMBOLS) + 1
_MOST = 2**63 - 1
_START, _FACTOR = 0xCBF29CE484222325, 0x100000001B3


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


def event_tie(event_id: str, *, is_number: bool = False) -> int:
    """Return the signed 64-bit number by which events of one instant order, and are told apart.

    Ids that count up order as they do: whole numbers as numbers; texts of at most ten letters,
    digits and `#-./:_` by their bytes; longer texts that end in digits by these, the last nine at
    most, among those of the same length with the same beginning. All others order by their
    digests, and so do kinds of ids among each other, by their ties: any order, always the same.

    >>> event_tie("9", is_number=True) < event_tie("10", is_number=True)
    True
    >>> event_tie("o-009") < event_tie("o-010") < event_tie("p")
    True
    >>> event_tie("payment-2024-000999") < event_tie("payment-2024-001000")
    True
    >>> event_tie("payment-of-9") > event_tie("payment-of-8")
    True
    """
    if is_number:
        return number_tie(int(event_id))
    raw = event_id.encode("utf-8", "surrogatepass")
    places = [SYMBOLS[byte] for byte in raw]
    if len(raw) <= SHORT and all(places):
        code = 0
        for place in (*places, *(0 for _ in range(SHORT - len(raw)))):
            code = code * _RADIX + place
        return code
    tail = raw[-9:]
    digits = len(tail) - len(tail.rstrip(b"0123456789"))
    if not digits:
        return id_digest(event_id)
    head = _START
    for number in (*raw[:-digits], len(raw)):
        head = (head ^ number) * _FACTOR % 2**64
    bits = DIGIT_BITS[digits]
    return (head >> bits + 1 << bits | int(raw[-digits:])) - 2**63


def number_tie(number: int) -> int:
    """Return the tie of a whole number: itself, one more from 0 on, so that no tie is 0."""
    return number if number < 0 else min(number + 1, _MOST)


def number_ties(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the ties of many whole numbers, int64 of shape (n,)."""
    found: npt.NDArray[np.int64] = numbers + ((numbers >= 0) & (numbers < _MOST))
    return found


def event_ties(event_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the ties of many texts, int64 of shape (n,)."""
    from homeostat.core.tie_loops import text_ties

    parts = [text.encode("utf-8", "surrogatepass") for text in event_ids]
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    body, found = np.frombuffer(b"".join(parts), np.uint8), np.empty(len(parts), np.int64)
    starts, nothing = lengths.cumsum() - lengths, np.empty(0, np.uint8)
    text_ties(body, nothing, starts, lengths, id_digests(event_ids), found, 0, len(parts))
    return found
