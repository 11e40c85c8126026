"""Lets the log go of what it need not keep: never past what store, lake or raw table need.

What it keeps is packed, where the log can do that.
"""

from __future__ import annotations

from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.log_keep import LogKeep
from homeostat.features.folded import folded_offset
from homeostat.ingest.log import EventLog, PackableLog, TrimmableLog
from homeostat.runtime.archiving import Archiver
from homeostat.runtime.home import Home

__all__ = ["LogTrimmer"]


class LogTrimmer:
    """Trims a home's log: `aim` at each step of the loop, then a bounded bite at each pass.

    Args:
        home: whose log it is; the consumers are its online store and its lake.
        keep: how long records are kept; None for ever.
        archiver: another consumer, of the sources that it archives.
    """

    def __init__(self, home: Home, keep: LogKeep | None, archiver: Archiver) -> None:
        self._home, self._keep, self._archiver = home, keep or LogKeep(), archiver
        self._log = None if self._keep == LogKeep() else _trimmable(home.log)
        self._packable = home.log if isinstance(home.log, PackableLog) else None
        self._aims: dict[str, int] = {}

    def aim(self, now: Micros) -> None:
        """Look how far each source's log may go."""
        if self._log is None:
            return
        age = self._keep.keep_us
        known_before = None if age is None else now - age
        for source in self._home.system.sources:
            needed = self._needed(source.name)
            cut = self._log.cut(source.name, known_before, self._keep.keep_bytes)
            if min(needed, cut) > 0:
                self._aims[source.name] = min(needed, cut)

    def _needed(self, source: str) -> int:
        """Return the first offset that somebody may still read, -1 for all of them.

        The last record of each consumer is kept: it says until when everything is known.
        """
        with self._home.store.reader() as reader:
            folded = folded_offset(reader, source)
        needed = min(folded, self._home.lake.application_version(source, f"fold/{source}"))
        return self._archiver.needed(source, needed)

    def bite(self) -> int:
        """Let go of a bounded number of records, else pack some; return how many have gone."""
        if self._log is not None:
            for source in list(self._aims):
                gone = self._log.trim(source, self._aims[source])
                if gone:
                    return gone
                del self._aims[source]
        if self._packable is not None:
            for declared in self._home.system.sources:
                self._packable.pack(declared.name)
        return 0


def _trimmable(log: EventLog) -> TrimmableLog:
    if isinstance(log, TrimmableLog):
        return log
    raise HomeostatError(
        f"log {type(log).__name__}: it cannot let go of records; allowed: a log with `cut` and "
        "`trim`, such as the embedded one; drop the retention of the log"
    )
