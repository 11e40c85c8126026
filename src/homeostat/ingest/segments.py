"""Segments of the embedded log: records as a row of SQLite has them, compressed or plain."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from homeostat.ingest.payloads import Payloads

__all__ = ["RECORDS", "WORTH", "Row", "Segment", "cuts", "is_full", "row_of", "segment_of"]

RECORDS, OCTETS = 8_192, 4 << 20
"""A segment has at most so many records, and so many bytes unless it is one record."""

WORTH = 1_024
"""Bytes from which on a segment is compressed (Zstandard, level 1)."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Records [first, first + n) of a source; record i is body[ends[i - 1]:ends[i]]."""

    first: int
    known: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    body: bytes

    @property
    def stop(self) -> int:
        """The offset after the last record."""
        return self.first + len(self.known)

    def payloads(self, begin: int, end: int) -> Payloads:
        """Return the payloads of records [begin, end), counted from the segment's first."""
        first = int(self.ends[begin - 1]) if begin else 0
        ends = self.ends[begin:end] - first
        body = np.frombuffer(self.body, np.uint8)[first : first + int(ends[-1])]
        return Payloads(body, np.append(0, ends[:-1]), ends)


class Row(NamedTuple):
    """A segment as SQLite holds it.

    `size` is None where the columns are plain: known times (int64), ends of the payloads (uint32)
    and the payloads. Else they are compressed, `size` bytes of payloads: differences of known times
    and lengths of payloads, so that they take little. The checksum is that of what is stored.
    """

    first: int
    records: int
    last_known: int
    checksum: int
    known: bytes
    ends: bytes
    body: bytes
    size: int | None


def cuts(lengths: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield [begin, stop) of segments that are bounded in records and, beyond one, in bytes."""
    ends, begin, before = np.cumsum(lengths), 0, 0
    while begin < len(lengths):
        full = int(np.searchsorted(ends, before + OCTETS, side="right"))
        stop = min(max(full, begin + 1), begin + RECORDS, len(lengths))
        yield begin, stop
        begin, before = stop, int(ends[stop - 1])


def is_full(records: int, octets: int) -> bool:
    """Whether so many records, of so many bytes, are more than one segment may have."""
    return records > RECORDS or octets > OCTETS


def row_of(first: int, known: npt.NDArray[np.int64], payloads: Payloads) -> Row:
    """Return the row of a segment of at least one record."""
    body, lengths = payloads.packed(), payloads.lengths
    ends, size = np.cumsum(lengths).astype("<u4").tobytes(), None
    parts = (known.astype("<i8").tobytes(), ends, body)
    if sum(map(len, parts)) >= WORTH:
        differences = np.diff(known, prepend=0).astype("<i8").tobytes()
        smaller = (_less(differences), _less(lengths.astype("<u4").tobytes()), _less(body))
        if sum(map(len, smaller)) < sum(map(len, parts)):
            parts, size = smaller, len(body)
    return Row(first, len(known), int(known[-1]), _checksum(*parts), *parts, size)


def segment_of(row: Row) -> Segment | None:
    """Return the segment of a row; None where the bytes are not those that were written."""
    if _checksum(row.known, row.ends, row.body) != row.checksum:
        return None
    if row.size is None:
        known = np.frombuffer(row.known, dtype="<i8").astype(np.int64, copy=False)
        ends = np.frombuffer(row.ends, dtype="<u4").astype(np.int64)
        return Segment(row.first, known, ends, row.body)
    differences = np.frombuffer(_more(row.known, 8 * row.records), dtype="<i8")
    lengths = np.frombuffer(_more(row.ends, 4 * row.records), dtype="<u4")
    known = np.cumsum(differences, dtype=np.int64)
    ends = np.cumsum(lengths, dtype=np.int64)
    return Segment(row.first, known, ends, _more(row.body, row.size))


def _less(body: bytes) -> bytes:
    return bytes(_codec().compress(body, asbytes=True))


def _more(body: bytes, size: int) -> bytes:
    return bytes(_codec().decompress(body, size, asbytes=True)) if size else b""


def _codec() -> Any:
    import pyarrow as pa  # not before a segment is large enough

    return pa.Codec("zstd", compression_level=1)


def _checksum(known: bytes, ends: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(ends, zlib.crc32(known)))
