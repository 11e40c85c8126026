"""Stores keep the laws, and every check notices a store that breaks its law."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from homeostat.adapters.lmdb import LmdbStore
from homeostat.core.store import Store
from homeostat.testing.laws import LawBroken
from homeostat.testing.memory_store import MemoryStore
from homeostat.testing.store_checks import store_checks

NAMES = [name for name, _ in store_checks(LmdbStore)]


def named(make: Callable[[], MemoryStore]) -> Callable[[str], Store]:
    """Return what opens stores in memory that are kept by name."""
    made: dict[str, MemoryStore] = {}
    return lambda name: made.setdefault(name, make())


@pytest.mark.parametrize("name", NAMES)
def test_the_embedded_store_keeps_the_law(name: str, tmp_path: Path) -> None:
    dict(store_checks(lambda store: LmdbStore(tmp_path / store, map_size=2**26)))[name]()


@pytest.mark.parametrize("name", NAMES)
def test_the_store_in_memory_keeps_the_law(name: str) -> None:
    dict(store_checks(named(MemoryStore)))[name]()


class Wrong(MemoryStore):
    """A store whose transactions are changed by `broken`."""

    @contextmanager
    def writer(self) -> Iterator[Any]:
        with super().writer() as writer:
            yield self.broken(writer)

    @contextmanager
    def reader(self) -> Iterator[Any]:
        with super().reader() as reader:
            yield self.broken(reader)

    def broken(self, transaction: Any) -> Any:
        return transaction


class ConfusesKeys(Wrong):
    """Keys end at their first zero, as texts of C do."""

    def broken(self, transaction: Any) -> Any:
        get = transaction.get
        transaction.get = lambda key: get(key.rstrip(b"\x00") or key)
        return transaction


class KeepsTheView(Wrong):
    def broken(self, transaction: Any) -> Any:
        transaction.put = transaction._data.__setitem__
        return transaction


class LendsTheFirst(Wrong):
    """What is lent is as it was before the transaction."""

    def broken(self, transaction: Any) -> Any:
        transaction.lend = dict(transaction._data).get
        return transaction


class WritesAtTheEnd(Wrong):
    """What is put is seen when the transaction has ended."""

    @contextmanager
    def writer(self) -> Iterator[Any]:
        waiting: list[tuple[bytes, bytes]] = []
        with MemoryStore.writer(self) as writer:
            put, writer.put = writer.put, lambda *pair: waiting.append(pair)  # type: ignore[method-assign]
            yield writer
            for key, value in waiting:
                put(key, value)


class CommitsAtOnce(Wrong):
    @contextmanager
    def writer(self) -> Iterator[Any]:
        with MemoryStore.writer(self) as writer:
            self._data = writer._data
            yield writer


class ReadsTheLatest(Wrong):
    """A reader sees every change."""

    def broken(self, transaction: Any) -> Any:
        transaction.get = lambda key: self._data.get(key)
        return transaction


class ScansByLength(Wrong):
    def broken(self, transaction: Any) -> Any:
        scan = transaction.scan
        transaction.scan = lambda prefix: sorted(scan(prefix), key=lambda pair: len(pair[0]))
        return transaction


class ScansTooFar(Wrong):
    """The end of a prefix is its last byte plus one, which overflows."""

    def broken(self, transaction: Any) -> Any:
        scan = transaction.scan
        transaction.scan = lambda p: scan(p[:-1] if p.endswith(b"\xff") else p)
        return transaction


BROKEN: dict[str, tuple[type[MemoryStore], ...]] = {
    "what is put is got": (ConfusesKeys,),
    "a view is copied": (KeepsTheView,),
    "what is lent is what is got": (LendsTheFirst,),
    "a writer sees what it did": (WritesAtTheEnd,),
    "a transaction is whole or nothing": (CommitsAtOnce,),
    "a reader sees one moment": (ReadsTheLatest,),
    "a scan is ordered and complete": (ScansByLength, ScansTooFar),
}


@pytest.mark.parametrize(
    ("name", "broken"), [(name, one) for name, several in BROKEN.items() for one in several]
)
def test_a_check_notices_a_broken_store(name: str, broken: type[MemoryStore]) -> None:
    with pytest.raises(LawBroken):
        dict(store_checks(named(broken)))[name]()


def test_a_check_notices_a_store_that_forgets() -> None:
    name = "what was committed is there after opening again"
    with pytest.raises(LawBroken):
        dict(store_checks(lambda _: MemoryStore()))[name]()


def test_every_check_has_a_broken_store() -> None:
    assert {*BROKEN, "what was committed is there after opening again"} == set(NAMES)
