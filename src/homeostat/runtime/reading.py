"""What a home holds, for a process that changes nothing, beside one that may be at work on it."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from homeostat.core.clock import SystemClock
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.core.store import Reader
from homeostat.declare.system import System
from homeostat.features.folded import folded_offset
from homeostat.lake.events import LakeEvents, Span
from homeostat.runtime.cursor import completed
from homeostat.runtime.home import Home
from homeostat.runtime.timeline import Timeline
from homeostat.runtime.worker import FoldWorker

__all__ = ["Reading", "Scratch", "last_seen", "last_step", "present"]


class Scratch:
    """A writer over a snapshot whose writes are forgotten."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._written: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._written[key] if key in self._written else self._reader.get(key)

    lend = get

    def put(self, key: bytes, value: bytes | memoryview) -> None:
        self._written[key] = bytes(value)

    def delete(self, key: bytes) -> None:
        self._written[key] = None

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        raise HomeostatError(
            f"snapshot: a scan of {prefix!r}; allowed: single keys; open the store's writer"
        )


class Reading:
    """Events as the online store knows them now: the lake's, and those folded since its commit.

    The lake is committed at every step of the loop; in between, what was folded is decoded from
    the log again.
    """

    def __init__(self, system: System, home: Home) -> None:
        self._system, self._home = system, home
        self._worker = FoldWorker(system, home.log, home.lake, home.letters, home.schemas)
        with home.store.reader() as reader:
            self._worker.resume(Scratch(reader))

    def events(self, source: str) -> pl.DataFrame:
        """Return every event of a source that is folded, in log order."""
        kept = self._home.lake.read(source)
        tail = self._worker.lake.tail(self._system.source(source).name)
        if tail is None or not tail.height:
            return kept
        before = kept.filter(pl.col("_offset") < int(tail["_offset"][0]))
        return pl.concat([before, tail], how="diagonal")

    def table(self, source: str, span: Span) -> LakeEvents:
        """Return the folded events of a source to be read in parts, in log order."""
        kept = self._home.lake.events(source, span)
        tail = self._worker.lake.tail(source)
        if tail is None or not tail.height:
            return kept
        begin = int(tail["_known_time"].dt.epoch("us")[0])
        there = self._home.lake.read(
            source,
            ["_offset"],
            known_from=begin,
            version=None if kept.version < 0 else kept.version,
        )
        held = there["_offset"].max() if there.height else -1
        return kept.followed_by(tail.filter(pl.col("_offset") > held))


def last_seen(home: Home) -> Micros:
    """Return the first instant after everything a home has folded, answered and decided; 0 if none.

    A clock that begins there never goes back, so what becomes known next is no earlier than what
    was asked last.
    """
    seen = [decision.at for decision in home.journal.decisions()]
    for model in home.system.models:
        asked = home.predictions.last(model.name)
        seen += [] if asked is None else [asked]
    with home.store.reader() as reader:
        for source in home.system.sources:
            folded = folded_offset(reader, source.name)
            if folded >= 0:
                seen.append(int(home.log.read(source.name, folded - 1, 1).known[-1]))
    return max(seen, default=-1) + 1


def last_step(home: Home) -> int:
    """Return the last step of the loop that is complete or journaled, 0 before the first."""
    with home.store.reader() as reader:
        done = completed(reader)
    return max(done or 0, home.journal.last_step() or 0)


def present(home: Home) -> Micros:
    """Return the present instant of a home: the machine's, or where its own clock has come to."""
    timeline = Timeline.load(home.folder)
    if timeline is None or timeline.lived_until is None:
        return SystemClock().now()
    return max(timeline.lived_until, last_seen(home))
