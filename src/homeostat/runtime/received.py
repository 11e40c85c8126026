"""The records of a source as they were received: what the log let go of, the lake may have."""

from __future__ import annotations

from collections.abc import Iterator

from homeostat.core.durations import Micros
from homeostat.ingest.log import EventLog, LogBatch, LogTrimmed
from homeostat.lake.raw import RawRecords
from homeostat.runtime.worker import CHUNK

__all__ = ["Received"]


class Received:
    """Reads the log of a source, and before its beginning the raw table, if that reaches it."""

    def __init__(self, source: str, log: EventLog, raw: RawRecords) -> None:
        self._source, self._log, self._raw = source, log, raw

    def batches(self, begin: int, until: int) -> Iterator[LogBatch]:
        """Yield the records from offset `begin` to `until`, or to the last there is.

        Raises `LogTrimmed` if one of them is neither in the log nor in the raw table.
        """
        at = begin
        first = min(self._log.end(self._source).first_offset, until + 1)
        for batch in self._raw.read(at, first) if at < first else ():
            if batch.offsets[0] != at or batch.offsets[-1] != at + len(batch) - 1:
                break
            at += len(batch)
            yield batch
        while at <= until:
            batch = self._log.read(self._source, at - 1, min(CHUNK, until + 1 - at))
            if not len(batch):
                return
            at += len(batch)
            yield batch

    def first_known(self, known_from: Micros | None) -> int:
        """Return the first offset that is known at an instant or later (None: of all).

        Raises `LogTrimmed` if that may be one that is kept nowhere.
        """
        end = self._log.end(self._source)
        low, high = end.first_offset, end.next_offset
        while known_from is not None and low < high:
            middle = (low + high) // 2
            if int(self._log.read(self._source, middle - 1, 1).known[0]) < known_from:
                low = middle + 1
            else:
                high = middle
        if low > end.first_offset or not low:
            return low
        # All that the log keeps is as late: some that went may be, too.
        found = self._in_raw(low, known_from)
        if found is None:
            raise LogTrimmed("of the home", self._source, low - 1, low)
        return found

    def _in_raw(self, log_begins: int, known_from: Micros | None) -> int | None:
        """Return the first such offset before the log begins, or that; None if nothing tells."""
        kept = self._raw.first_offset
        if kept is None or self._raw.last_offset < log_begins - 1:
            return None
        found: int | None = kept
        if known_from is not None:
            edge = int(self._log.read(self._source, log_begins - 1, 1).known[0])
            found = self._raw.first_known(known_from, edge + 1)
        first = log_begins if found is None else found
        return first if first > kept or first == 0 else None
