"""The port of what fetches events for a source, and where what it fetches lands."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from homeostat.core.clock import Clock
from homeostat.declare.sources import EventSource
from homeostat.ingest.known_times import believed_times, declared_times
from homeostat.ingest.log import Advance, EventLog

__all__ = ["EventFeed", "Landing"]


class EventFeed(Protocol):
    """Fetches the events of one source into the log.

    Laws: what was fetched and how far that is are one append; so a feed that is killed, and made
    anew over the same log, goes on where it was. A feed that fails may be asked again.
    """

    def take(self, *, force: bool = False) -> Generator[int]:
        """Fetch what is due; yield the number of records after each commit.

        With `force` whatever the schedule says. The caller may stop between two commits.
        """
        ...


@dataclass(frozen=True, slots=True)
class Landing:
    """Where the records that a feed fetches go.

    Args:
        source: the event source.
        log: takes the records, and keeps how far the feed has read.
        clock: tells when records are received.
        told: hears of what a person should know.
    """

    source: EventSource
    log: EventLog
    clock: Clock
    told: Callable[[str], None]

    def append(
        self, payloads: list[bytes], steps: Sequence[Advance], *, history: bool = False
    ) -> None:
        """Add records and take the steps at once; known now, or if `history` as declared."""
        now = self.clock.now()
        if history:
            last = self.log.end(self.source.name).last_known
            ahead = self.source.delay_us + self.source.clock_skew_us
            known = declared_times(self.source, payloads, last)
            known = believed_times(known, now, ahead, last)
        else:
            known = np.full(len(payloads), now, dtype=np.int64)
        self.log.append(self.source.name, known, payloads, steps)

    def position(self, stream: str) -> str | None:
        """Return where the log stands in a stream of the source, None before its beginning."""
        return self.log.positions(self.source.name).get(stream)
