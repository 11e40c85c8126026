"""A key-value store in a dictionary: the obviously right twin of the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["MemoryStore"]


class _Snapshot:
    def __init__(self, data: dict[bytes, bytes]) -> None:
        self._data = data

    def get(self, key: bytes) -> bytes | None:
        return self._data.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(k for k in self._data if k.startswith(prefix)):
            yield key, self._data[key]


class _Transaction(_Snapshot):
    def lend(self, key: bytes) -> bytes | None:
        return self._data.get(key)

    def put(self, key: bytes, value: bytes | memoryview) -> None:
        self._data[key] = bytes(value)

    def delete(self, key: bytes) -> None:
        self._data.pop(key, None)


class MemoryStore:
    """A `Store` that lives as long as the object.

    >>> store = MemoryStore()
    >>> with store.writer() as writer:
    ...     writer.put(b"a", b"1")
    >>> with store.reader() as reader:
    ...     reader.get(b"a")
    b'1'
    """

    def __init__(self) -> None:
        self._data: dict[bytes, bytes] = {}

    @contextmanager
    def reader(self) -> Iterator[_Snapshot]:
        """Open a snapshot."""
        yield _Snapshot(dict(self._data))

    @contextmanager
    def writer(self) -> Iterator[_Transaction]:
        """Open the write transaction; an exception discards what it wrote."""
        changed = dict(self._data)
        yield _Transaction(changed)
        self._data = changed

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
