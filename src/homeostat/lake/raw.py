"""Records as they were received, byte by byte: a table per source beside that of its events.

The log may let go of records; what they were made of stays here, for whoever must read them again.
Rows are in the order of the log, and appended with the last offset as the version of an application
transaction: whoever appends begins after it, so that every record is there once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from homeostat.core.durations import Micros
from homeostat.declare.storage import raw_table
from homeostat.ingest.log import LogBatch
from homeostat.ingest.payloads import Payloads
from homeostat.lake.events import LakeEvents, Span
from homeostat.lake.tables import Lake

__all__ = ["PAYLOAD", "RawRecords"]

OFFSET, KNOWN, PAYLOAD = "_offset", "_known_time", "payload"


class RawRecords:
    """The raw table of a source: `append` goes on where it ends, `read` gives log batches back.

    >>> import tempfile
    >>> from pathlib import Path
    >>> raw = RawRecords(Lake(Path(tempfile.mkdtemp())), "taps")
    >>> batch = LogBatch("taps", np.array([0, 1]), np.array([5, 5]), [b"{}", b"\\xff"])
    >>> raw.append(batch), raw.append(batch), raw.last_offset
    (True, False, 1)
    >>> [payload for batch in raw.read(1, 9) for payload in batch.payloads]
    [b'\\xff']
    """

    def __init__(self, lake: Lake, source: str) -> None:
        self._lake, self._source = lake, source
        self.table = raw_table(source)

    @property
    def last_offset(self) -> int:
        """The offset of the last record that was appended, -1 for none; deleted ones count."""
        return self._lake.application_version(self.table, _application(self._source))

    @property
    def first_offset(self) -> int | None:
        """The offset of the first record that is kept, None if none is."""
        events = self._events(Span())
        bounds = None if events is None else events.bounds(events.parts[0], OFFSET)
        return None if bounds is None else int(bounds[0])

    def append(self, batch: LogBatch) -> bool:
        """Add records in one commit, unless the last of them was added before."""
        rows = pl.DataFrame(
            {
                OFFSET: pl.Series(batch.offsets, dtype=pl.Int64),
                KNOWN: pl.Series(batch.known).cast(pl.Datetime("us", "UTC")),
                PAYLOAD: _column(Payloads.of(batch.payloads)),
            }
        )
        last = int(batch.offsets[-1])
        return self._lake.append(self.table, rows, _application(self._source), last)

    def read(self, begin: int, end: int) -> Iterator[LogBatch]:
        """Yield the records with an offset of [begin, end), a bounded number of bytes at a time."""
        events = self._events(Span())
        for part in () if events is None else events.parts:
            bounds = None if events is None else events.bounds(part, OFFSET)
            if events is None or bounds is None or bounds[1] < begin or bounds[0] >= end:
                continue
            rows = events.read(part, [OFFSET, KNOWN, PAYLOAD])
            rows = rows.filter(pl.col(OFFSET).is_between(begin, end - 1))
            if rows.height:
                yield LogBatch(
                    self._source,
                    rows[OFFSET].to_numpy(),
                    rows[KNOWN].dt.epoch("us").to_numpy(),
                    rows[PAYLOAD].to_list(),
                )

    def first_known(self, known_from: Micros, known_before: Micros) -> int | None:
        """Return the first offset that became known in [known_from, known_before), None if none."""
        if self._lake.version(self.table) < 0:
            return None
        rows = self._lake.read(self.table, [OFFSET], known_before, known_from=known_from)
        return int(rows[OFFSET][0]) if rows.height else None

    def _events(self, span: Span) -> LakeEvents | None:
        if self._lake.version(self.table) < 0:
            return None
        return self._lake.events(self.table, span)


def _column(payloads: Payloads) -> pl.Series:
    """Return byte strings as a column, without making an object of each."""
    import pyarrow as pa

    ends = np.zeros(len(payloads) + 1, np.int64)
    np.cumsum(payloads.lengths, out=ends[1:])
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(payloads.packed())]
    found = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(payloads), buffers)
    return pl.Series(found, dtype=pl.Binary)


def _application(source: str) -> str:
    return f"raw/{source}"
