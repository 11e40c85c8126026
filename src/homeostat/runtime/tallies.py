"""Records by source and hour, kept with the offset of the fold: each is counted exactly once.

What was turned away at the door is in no log. It is counted beside them by the next pass of the
fold; a process that is killed before forgets what was refused in that moment.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros
from homeostat.core.store import Snapshot, Writer
from homeostat.monitor.rejections import HOUR, Tally

__all__ = ["add_refused", "add_tallies", "tallies_of"]

_COUNTS = struct.Struct(">qq")
_COUNT = struct.Struct(">q")


def _prefix(source: str, kind: bytes = b"tally") -> bytes:
    return kind + b"/" + source.encode() + b"/"


def _hour(hour: int) -> bytes:
    return hour.to_bytes(8, "big", signed=True)


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
        key = _prefix(source) + _hour(hour)
        found = writer.get(key)
        had, had_bad = (0, 0) if found is None else _COUNTS.unpack(found)
        writer.put(key, _COUNTS.pack(had + more, had_bad + worse))


def add_refused(writer: Writer, now: Micros, refused: Mapping[tuple[str, str], int]) -> None:
    """Count what was turned away at the door in the hour of `now`, by source and reason."""
    for (source, reason), more in refused.items():
        key = _prefix(source, b"refused") + _hour(now // HOUR) + reason.encode()
        found = writer.get(key)
        writer.put(key, _COUNT.pack(more + (0 if found is None else _COUNT.unpack(found)[0])))


def tallies_of(reader: Snapshot, source: str, since: Micros) -> list[Tally]:
    """Return the counts of the hours that end after an instant, oldest first."""
    counts: dict[int, tuple[int, int]] = {}
    refused: dict[int, dict[str, int]] = {}
    prefix = _prefix(source)
    for key, value in reader.scan(prefix):
        counts[int.from_bytes(key[len(prefix) :], "big", signed=True)] = _COUNTS.unpack(value)
    prefix = _prefix(source, b"refused")
    for key, value in reader.scan(prefix):
        told = key[len(prefix) :]
        why = refused.setdefault(int.from_bytes(told[:8], "big", signed=True), {})
        why[told[8:].decode()] = _COUNT.unpack(value)[0]
    found = []
    for hour in sorted(counts | refused):
        (records, rejected), why = counts.get(hour, (0, 0)), refused.get(hour, {})
        turned_away = sum(why.values())
        if HOUR * (hour + 1) > since:
            found.append(Tally(HOUR * hour, records + turned_away, rejected + turned_away, why))
    return found
