"""Parts that fail on purpose, to see that the declared fallback answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from homeostat.core.store import Snapshot, Writer
    from homeostat.features.assemble import Features
    from homeostat.serve.predictions import Predictions

__all__ = ["BrokenStore", "Drill", "FixedScores", "HangingScores", "KeptLog", "StepStopwatch"]

Floats = NDArray[np.float64]


class Drill(Exception):
    """The failure of a drill; no part of the product knows it."""


class FixedScores:
    """A model that gives every row the same score, or the scores of a function of the features.

    >>> FixedScores(0.25).score(None, rows=2).tolist()
    [0.25, 0.25]
    """

    def __init__(self, score: float | Callable[[Features], Floats] | Exception) -> None:
        self._score = score
        self.calls = 0

    def score(self, features: Features, rows: int | None = None) -> Floats:
        """Return one score per row, or raise the exception it was made with."""
        self.calls += 1
        if isinstance(self._score, Exception):
            raise self._score
        if callable(self._score):
            return self._score(features)
        return np.full(len(features.matrix) if rows is None else rows, self._score)

    def contributions(self, features: Features) -> Floats:
        """Return 1, -2, 3, -4 ... for the features of every row, and 0 for the base."""
        if isinstance(self._score, Exception):
            raise self._score
        rows, width = features.matrix.shape
        steps = np.arange(1.0, width + 1) * np.where(np.arange(width) % 2, -1.0, 1.0)
        return np.tile(np.append(steps, 0.0), (rows, 1))


class HangingScores(FixedScores):
    """A model that does not answer before `release` is set."""

    def __init__(self, score: float = 0.5) -> None:
        super().__init__(score)
        self.entered, self.release = Event(), Event()

    def score(self, features: Features, rows: int | None = None) -> Floats:
        """Wait, then return one score per row."""
        self.entered.set()
        self.release.wait()
        return super().score(features, rows)


class BrokenStore:
    """A store that fails: when it is opened, or at the first `get` (`opens=True`)."""

    def __init__(self, *, opens: bool) -> None:
        self._opens = opens

    @contextmanager
    def reader(self) -> Iterator[Snapshot]:
        """Open a snapshot that cannot be read, or fail at once."""
        if not self._opens:
            raise Drill("store: it cannot be opened")
        yield self

    def writer(self) -> AbstractContextManager[Writer]:
        """Fail: nothing can be written."""
        raise Drill("store: it cannot be opened")

    def get(self, key: bytes) -> bytes | None:
        """Fail: nothing can be read."""
        raise Drill(f"store: {key!r} cannot be read")

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Fail: nothing can be listed."""
        raise Drill(f"store: {prefix!r} cannot be listed")

    def close(self) -> None:
        """Do nothing."""


class KeptLog:
    """A prediction log in a list; `broken` makes every append fail."""

    def __init__(self, *, broken: bool = False) -> None:
        self.batches: list[Predictions] = []
        self._broken = broken

    def append(self, predictions: Predictions) -> None:
        """Keep a batch."""
        if self._broken:
            raise Drill("log: it cannot be written")
        self.batches.append(predictions)

    def require_durable(self, model: str, request_ids: Sequence[str]) -> None:
        """Do nothing: no answer waits."""

    def trouble(self) -> str:
        """Say whether it is broken."""
        return "log: it cannot be written" if self._broken else ""

    def answered(self, model: str, request_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return, by request id, the first row that was logged; a `FindsAnswers`."""
        found: dict[str, dict[str, Any]] = {}
        for batch in self.batches:
            for row in batch.frame().rows(named=True):
                if row["model"] == model and row["request_id"] in request_ids:
                    found.setdefault(row["request_id"], row)
        return found


class StepStopwatch:
    """Nanoseconds that pass only where a drill says so: each reading takes the next step.

    >>> stopwatch = StepStopwatch([5, 0, 7])
    >>> [stopwatch() for _ in range(4)]
    [5, 5, 12, 12]
    """

    def __init__(self, steps: Sequence[int] = ()) -> None:
        self._steps = iter(steps)
        self.now = 0

    def __call__(self) -> int:
        """Return the present reading."""
        self.now += next(self._steps, 0)
        return self.now
