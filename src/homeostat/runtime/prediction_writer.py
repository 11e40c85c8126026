"""Writes answers down on a thread of its own: nothing that the home does can hold them up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Thread
from typing import Any, Literal

import msgspec
import polars as pl

from homeostat.core.errors import HomeostatError
from homeostat.declare.system import System
from homeostat.ingest.log import EventLog
from homeostat.runtime.predictions import PredictionStore
from homeostat.serve.ports import NotDurable
from homeostat.serve.predictions import Predictions, frame_of

__all__ = ["BOUND_S", "LogPredictions", "PredictionLogFull", "PredictionWriter"]

LogPredictions = Literal["soon", "sync"]

BOUND_S = 0.25
"""An answer is durable at most so long after it was given, on a disk that syncs in 50 ms."""

GATHER_S = 0.1
"""Answers that nobody waits for are gathered for so long, to share a sync."""

WAITING = 100_000
"""At most so many answers wait in memory while the disk does not take them."""

GROUP = 20_000
"""At most so many answers are written in one transaction."""

RETRY_S = 1.0
"""What could not be written is tried again at least this often."""

PATIENCE_S = 2.0
"""For so long, at most, an answer waits that may not leave before it is durable."""


class PredictionLogFull(HomeostatError):
    """Answers that are not logged, because too many wait for a disk that takes none."""

    retryable = True

    def __init__(self, model: str, dropped: int, why: str) -> None:
        super().__init__(
            f"predictions of {model!r}: {WAITING:,} answers wait to be written, and those that "
            f"come now are not logged ({dropped:,} so far); the last failure: {why}; allowed: a "
            "disk that takes what is answered; make room there"
        )


class AnswersLost(HomeostatError):
    """Answers that a process could not write down before it ended."""

    def __init__(self, lost: int, why: str) -> None:
        super().__init__(
            f"prediction log: {lost:,} answers could not be written before the end ({why}), and "
            "are in no log; allowed: a disk that takes what is answered; make room there"
        )


class PredictionWriter:
    """Groups answers into transactions of `predictions.db`, and sends their requests to the log.

    An answer is durable within `BOUND_S`: the thread that writes takes no lock that a training, a
    step or the fold holds. Another makes each request an event of its source then; one that is not
    known to be there after a crash is sent again, and is a duplicate if it is.

    Args:
        system: the declarations.
        store: where predictions are written.
        log: where the requests become events.
        step: the step of the home's timeline that is under way.
        sources: whose offsets the predictions of a model record.
        faults: told of what could not be written; it is tried again.
        log_predictions: "sync" lets `append` return when they are durable.
    """

    def __init__(
        self,
        system: System,
        store: PredictionStore,
        log: EventLog,
        *,
        step: Callable[[], int],
        sources: Callable[[str], Sequence[str]],
        faults: Callable[[str, Exception], None],
        log_predictions: LogPredictions = "soon",
    ) -> None:
        self._system, self._store, self._log, self._step = system, store, log, step
        self._sources, self._faults = sources, faults
        self._sync = log_predictions == "sync"
        self._changed = Condition()
        self._queue: deque[Predictions] = deque()
        self._names: dict[tuple[str, str], tuple[Predictions, int]] = {}
        self._rows = self._given = self._durable = 0
        self._dropped = self._counted = 0
        self._hurried, self._closed, self._why = False, False, ""
        self._unsent = deque(store.unsent())
        self._threads = [
            Thread(target=self._run, args=(act,), name=f"homeostat-{name}", daemon=True)
            for name, act in (("predictions", self._write), ("requests", self._send))
        ]
        for thread in self._threads:
            thread.start()

    def append(self, predictions: Predictions) -> None:
        """Take predictions; with "sync" return when they are durable, or raise `NotDurable`.

        Raises `PredictionLogFull` where too many wait already: these are counted, and not logged.
        """
        with self._changed:
            if self._rows + len(predictions) > WAITING:
                self._dropped += len(predictions)
                if self._sync:
                    raise NotDurable(predictions.model, 0.0, self._why, waits=False)
                raise PredictionLogFull(predictions.model, self._dropped, self._why)
            self._given += 1
            mine = self._given
            self._queue.append(predictions)
            self._rows += len(predictions)
            for row, name in enumerate(predictions.request_ids):
                self._names.setdefault((predictions.model, name), (predictions, row))
            self._hurried |= self._sync
            self._changed.notify_all()
            if self._sync:
                self._wait(predictions.model, lambda: self._durable >= mine)

    def require_durable(self, model: str, request_ids: Sequence[str]) -> None:
        """Return when no answer to these requests waits any more, or raise `NotDurable`."""
        with self._changed:
            self._wait(model, lambda: not any((model, name) in self._names for name in request_ids))

    def _wait(self, model: str, is_durable: Callable[[], bool]) -> None:
        if not self._changed.wait_for(is_durable, PATIENCE_S):
            raise NotDurable(model, PATIENCE_S, self._why or "the disk is slow", waits=True)

    def trouble(self) -> str:
        """Say that answers wait which could not be written, and why; "" if none does."""
        with self._changed:
            if not (self._why and self._rows):
                return ""
            lost = f", and what comes beyond {WAITING:,} is in no log" if self._dropped else ""
            return f"prediction log: answers wait to be written{lost}: {self._why}"

    def settle(self, seconds: float = PATIENCE_S) -> bool:
        """Wait so long until all that was appended is durable and sent; return whether it is."""
        with self._changed:
            mine = self._given
            self._hurried |= self._durable < mine
            self._changed.notify_all()

            def settled() -> bool:
                return self._durable >= mine and not self._unsent

            return self._changed.wait_for(settled, seconds)

    def answered(self, model: str, request_id: str) -> dict[str, Any] | None:
        """Return the answer to a request that is not durable yet, as a row of the log."""
        with self._changed:
            found = self._names.get((model, request_id))
        if found is None:
            return None
        predictions, row = found
        return frame_of([predictions], self._sources(model)).row(row, named=True)

    def counted(self) -> int:
        """Return how many predictions have become durable since it was asked last."""
        with self._changed:
            found, self._counted = self._counted, 0
            return found

    def close(self, seconds: float = 10.0) -> None:
        """Write what waits, and end the threads; say what could not be written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(seconds)
        with self._changed:
            lost = self._rows
        if lost:
            self._faults("predictions", AnswersLost(lost, self._why))

    def _run(self, act: Callable[[], bool]) -> None:
        """Act until the writer is closed and there is nothing to do; what fails is tried again."""
        rest = 0.0
        while True:
            try:
                going = act()
                rest = 0.0
                if act == self._write:
                    self._why = ""
            except Exception as broken:  # noqa: BLE001 - said, and tried again for ever
                if act == self._write:
                    self._why = f"{type(broken).__name__}: {broken}"
                self._faults("predictions", broken)
                rest = min(max(2 * rest, GATHER_S), RETRY_S)
                with self._changed:
                    going = not self._changed.wait_for(lambda: self._closed, rest)
            if not going:
                return

    def _write(self) -> bool:
        """Store a group in one transaction, and only then let go of it."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            self._changed.wait_for(lambda: self._hurried or self._closed, GATHER_S)
            self._hurried = False
            group = self._group()
        if not group:
            return not self._closed
        batches: dict[str, list[Predictions]] = {}
        for one in group:
            batches.setdefault(one.model, []).append(one)
        frames = {name: frame_of(kept, self._sources(name)) for name, kept in batches.items()}
        never = {name: _no_events(kept) for name, kept in batches.items()}
        keys = self._store.add(self._step(), frames, never)
        with self._changed:
            for one in group:
                self._queue.popleft()
                for name in one.request_ids:
                    if self._names.get((one.model, name), (None, 0))[0] is one:
                        del self._names[one.model, name]
            rows = sum(map(len, group))
            self._rows, self._counted = self._rows - rows, self._counted + rows
            self._durable += len(group)
            self._unsent += keys
            self._changed.notify_all()
        for model in frames:
            self._store.merge(model)
        return True

    def _group(self) -> list[Predictions]:
        rows, group = 0, list[Predictions]()
        for one in self._queue:
            if group and rows + len(one) > GROUP:
                break
            group.append(one)
            rows += len(one)
        return group

    def _send(self) -> bool:
        """Append the requests of the oldest part that is durable to the log of their source."""
        with self._changed:
            self._changed.wait_for(lambda: self._unsent or self._is_over())
            if not self._unsent:
                return False
            model, key = self._unsent[0]
        self._remember(model, self._store.requests(model, key))
        self._store.sent(model, key)
        with self._changed:
            self._unsent.popleft()
            self._changed.notify_all()
        return True

    def _is_over(self) -> bool:
        return self._closed and not self._queue

    def _remember(self, model: str, frame: pl.DataFrame) -> None:
        """A request is an event of the label's source; one that was sent before is a duplicate."""
        source = self._system.model(model).label.predicts
        known: list[int] = []
        payloads: list[bytes] = []
        for at, text in zip(frame["at"].dt.epoch("us").to_list(), frame["request"], strict=True):
            request = msgspec.json.decode(text)
            if request.get(source.event_id) is not None:
                known.append(at)
                payloads.append(text.encode())
        if payloads:
            self._log.append(source.name, known, payloads)


def _no_events(kept: Sequence[Predictions]) -> list[int]:
    """Return the rows whose requests are no events, as their answers say."""
    flags = [is_one for p in kept for is_one in p.recorded or [True] * len(p)]
    return [row for row, is_one in enumerate(flags) if not is_one]
