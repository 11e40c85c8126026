"""Events by their id: those that are folded, and those that wait to be.

A request is an event too. Whether an event came before under its id is looked up in the index of
seen ids, as the intake will; what it said is read from the log, or from the lake where the log let
it go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import polars as pl

from homeostat.declare.system import System
from homeostat.features.folded import folded_offset
from homeostat.ingest.log import LogTrimmed
from homeostat.ingest.push import Door
from homeostat.ingest.seen import Remembered

if TYPE_CHECKING:
    from homeostat.core.durations import Micros
    from homeostat.core.store import Reader
    from homeostat.runtime.home import Home
    from homeostat.runtime.worker import FoldWorker

__all__ = ["EventsById"]

Row = Mapping[str, Any]


class EventsById:
    """Finds events of the sources whose requests models answer; a `FindsEvents`.

    What is pushed is noted by `pushed` until it is folded, so that a question that follows a push
    finds it at once. What comes by a feed or a topic is found when it is folded.

    Args:
        system: the declarations.
        home: where the log, the store and the lake are.
        worker: knows which ids were seen.
    """

    def __init__(self, system: System, home: Home, worker: FoldWorker) -> None:
        self._home, self._worker = home, worker
        asked = {d.model.label.predicts.name: d.model.label.predicts for d in system.deployments}
        self._sources = asked
        self._doors = {name: Door(source) for name, source in asked.items()}
        self._pushed = {name: _Pushed(source.event_id) for name, source in asked.items()}
        with home.store.reader() as reader:  # what an earlier process left in the log
            for name in asked:
                left = home.log.read(name, folded_offset(reader, name), _WAITING)
                if len(left):
                    self.pushed(name, int(left.offsets[0]), [bytes(p) for p in left.payloads])

    def pushed(self, source: str, first: int, payloads: Sequence[bytes]) -> None:
        """Note events that are in the log from an offset on."""
        if source in self._pushed:
            self._pushed[source].add(first, payloads)

    def recorded(
        self, reader: Reader, source: str, ids: Sequence[str], at: Micros
    ) -> dict[str, Row]:
        """Return, by id, the event that makes another one at `at` a duplicate or a conflict."""
        door = self._doors[source]
        found: dict[str, Row] = {}
        waiting = self._pushed[source].find(ids, folded_offset(reader, source), door)
        for name, place in self._worker.intake(source).remembered(reader, ids, at).items():
            event = self._said(source, place, door)
            if event is not None:
                found[name] = event
        return {**waiting, **found}

    def _said(self, source: str, place: Remembered, door: Door) -> Row | None:
        try:
            payloads = self._home.log.read(source, place.offset - 1, 1).payloads
            return door.read(bytes(payloads[0])) if len(payloads) else None
        except LogTrimmed:
            day = self._home.lake.read(
                source, known_from=place.known, known_before=place.known + 1
            ).filter(pl.col("_offset") == place.offset)
            names = self._sources[source].schema.names()
            return day.select(names).row(0, named=True) if day.height else None


class _Pushed:
    """Pushed events of one source that may not be folded yet, by id; read when one is asked for."""

    def __init__(self, event_id: str) -> None:
        self._event_id, self._lock = event_id, Lock()
        self._raw: deque[tuple[int, bytes]] = deque()
        self._read: deque[tuple[int, str]] = deque()
        self._by_id: dict[str, tuple[int, Row]] = {}

    def add(self, first: int, payloads: Sequence[bytes]) -> None:
        with self._lock:
            self._raw.extend(enumerate(payloads, first))
            while len(self._raw) > _WAITING:
                self._raw.popleft()

    def find(self, ids: Sequence[str], folded: int, door: Door) -> dict[str, Row]:
        with self._lock:
            while self._read and self._read[0][0] <= folded:
                offset, name = self._read.popleft()
                if self._by_id.get(name, (offset + 1,))[0] == offset:
                    del self._by_id[name]
            while self._raw:
                offset, payload = self._raw.popleft()
                event = door.read(payload) if offset > folded else None
                if event is not None:
                    name = str(event[self._event_id])
                    if name not in self._by_id:
                        self._by_id[name] = offset, event
                        self._read.append((offset, name))
            return {name: self._by_id[name][1] for name in ids if name in self._by_id}


_WAITING = 200_000
"""As many pushed events are noted at most as may wait to be folded."""
