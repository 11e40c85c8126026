"""How far the online store is: per source, the offset and the known time of its last record.

Both are written in the transaction that folds the records, so a snapshot knows what it holds: a
question that it answers is asked after every known time in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from homeostat.core.durations import Micros
from homeostat.core.store import Reader, Writer

__all__ = ["folded_known", "folded_offset", "note_folded", "note_known", "read_after"]


def folded_offset(reader: Reader, source: str) -> int:
    """Return the offset of the last record of `source` the store contains, -1 for none."""
    return _number(reader, b"offset/" + source.encode())


def folded_known(reader: Reader, source: str) -> Micros:
    """Return when the last record of `source` in the store became known, -1 for none."""
    return _number(reader, b"known/" + source.encode())


def read_after(reader: Reader, sources: Iterable[str]) -> Micros:
    """Return the latest known time of these sources in a snapshot: a read of it is at a later one.

    -1 where the snapshot has none of their records.
    """
    return max((folded_known(reader, source) for source in sources), default=-1)


def note_folded(writer: Writer, source: str, offset: int, known: Micros) -> None:
    """Note the last record of a source that this transaction folds."""
    writer.put(b"offset/" + source.encode(), offset.to_bytes(8, "big", signed=True))
    note_known(writer, source, known)


def note_known(writer: Writer, source: str, known: Micros) -> None:
    """Note when the last record became known, in a store where only its offset is."""
    writer.put(b"known/" + source.encode(), known.to_bytes(8, "big", signed=True))


def _number(reader: Reader, key: bytes) -> int:
    raw = reader.get(key)
    return -1 if raw is None else int.from_bytes(raw, "big", signed=True)
