"""Whole records at the front of a text that may still be growing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

__all__ = ["BEGINNING", "LONGEST", "ByteReader", "blocks", "first_record", "split_records"]

_BLOCK = 4 << 20
LONGEST = 48 << 20
"""A record with more bytes than this is no event; its beginning goes to the dead letters."""
BEGINNING = 64 << 10


class ByteReader(Protocol):
    """A file, or bytes that behave like one."""

    def seek(self, offset: int, /) -> int: ...
    def read(self, size: int, /) -> bytes: ...


def blocks(file: ByteReader, start: int, size: int, *, quoted: bool) -> Iterator[tuple[bytes, int]]:
    """Yield (records, where they end) of a text of `size` bytes, from the record at `start` on.

    What follows the last line break is not yielded: it may not be all there. In a `quoted` text
    (CSV) a line break inside quotes ends nothing. Blocks have a few megabytes.

    >>> import io
    >>> list(blocks(io.BytesIO(b'a\\n"b\\n"\\nc'), 0, 8, quoted=True))
    [(b'a\\n"b\\n"\\n', 7)]
    """
    while start < size:
        wanted, whole, block = _BLOCK, 0, b""
        while not whole:
            file.seek(start)
            block = file.read(min(wanted, size - start))
            whole = _whole(block, quoted=quoted)
            if whole or len(block) < wanted:
                break
            if wanted > LONGEST:
                end = _end_of_line(file, start + len(block), size)
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


def first_record(file: ByteReader, size: int) -> bytes | None:
    """Return the header of a CSV text with its line break, None while it is not all there."""
    file.seek(0)
    text = file.read(min(size, 1 << 20))
    end = text.find(b"\n")
    while end >= 0 and text.count(b'"', 0, end) % 2:
        end = text.find(b"\n", end + 1)
    return None if end < 0 else text[: end + 1]


def split_records(block: bytes) -> list[bytes]:
    """Return the records of a block of CSV, with their line breaks, however they are quoted.

    >>> split_records(b'a,b\\n"c\\n",d\\n')
    [b'a,b\\n', b'"c\\n",d\\n']
    """
    records: list[bytes] = []
    begun, quotes = b"", 0
    for line in block.removesuffix(b"\n").split(b"\n"):
        begun += line + b"\n"
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            records.append(begun)
            begun = b""
    return [*records, begun] if begun else records


def _whole(block: bytes, *, quoted: bool) -> int:
    """Return how many bytes at the front of a block are whole records."""
    if not quoted:
        return block.rfind(b"\n") + 1
    quotes, end = block.count(b'"'), len(block)
    while (at := block.rfind(b"\n", 0, end)) >= 0:
        quotes -= block.count(b'"', at, end)
        if quotes % 2 == 0:
            return at + 1
        end = at
    return 0


def _end_of_line(file: ByteReader, start: int, size: int) -> int | None:
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
