"""Older rows of an entity in a value of their own, so that an event rewrites the recent ones only.

A record that grew long is kept in two values. The first has the header and the recent rows, and
its sentinel is a copy of the last older row; the second has everything between: the directory and
the rows from the record's own sentinel to that row. So the two put together, without the copy, are
the record.
"""

from __future__ import annotations

from homeostat.aggregate.arrays import Ints
from homeostat.core.errors import HomeostatError
from homeostat.core.store import Reader, Writer
from homeostat.features.record import OLDER, Record

__all__ = ["Older"]

_FLAG = slice(8 * OLDER, 8 * OLDER + 8)
_WHOLE = bytes(8)


class Older:
    """Reads and writes the records of one view, in one value or two.

    The older rows lie under the record's key with another prefix.

    Args:
        record: how the records look; `record.longest` says from when on one is kept in two values.
        prefixes: of the keys of records, and of their older rows.
    """

    def __init__(self, record: Record, prefixes: tuple[bytes, bytes]) -> None:
        self._head, self._row = 8 * record.header, 8 * record.width
        self._recent = record.recent * self._row
        self.longest = record.longest
        self._of_records, self._of_older = prefixes

    def read(self, reader: Reader, key: bytes) -> bytes:
        """Return the whole record of an entity, empty if it has none."""
        first = reader.get(key)
        if first is None:
            return b""
        if first[_FLAG] == _WHOLE:
            return first
        return b"".join(self.parts(reader, key, first))

    def parts(self, reader: Reader, key: bytes, first: bytes) -> tuple[bytes, bytes, bytes]:
        """Return what the record of an entity is put together of, given its first value."""
        older = reader.get(self._key(key))
        if older is None:
            raise HomeostatError(
                f"store: the older rows of the record {key!r} are missing; allowed: those of every "
                "record that says it has some; fill the view again from the lake "
                "(`homeostat apply`)"
            )
        return first[: self._head], older, first[self._head + self._row :]

    def write(self, writer: Writer, key: bytes, words: Ints, was_split: bool) -> None:
        """Write a whole record, in two values if it is long; `words` are the caller's no longer."""
        packed = memoryview(words.data).cast("B")
        if len(words) <= self.longest:
            if was_split:
                writer.delete(self._key(key))
            writer.put(key, packed)
            return
        cut = len(packed) - self._recent
        words[OLDER] = (cut - self._head) // 8
        writer.put(self._key(key), packed[self._head : cut])
        writer.put(key, b"".join((packed[: self._head], packed[cut - self._row :])))

    def _key(self, key: bytes) -> bytes:
        return self._of_older + key[len(self._of_records) :]
