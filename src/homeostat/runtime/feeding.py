"""Feeds of a home: what sources declare is fetched while the system runs, or when asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING

from homeostat.core.clock import Clock
from homeostat.core.errors import UnknownName
from homeostat.declare.feeds import Folder
from homeostat.declare.sources import EventSource
from homeostat.declare.system import System
from homeostat.ingest.feed import EventFeed, Landing
from homeostat.ingest.folder import FolderFeed
from homeostat.ingest.log import PositionTaken
from homeostat.ingest.snapshot import QueryFeed
from homeostat.runtime.consuming import unfolded
from homeostat.runtime.home import Home
from homeostat.runtime.worker import CHUNK, Counts

if TYPE_CHECKING:
    from homeostat.declare.feeds import Query

__all__ = ["Feeding", "Pulled", "Puller", "feed_of"]

LOOK_S = 1.0
"""The rest between two looks at the clock."""

LONGEST_REST_S = 60.0
"""A feed that keeps failing is asked again at least this often."""

PATIENCE_S = 10.0
"""A fetch that is still under way so long after the stop is left: it goes on at the next start."""

AHEAD = 400_000
"""A feed rests while so many records of its source wait to be folded."""

Told = Callable[[str], None]


def feed_of(source: EventSource, home: Home, clock: Clock, told: Told) -> EventFeed:
    """Return what fetches the events of a source; raise `UnknownName` if it declares nothing."""
    if source.feed is None:
        fed = [declared.name for declared in home.system.sources if declared.feed is not None]
        raise UnknownName("feed of source", source.name, fed, f"system {home.system.name!r}")
    landing = Landing(source, home.log, clock, lambda words: told(f"{source.name}: {words}"))
    if isinstance(source.feed, Folder):
        return FolderFeed(source.feed, landing)
    return _query_feed(source.feed, landing)


def _query_feed(query: Query, landing: Landing) -> EventFeed:
    from homeostat.adapters.sqlalchemy import SqlDatabase

    return QueryFeed(query, SqlDatabase(query), landing)


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was fetched once: the records, what became of them, and what a person should know.

    `counts` is None where another process folds.
    """

    records: int
    counts: Counts | None
    notes: tuple[str, ...]


class Puller:
    """Fetches for one source when it is asked."""

    def __init__(self, source: EventSource, home: Home, clock: Clock) -> None:
        self._notes: list[str] = []
        self._source = source.name
        self._feed = feed_of(source, home, clock, self._notes.append)

    def pull(self, fold: Callable[[], Mapping[str, Counts]], *, force: bool) -> Pulled:
        """Fetch what is there; `fold` folds what the log has, and returns counts by source."""
        self._notes.clear()
        counts: Counts | None = None
        records = waiting = 0
        with closing(self._feed.take(force=force)) as commits, suppress(PositionTaken):
            for number in commits:  # up to where another process, which runs the home, is faster
                records, waiting = records + number, waiting + number
                if waiting >= CHUNK:
                    counts, waiting = _sum(counts, fold().get(self._source)), 0
        counts = _sum(counts, fold().get(self._source))
        return Pulled(records, counts, tuple(self._notes))


def _sum(counts: Counts | None, more: Counts | None) -> Counts | None:
    if counts is None or more is None:
        return counts or more
    counts.add(more)
    return counts


class Feeding:
    """Fetches for all sources with a feed, each in a thread of its own, between `start` and `stop`.

    Args:
        system: the declarations.
        home: whose log takes the records.
        clock: tells when records are received, and which runs are due.
        told: hears what a person should know.
        fares: hears of each fetch of a source how it failed, "" if it went well.
    """

    def __init__(
        self,
        system: System,
        home: Home,
        clock: Clock,
        told: Told,
        fares: Callable[[str, str], None] = lambda source, error: None,
    ) -> None:
        self._stop, self._home, self._fares = Event(), home, fares
        self._threads = [
            Thread(
                target=partial(self._follow, source, feed_of(source, home, clock, told), told),
                name=f"homeostat-feed-{source.name}",
                daemon=True,
            )
            for source in system.sources
            if source.feed is not None
        ]

    def start(self) -> None:
        """Begin to fetch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the commit in hand; stopping twice changes nothing."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(PATIENCE_S)

    def _follow(self, source: EventSource, feed: EventFeed, told: Told) -> None:
        """Take what is due, again and again; a feed that fails is tried again, ever more slowly."""
        rest, said = LOOK_S, ""
        while not self._stop.is_set():
            try:
                self._take(source, feed)
            except PositionTaken:
                rest = LOOK_S  # another process fetches for this home, too: go on from there
            except Exception as broken:  # noqa: BLE001 - one feed's failure stops nothing else
                words = f"{type(broken).__name__}: {broken}"
                self._fares(source.name, words)
                if words != said and not self._stop.is_set():
                    said = words
                    told(f"{source.name}: fetching failed, and is tried again: {words}")
                rest = min(2 * rest, LONGEST_REST_S)
            else:
                self._fares(source.name, "")
                rest, said = LOOK_S, ""
            self._stop.wait(rest)

    def _take(self, source: EventSource, feed: EventFeed) -> None:
        with closing(feed.take()) as commits:
            for _ in commits:
                while unfolded(self._home, source.name) > AHEAD and not self._stop.is_set():
                    self._stop.wait(LOOK_S)
                if self._stop.is_set():
                    return
