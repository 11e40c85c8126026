"""Files of JSON lines that are too long to be held: read twice, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros
from homeostat.declare.sources import EventSource
from homeostat.ingest.known_times import declared_times
from homeostat.ingest.lines import BEGINNING, BOM, LONGEST, blocks, with_feeds
from homeostat.ingest.payloads import Payloads

__all__ = ["LONG", "ordered_lines"]

LONG = 64 << 20
"""A file with more bytes is not held in memory if its records are in the order of known time."""


def ordered_lines(
    source: EventSource, path: Path, given: Micros | None
) -> Iterator[tuple[npt.NDArray[np.int64], Payloads]] | None:
    """Return (known times, payloads) of the blocks of a file, None if they are out of order.

    `given` is when all of them are known, None for as the source declares.
    """
    known: list[npt.NDArray[np.int64]] | None = None
    if given is None:
        known = _known(source, path)
        if known is None:
            return None
    return _records(path, known, given)


def _known(source: EventSource, path: Path) -> list[npt.NDArray[np.int64]] | None:
    """Return the known times of each block, None if one is before another that precedes it."""
    found: list[npt.NDArray[np.int64]] = []
    last: Micros | None = None
    for payloads in _blocks(path):
        known = declared_times(source, payloads, last)
        if (np.diff(known) < 0).any() or (last is not None and len(known) and known[0] < last):
            return None
        if last is None and len(known) and not known.any():
            return None  # no clock to be read: that of a later block would count
        last = int(known[-1]) if len(known) else last
        found.append(known)
    return found


def _records(
    path: Path, known: list[npt.NDArray[np.int64]] | None, given: Micros | None
) -> Iterator[tuple[npt.NDArray[np.int64], Payloads]]:
    for number, payloads in enumerate(_blocks(path)):
        if known is not None:
            yield known[number], payloads
        else:
            yield np.full(len(payloads), given, np.int64), payloads


def _blocks(path: Path) -> Iterator[Payloads]:
    """Yield the lines of a file by blocks; what follows the last line break is a line, too."""
    size, end = path.stat().st_size, 0
    with path.open("rb") as opened:
        file = with_feeds(opened)
        for block, reached in blocks(file, 0, size):
            yield Payloads.lines(block if end else block.removeprefix(BOM))
            end = reached
        if end < size:
            file.seek(end)
            rest = file.read(LONGEST + 1)
            yield Payloads.lines(rest if len(rest) <= LONGEST else rest[:BEGINNING])
