"""The laws of an online store, as checks that anybody can run on an adapter of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Thread

from homeostat.core.store import Store
from homeostat.testing.laws import hold

__all__ = ["store_checks"]

HOSTILE = (
    b"\x00", b"\x00\x00", b"a", b"a\x00", b"a\x00b", b"a\xff", b"a\xff\xff", b"b", b"\xff",
    b"\xff\xff", bytes(range(256)), "ü/☃".encode(), b"k" * 500,
)  # fmt: skip
"""Keys that a store may confuse, in no order."""


class _Stopped(Exception):
    """Ends a transaction of a check."""


def store_checks(open_store: Callable[[str], Store]) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield (name, check); `open_store(name)` opens the store of that name, new or as it was left.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from homeostat.adapters.lmdb import LmdbStore
    >>> with TemporaryDirectory() as folder:
    ...     for name, check in store_checks(lambda name: LmdbStore(Path(folder, name))):
    ...         check()
    """

    def fill(store: Store, values: dict[bytes, bytes]) -> None:
        with store.writer() as writer:
            for key, value in values.items():
                writer.put(key, value)

    def everything(store: Store) -> dict[bytes, bytes]:
        with store.reader() as reader:
            return dict(reader.scan(b""))

    def what_is_put_is_got() -> None:
        values = {key: bytes([number]) * number for number, key in enumerate(HOSTILE)}
        values[b"large"] = bytes(range(256)) * 8_000
        with closing(open_store("put")) as store:
            fill(store, values)
            with store.reader() as reader:
                for key, value in values.items():
                    hold(reader.get(key) == value, f"the value of {key[:9]!r} is the one put")
                hold(reader.get(b"nothing") is None, "a key without a value has None")
                hold(reader.get(b"a\x00\x00") is None, "no key stands for one like it")
            fill(store, {b"a": b"new"})
            hold(everything(store)[b"a"] == b"new", "the last value put is the one")

    def a_view_is_copied() -> None:
        with closing(open_store("view")) as store, store.writer() as writer:
            room = bytearray(b"before")
            writer.put(b"a", memoryview(room)[1:4])
            room[:] = b"AFTERS"
            hold(writer.get(b"a") == b"efo", "a value does not change with the buffer it came from")

    def what_is_lent_is_what_is_got() -> None:
        values = {key: bytes([number]) * number for number, key in enumerate(HOSTILE)}
        values[b"large"] = bytes(range(256)) * 8_000
        with closing(open_store("lend")) as store:
            fill(store, values)
            with store.writer() as writer:
                for key, value in values.items():
                    lent = writer.lend(key)
                    hold(lent is not None and bytes(lent) == value, f"{key[:9]!r} is lent whole")
                hold(writer.lend(b"nothing") is None, "a key without a value lends None")
                writer.put(b"large", b"other")
                hold(bytes(writer.lend(b"large") or b"") == b"other", "a put is lent")
                writer.delete(b"large")
                hold(writer.lend(b"large") is None, "what is deleted is not lent")
                got = writer.get(b"b")
                writer.put(b"b", b"other")
                hold(got == values[b"b"], "what was got stays as it was")

    def a_writer_sees_what_it_did() -> None:
        with closing(open_store("own")) as store:
            fill(store, {b"a": b"1", b"b": b"2"})
            with store.writer() as writer:
                writer.put(b"c", b"3")
                writer.delete(b"a")
                writer.delete(b"never there")
                hold(writer.get(b"c") == b"3", "a writer reads what it has put")
                hold(writer.get(b"a") is None, "a writer does not read what it has deleted")
                seen = [*writer.scan(b"")]
                hold(seen == [(b"b", b"2"), (b"c", b"3")], f"a writer lists the same: {seen}")

    def a_transaction_is_whole_or_nothing() -> None:
        with closing(open_store("whole")) as store:
            fill(store, {b"a": b"1", b"b": b"2"})
            try:
                with store.writer() as writer:
                    writer.put(b"a", b"changed")
                    writer.put(b"c", b"new")
                    writer.delete(b"b")
                    raise _Stopped
            except _Stopped:
                pass
            left = everything(store)
            hold(left == {b"a": b"1", b"b": b"2"}, f"an exception discards everything: {left}")

    def a_reader_sees_one_moment() -> None:
        with closing(open_store("moment")) as store:
            fill(store, {b"a": b"1", b"b": b"2"})
            with store.reader() as snapshot:

                def change() -> None:
                    with store.writer() as writer:
                        writer.put(b"a", b"changed")
                        writer.delete(b"b")
                        writer.put(b"c", b"3")

                other = Thread(target=change)
                other.start()
                other.join(30)
                hold(not other.is_alive(), "a reader does not hold up the writer")
                seen = dict(snapshot.scan(b""))
                hold(seen == {b"a": b"1", b"b": b"2"}, f"a snapshot stays as it was: {seen}")
                hold(snapshot.get(b"b") == b"2", "a snapshot has what was deleted since")
            left = everything(store)
            hold(left == {b"a": b"changed", b"c": b"3"}, f"the next one sees the change: {left}")

    def a_scan_is_ordered_and_complete() -> None:
        keys = [*HOSTILE, *(b"a/%d" % number for number in range(300))]
        with closing(open_store("scan")) as store:
            fill(store, {key: b"v" + key for key in keys})
            with store.reader() as reader:
                for prefix in (b"", b"a", b"a/", b"a/2", b"a\xff", b"\xff", b"zz", b"\x00"):
                    wanted = sorted(key for key in keys if key.startswith(prefix))
                    found = [*reader.scan(prefix)]
                    hold([k for k, _ in found] == wanted, f"keys of {prefix!r}, in their order")
                    hold(all(v == b"v" + k for k, v in found), f"values of {prefix!r}")

    def what_was_committed_is_there_after_opening_again() -> None:
        with closing(open_store("again")) as store:
            fill(store, {b"a": b"1", b"b": b"2"})
            with store.writer() as writer:
                writer.delete(b"b")
        with closing(open_store("again")) as store:
            left = everything(store)
            hold(left == {b"a": b"1"}, f"a store keeps what was committed: {left}")
        with closing(open_store("another")) as store:
            hold(everything(store) == {}, "stores of different names share nothing")

    for check in (
        what_is_put_is_got, a_view_is_copied, what_is_lent_is_what_is_got,
        a_writer_sees_what_it_did, a_transaction_is_whole_or_nothing, a_reader_sees_one_moment,
        a_scan_is_ordered_and_complete, what_was_committed_is_there_after_opening_again,
    ):  # fmt: skip
        yield check.__name__.replace("_", " "), check
