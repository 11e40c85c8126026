"""The embedded key-value store: LMDB, many reading processes and one writer, ACID."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from homeostat.core.errors import HomeostatError
from homeostat.core.storage import StorageFailed, storage

__all__ = ["LmdbStore", "StoreFull"]

GIBIBYTE = 2**30


class StoreFull(HomeostatError):
    """The declared size of the store's map is used up."""

    def __init__(self, path: Path, map_size: int) -> None:
        super().__init__(
            f"store {path}: full at {map_size} bytes; allowed: data below map_size; "
            "open it again with a larger map_size"
        )


class _Scanning:
    def __init__(self, transaction: Any) -> None:
        self._transaction = transaction

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._transaction.cursor() as cursor:
            if not cursor.set_range(prefix):
                return
            for key, value in cursor:
                if not bytes(key).startswith(prefix):
                    return
                yield bytes(key), bytes(value)


class _Reading(_Scanning):
    def __init__(self, transaction: Any) -> None:
        super().__init__(transaction)
        self.get = transaction.get


class _Writing(_Scanning):
    """Lends values where they lie in the store's memory; what is got is copied."""

    def __init__(self, transaction: Any) -> None:
        super().__init__(transaction)
        self.lend, self.put = transaction.get, transaction.put

    def get(self, key: bytes) -> bytes | None:
        found = self.lend(key)
        return None if found is None else bytes(found)

    def delete(self, key: bytes) -> None:
        self._transaction.delete(key)


class LmdbStore:
    """A `Store` in one folder.

    `map_size` bounds the file in bytes (it is sparse, so a large bound costs nothing). With
    `sync=False` a power cut may lose the last transactions, and never tears one.
    """

    def __init__(self, path: str | Path, *, map_size: int = 16 * GIBIBYTE, sync: bool = True):
        import lmdb

        self._path, self._map_size = Path(path), map_size
        self._path.mkdir(parents=True, exist_ok=True)
        self._full: type[Exception] = lmdb.MapFullError
        self._failed: type[Exception] = lmdb.Error
        self._environment = lmdb.open(
            str(self._path),
            map_size=map_size,
            sync=sync,
            metasync=sync,
            subdir=True,
            max_readers=256,
        )

    @contextmanager
    def reader(self) -> Iterator[_Reading]:
        """Open a snapshot."""
        with self._environment.begin(buffers=False) as transaction:
            yield _Reading(transaction)

    @contextmanager
    def writer(self) -> Iterator[_Writing]:
        """Open the write transaction: committed on a clean exit, discarded on an exception."""
        try:
            with (
                storage("store", self._path, self._failed),
                self._environment.begin(write=True, buffers=True) as transaction,
            ):
                yield _Writing(transaction)
        except StorageFailed as failed:
            if isinstance(failed.__cause__, self._full):
                raise StoreFull(self._path, self._map_size) from failed
            raise

    def close(self) -> None:
        """Close the environment; open transactions must have ended."""
        self._environment.close()
