"""MurmurHash3 of short texts: the hash of scikit-learn's hashing transformers, without them."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["bucket", "murmur3"]

MASK = 0xFFFFFFFF


def murmur3(text: str) -> int:
    """Return the signed 32-bit MurmurHash3 (x86, seed 0) of a text's UTF-8 bytes.

    >>> murmur3("late"), murmur3("")
    (859229416, 0)
    """
    raw = text.encode("utf-8", "surrogatepass")
    whole = len(raw) & ~3
    state = 0
    for at in range(0, whole, 4):
        state ^= _scrambled(int.from_bytes(raw[at : at + 4], "little"))
        state = ((state << 13 | state >> 19) * 5 + 0xE6546B64) & MASK
    state ^= _scrambled(int.from_bytes(raw[whole:], "little")) ^ len(raw)
    state = (state ^ state >> 16) * 0x85EBCA6B & MASK
    state = (state ^ state >> 13) * 0xC2B2AE35 & MASK
    state ^= state >> 16
    return state - (1 << 32) if state >> 31 else state


def _scrambled(block: int) -> int:
    block = block * 0xCC9E2D51 & MASK
    return (block << 15 | block >> 17) * 0x1B873593 & MASK


@lru_cache(maxsize=1 << 16)
def bucket(text: str, buckets: int) -> tuple[int, float]:
    """Return the bucket of a text, below `buckets`, and the sign that lets collisions cancel.

    >>> bucket("late", 1000)
    (416, 1.0)
    """
    found = murmur3(text)
    if found == -(1 << 31):  # as in scikit-learn, where its absolute value would overflow
        return ((1 << 31) - 1 - (buckets - 1)) % buckets, -1.0
    return abs(found) % buckets, 1.0 if found >= 0 else -1.0
