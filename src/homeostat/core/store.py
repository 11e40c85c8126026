"""The port of a key-value store: snapshots for reading, one transaction for writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["Reader", "Snapshot", "Store", "Writer"]


class Reader(Protocol):
    """One consistent snapshot of a store."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        ...


class Snapshot(Reader, Protocol):
    """A snapshot that can be listed."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys that start with `prefix` and their values, in the order of the keys."""
        ...


class Writer(Snapshot, Protocol):
    """One write transaction; it reads what it has written."""

    def lend(self, key: bytes) -> bytes | memoryview | None:
        """Return the value of `key` where it lies, or None; valid until the next put or delete."""
        ...

    def put(self, key: bytes, value: bytes | memoryview) -> None:
        """Set the value of `key`; a view is copied."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove `key`; removing what is not there is no error."""
        ...


class Store(Protocol):
    """Many readers and one writer; what a writer did appears at once, when it ends cleanly.

    Leaving `writer()` by an exception discards everything it wrote. A reader sees the store as
    it was when the reader was opened.
    """

    def reader(self) -> AbstractContextManager[Snapshot]:
        """Open a snapshot."""
        ...

    def writer(self) -> AbstractContextManager[Writer]:
        """Open the write transaction."""
        ...

    def close(self) -> None:
        """Release the store's resources."""
        ...
