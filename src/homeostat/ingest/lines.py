"""Whole lines at the front of a text that may still be growing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

__all__ = [
    "BEGINNING",
    "BOM",
    "LONGEST",
    "ByteReader",
    "blocks",
    "end_of_line",
    "line_break",
    "with_feeds",
]

BOM = b"\xef\xbb\xbf"
_BLOCK = 4 << 20
LONGEST = 48 << 20
"""A record with more bytes than this is no event; its beginning goes to the dead letters."""
BEGINNING = 64 << 10


class ByteReader(Protocol):
    """A file, or bytes that behave like one."""

    def seek(self, offset: int, /) -> int: ...
    def read(self, size: int, /) -> bytes: ...


def line_break(text: bytes) -> bytes:
    r"""Return what ends the lines of a text, by the first that ends: a return alone, or a feed.

    A return at the very end of the text says nothing: a feed may follow.

    >>> line_break(b"a\rb\n"), line_break(b"a\r\nb\r"), line_break(b"a\r")
    (b'\r', b'\n', b'\n')
    """
    at, feed = text.find(b"\r"), text.find(b"\n")
    alone = 0 <= at < len(text) - 1 and at + 1 != feed and (feed < 0 or at < feed)
    return b"\r" if alone else b"\n"


class _Fed:
    """A file with line feeds where it has returns; nothing moves."""

    def __init__(self, file: ByteReader) -> None:
        self._file = file

    def seek(self, offset: int, /) -> int:
        return self._file.seek(offset)

    def read(self, size: int, /) -> bytes:
        return self._file.read(size).replace(b"\r", b"\n")


def with_feeds(file: ByteReader) -> ByteReader:
    """Return the file, read with line feeds if its lines end with returns alone.

    For JSON, in which both are white space, and stand in no text.
    """
    file.seek(0)
    return _Fed(file) if line_break(file.read(_BLOCK)) == b"\r" else file


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


def end_of_line(file: ByteReader, start: int, size: int, ending: bytes = b"\n") -> int | None:
    """Return where the line that goes on at `start` ends, None if its end is not there."""
    file.seek(start)
    while start < size:
        block = file.read(min(_BLOCK, size - start))
        if not block:
            return None
        at = block.find(ending)
        if at >= 0:
            return start + at + 1
        start += len(block)
    return None
