"""Records by source and hour, kept with the offset of the fold: each is counted exactly once."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros
from homeostat.core.store import Snapshot, Writer
from homeostat.monitor.rejections import HOUR, Tally

__all__ = ["add_tallies", "tallies_of"]

_COUNTS = struct.Struct(">qq")


def _prefix(source: str) -> bytes:
    return b"tally/" + source.encode() + b"/"


def add_tallies(
    writer: Writer, source: str, known: npt.NDArray[np.int64], rejected: Sequence[Micros]
) -> None:
    """Count records in the transaction that folds them.

    Args:
        writer: the transaction that also moves the offset.
        source: the source of the records.
        known: when each record became known, (n,), in microseconds.
        rejected: when each of those that are no events became known.
    """
    hours, records = np.unique(known // HOUR, return_counts=True)
    refused = np.asarray(rejected, dtype=np.int64) // HOUR
    places = np.searchsorted(hours, refused)
    bad = np.bincount(places, minlength=len(hours))
    for hour, more, worse in zip(hours.tolist(), records.tolist(), bad.tolist(), strict=True):
        key = _prefix(source) + int(hour).to_bytes(8, "big", signed=True)
        found = writer.get(key)
        had, had_bad = (0, 0) if found is None else _COUNTS.unpack(found)
        writer.put(key, _COUNTS.pack(had + more, had_bad + worse))


def tallies_of(reader: Snapshot, source: str, since: Micros) -> list[Tally]:
    """Return the counts of the hours that end after an instant, oldest first."""
    prefix = _prefix(source)
    found: list[Tally] = []
    for key, value in reader.scan(prefix):
        begin = HOUR * int.from_bytes(key[len(prefix) :], "big", signed=True)
        if begin + HOUR > since:
            records, rejected = _COUNTS.unpack(value)
            found.append(Tally(begin, records, rejected))
    return found
