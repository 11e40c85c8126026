"""Writes what the log has into the raw tables of the lake, a bounded piece at a time."""

from __future__ import annotations

from collections.abc import Iterable

from homeostat.declare.log_keep import LogKeep
from homeostat.declare.storage import Storage
from homeostat.declare.system import System
from homeostat.lake.raw import RawRecords
from homeostat.runtime.home import Home
from homeostat.runtime.worker import CHUNK

__all__ = ["Archiver", "archived"]


def archived(system: System, storage: Storage, keep: LogKeep | None) -> tuple[str, ...]:
    """Return the sources with raw tables: as is said, or else all if the log lets go of records.

    >>> from homeostat.testing.toy import toy_system
    >>> archived(toy_system(), Storage(), None), archived(toy_system(), Storage(raw=True), None)
    ((), ('payments', 'verdicts'))
    >>> archived(toy_system(), Storage(raw=False), LogKeep(keep="7d"))
    ()
    """
    is_on = keep not in (None, LogKeep()) if storage.raw is None else storage.raw
    return tuple(source.name for source in system.sources) if is_on else ()


BATCH, SHARE = 100_000, 16
"""Records of a commit, for which the fold waits a tenth of a second; of more than `SHARE` times so
many, that share, so that files do not become too many."""


class Archiver:
    """Archives a home's log: `aim` at each step of the loop, then a bite at each pass.

    Args:
        home: whose log it is, and whose lake.
        sources: whose records; none where raw tables are off.
    """

    def __init__(self, home: Home, sources: Iterable[str]) -> None:
        self._home = home
        self._raw = {name: RawRecords(home.lake, name) for name in sources}
        self._spans: dict[str, tuple[int, int]] = {}

    def aim(self) -> None:
        """Look what each source's log has that the raw table has not."""
        spans = {}
        for source, raw in self._raw.items():
            end = self._home.log.end(source)
            after = max(raw.last_offset, end.first_offset - 1)
            if after < end.next_offset - 1:
                spans[source] = after, end.next_offset - 1
        self._spans = spans

    @property
    def waiting(self) -> int:
        """How many records are still to be written of those that were aimed at."""
        return sum(last - after for after, last in self._spans.values())

    def needed(self, source: str, folded: int) -> int:
        """Return the last of the offsets up to `folded` that the log may come to without us."""
        return min(folded, self._raw[source].last_offset) if source in self._raw else folded

    def bite(self) -> dict[str, int]:
        """Write a batch of the log at most; return how many records by source, {} if all is done.

        A failure leaves the rest to the next `aim`.
        """
        spans, self._spans = self._spans, {}
        for source, (after, last) in spans.items():
            most = min(max(BATCH, (last - after) // SHARE), CHUNK)
            batch = self._home.log.read(source, after, min(most, last - after))
            self._raw[source].append(batch)
            reached = int(batch.offsets[-1])
            rest = {} if reached == last else {source: (reached, last)}
            self._spans = {**{name: spans[name] for name in spans if name != source}, **rest}
            return {source: len(batch)}
        return {}

    def finish(self) -> dict[str, int]:
        """Write all that the log has; return how many records by source."""
        written = dict.fromkeys(self._raw, 0)
        self.aim()
        while bite := self.bite():
            for source, number in bite.items():
                written[source] += number
        return written
