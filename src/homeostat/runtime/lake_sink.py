"""The lake as a sink of the fold: events wait in memory, and are committed many at a time.

The fold adds events while a commit is under way, in a thread of its own or in that of whoever wants
all that was folded in the lake. One commit is made at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from homeostat.declare.sources import EventSource
    from homeostat.lake.tables import Lake

__all__ = ["LakeSink"]


@dataclass(frozen=True, slots=True)
class _Part:
    """The first events that wait of a source; they end with the record at `offset`."""

    frames: list[pl.DataFrame]
    offset: int


class LakeSink:
    """Keeps folded events until they are in the lake, which has its own offset in each commit.

    Args:
        lake: where the events go.
        sources: whose events come.
    """

    def __init__(self, lake: Lake, sources: Iterable[EventSource]) -> None:
        self._lake = lake
        self._waiting: dict[str, list[pl.DataFrame]] = {source.name: [] for source in sources}
        self._taken_to: dict[str, int] = {}
        self._parts_of_commit: Mapping[str, _Part] = {}
        self._under_way: Future[None] | None = None
        self._has_failed = False
        # Whoever holds `_committing` may take `_state`, never the other way round.
        self._committing, self._state = Lock(), Lock()

    def taken_to(self, source: str) -> int:
        """Return the offset of the last record that is in the lake or waits here, -1 for none."""
        if source not in self._taken_to:
            self._taken_to[source] = self._lake.application_version(source, _application(source))
        return self._taken_to[source]

    def add(self, source: str, events: pl.DataFrame, last_offset: int) -> None:
        """Take events of the log up to an offset; those that were taken before are left out."""
        there = self.taken_to(source)
        fresh = events.filter(pl.col("_offset") > there)
        with self._state:
            self._waiting[source].append(fresh)
            self._taken_to[source] = max(there, last_offset)

    def flush(self) -> None:
        """Commit all that waits, and return when it is in the lake."""
        self.settle()
        self._commit_all()

    def flush_behind(self, rows: int, size: int) -> None:
        """Begin to commit what waits, if it is so many events, or so many bytes.

        The commit before must have ended, so at most twice as much is in memory; what it raised is
        raised here. After one that failed, the next one is waited for.
        """
        if self._under_way is not None and self._under_way.done():
            self.settle()
        events, octets = self.waiting()
        if events < rows and octets < size:
            return
        self.settle()
        if self._has_failed:
            self.flush()
            return
        thread = ThreadPoolExecutor(1, "homeostat-lake")
        self._under_way = thread.submit(self._commit_all)
        thread.shutdown(wait=False)  # it ends with the commit

    def settle(self) -> None:
        """Wait for the commit that is under way; if it failed, raise why: its events wait again."""
        commit, self._under_way = self._under_way, None
        if commit is not None:
            commit.result()

    def waiting(self) -> tuple[int, int]:
        """Return how many events wait for the next commit, and about how many bytes they take."""
        with self._state:
            under_way = self._parts_of_commit
            frames = [
                frame
                for source, kept in self._waiting.items()
                for frame in (
                    kept[len(under_way[source].frames) :] if source in under_way else kept
                )
            ]
        return sum(f.height for f in frames), sum(int(f.estimated_size()) for f in frames)

    def tail(self, source: str) -> pl.DataFrame | None:
        """Return the events that are not in the lake yet, if any."""
        self.settle()
        with self._committing, self._state:
            frames = list(self._waiting[source])
        return pl.concat(frames) if frames else None

    def _commit_all(self) -> None:
        """Commit what waits now; if that fails, all of it waits again."""
        with self._committing:
            with self._state:
                parts = {
                    source: _Part(list(frames), self._taken_to[source])
                    for source, frames in self._waiting.items()
                    if frames
                }
                self._parts_of_commit = parts
            try:
                self._commit(parts)
            except BaseException:
                self._has_failed = True
                parts = {}
                raise
            else:
                self._has_failed = False
            finally:
                with self._state:
                    self._parts_of_commit = {}
                    for source, part in parts.items():
                        del self._waiting[source][: len(part.frames)]

    def _commit(self, parts: Mapping[str, _Part]) -> None:
        for source, part in parts.items():
            events = pl.concat(part.frames)
            # A commit that was reported as failed may be there.
            there = self._lake.application_version(source, _application(source))
            if events.height and events["_offset"][0] <= there:
                events = events.filter(pl.col("_offset") > there)
            self._lake.append(source, events, _application(source), part.offset)


def _application(source: str) -> str:
    return f"fold/{source}"
