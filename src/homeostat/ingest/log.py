"""The log: one append-only sequence of (offset, known time, bytes) per source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError

__all__ = [
    "READ_BYTES",
    "Advance",
    "EventLog",
    "Instants",
    "LogBatch",
    "LogDamaged",
    "LogEnd",
    "LogTrimmed",
    "PackableLog",
    "PayloadTooLarge",
    "PositionTaken",
    "TrimmableLog",
    "check_lengths",
]

READ_BYTES = 64 << 20
"""A batch with more bytes than this may end early."""

Instants = Sequence[Micros] | npt.NDArray[np.int64]
"""Known times, one per payload, in microseconds since 1970."""


class LogDamaged(HomeostatError):
    """A stretch of the log is not what was written."""

    def __init__(self, path: str, source: str, first: int) -> None:
        super().__init__(
            f"log {path}, source {source!r}: the records from offset {first} fail their checksum; "
            "allowed: the bytes that were appended; restore the file from a backup"
        )


class LogTrimmed(HomeostatError, LookupError):
    """Records were asked for that the log has let go."""

    def __init__(self, path: str, source: str, asked: int, first: int) -> None:
        self.first = first
        super().__init__(
            f"log {path}, source {source!r}: the record at offset {asked} was let go, as its "
            f"retention says; allowed: offsets from {first} on; the lake has the events before them"
        )


class PayloadTooLarge(HomeostatError, ValueError):
    """One payload is larger than a log record may be."""

    def __init__(self, source: str, size: int, limit: int) -> None:
        super().__init__(
            f"source {source!r}: a payload has {size:,} bytes; allowed: at most {limit:,}; "
            "split it, or store the large part elsewhere and send its address"
        )


@dataclass(frozen=True, slots=True)
class Advance:
    """A step through a stream outside: the log goes on from `after` (None: the beginning) to `to`.

    `stream` and the positions are texts that only the reader of the stream understands.
    """

    stream: str
    after: str | None
    to: str


def check_lengths(source: str, known: Instants, payloads: Sequence[bytes]) -> None:
    """Refuse what is to be appended unless every payload has its known time."""
    if len(known) != len(payloads):
        raise HomeostatError(
            f"log, source {source!r}: {len(known)} known times for {len(payloads)} payloads; "
            "allowed: one each; pass sequences of one length"
        )


class PositionTaken(HomeostatError):
    """Another reader of the stream was faster: what was to be appended is in the log already."""

    retryable = True

    def __init__(self, source: str, step: Advance, stands: str | None) -> None:
        super().__init__(
            f"source {source!r}: the log stands at {stands!r} of {step.stream!r}, and not at "
            f"{step.after!r}; allowed: to go on from where it stands; read on from there"
        )


@dataclass(frozen=True, slots=True, eq=False)
class LogBatch:
    """Consecutive records of one source, in the order of their offsets.

    `offsets` and `known` are int64 of shape (n,), known times in microseconds since 1970 that
    never decrease; `payloads` holds n byte strings.
    """

    source: str
    offsets: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    payloads: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.payloads)


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where a source's log ends, and the first offset that it keeps.

    `last_known` is None while it is empty.
    """

    next_offset: int
    last_known: Micros | None
    first_offset: int = 0


class EventLog(Protocol):
    """Keeps what was received, in one total order per source.

    Laws: offsets are 0, 1, 2 ...; known times never decrease (an earlier one is raised to the
    last); what `append` returned from is read back, once, by this and every later process; a
    reader may cut the sequence anywhere; records before the first that is kept are not answered but
    refused, by `LogTrimmed`. Where a stream outside was read up to is kept with the
    records that were read, and moves with them or not at all.
    """

    def append(
        self,
        source: str,
        known: Instants,
        payloads: Sequence[bytes],
        steps: Sequence[Advance] = (),
    ) -> int:
        """Add records and take the steps, all or nothing; return the offset of the first record.

        Raises `PositionTaken` if a stream does not stand where its step begins.
        """
        ...

    def positions(self, source: str) -> dict[str, str]:
        """Return where the log stands in each stream that the source is read from."""
        ...

    def read(
        self, source: str, after: int, limit: int, known_before: Micros | None = None
    ) -> LogBatch:
        """Return at most `limit` records with a greater offset than `after`, at least one of them.

        With `known_before`, only those known strictly before that instant. When the records have
        more than `READ_BYTES`, they may be fewer, though more are there.
        """
        ...

    def end(self, source: str) -> LogEnd:
        """Return the next offset and the last known time."""
        ...

    def close(self) -> None:
        """Release what the log holds open."""
        ...


@runtime_checkable
class PackableLog(EventLog, Protocol):
    """A log that can store what it has in less space; every record is read as before."""

    def pack(self, source: str) -> int:
        """Pack some stretches of a source's log together; return how many, 0 when all is done.

        One call takes a bounded time.
        """
        ...


@runtime_checkable
class TrimmableLog(EventLog, Protocol):
    """A log that can let go of its oldest records; offsets and positions go on as they were.

    Laws: no record at or after `before` is let go, nor the last one of a source; what is kept is
    read as before; the end does not move.
    """

    def cut(self, source: str, known_before: Micros | None, octets: int | None) -> int:
        """Return the offset below which records may go by age or size; 0 for none.

        That is those known before an instant, and those beyond the newest so many bytes.
        """
        ...

    def trim(self, source: str, before: int) -> int:
        """Let go of some records below an offset and free their space; return how many.

        One call takes a bounded time; 0 says that there is nothing left to do.
        """
        ...
