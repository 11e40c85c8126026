"""Whole lines at the front of a text that may still be growing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

__all__ = ["BEGINNING", "LONGEST", "ByteReader", "blocks", "end_of_line"]

_BLOCK = 4 << 20
LONGEST = 48 << 20
"""A record with more bytes than this is no event; its beginning goes to the dead letters."""
BEGINNING = 64 << 10


class ByteReader(Protocol):
    """A file, or bytes that behave like one."""

    def seek(self, offset: int, /) -> int: ...
    def read(self, size: int, /) -> bytes: ...


def blocks(file: ByteReader, start: int, size: int) -> Iterator[tuple[bytes, int]]:
    """Yield (lines, where they end) of a text of `size` bytes, from the line at `start` on.

    What follows the last line break is not yielded: it may not be all there. Blocks have a few
    megabytes.

    >>> import io
    >>> list(blocks(io.BytesIO(b'a\\nb\\nc'), 0, 5))
    [(b'a\\nb\\n', 4)]
    """
    while start < size:
        wanted, whole, block = _BLOCK, 0, b""
        while not whole:
            file.seek(start)
            block = file.read(min(wanted, size - start))
            whole = block.rfind(b"\n") + 1
            if whole or len(block) < wanted:
                break
            if wanted > LONGEST:
                end = end_of_line(file, start + len(block), size)
                if end is None:
                    return
                yield block[:BEGINNING], end
                start, wanted = end, _BLOCK
            else:
                wanted *= 2
        if not whole:
            return
        start += whole
        yield block[:whole], start


def end_of_line(file: ByteReader, start: int, size: int) -> int | None:
    """Return where the line that goes on at `start` ends, None if its end is not there."""
    file.seek(start)
    while start < size:
        block = file.read(min(_BLOCK, size - start))
        if not block:
            return None
        at = block.find(b"\n")
        if at >= 0:
            return start + at + 1
        start += len(block)
    return None
