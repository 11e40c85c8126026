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


class Archiver:
    """Archives a home's log: `aim` at each step of the loop, then a bite at each pass.

    Args:
        home: whose log it is, and whose lake.
        sources: whose records; none where raw tables are off.
    """

    def __init__(self, home: Home, sources: Iterable[str]) -> None:
        self._home = home
        self._raw = {name: RawRecords(home.lake, name) for name in sources}
        self._aims: dict[str, int] = {}

    def aim(self) -> None:
        """Look how far each source's log has come."""
        self._aims = {name: self._home.log.end(name).next_offset for name in self._raw}

    def needed(self, source: str, folded: int) -> int:
        """Return the last of the offsets up to `folded` that the log may come to without us."""
        return min(folded, self._raw[source].last_offset) if source in self._raw else folded

    def bite(self) -> dict[str, int]:
        """Write a batch of the log at most; return how many records by source, {} if all is done.

        A failure leaves the rest to the next `aim`.
        """
        aims, self._aims = self._aims, {}
        for source, aim in list(aims.items()):
            raw, first = self._raw[source], self._home.log.end(source).first_offset
            after = max(raw.last_offset, first - 1)
            if after < aim - 1:
                batch = self._home.log.read(source, after, min(CHUNK, aim - 1 - after))
                raw.append(batch)
                self._aims = aims
                return {source: len(batch)}
            del aims[source]
        return {}

    def finish(self) -> dict[str, int]:
        """Write all that the log has; return how many records by source."""
        written = dict.fromkeys(self._raw, 0)
        self.aim()
        while bite := self.bite():
            for source, number in bite.items():
                written[source] += number
        return written
