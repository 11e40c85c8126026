"""Threads that work can be left to: one that hangs keeps neither the others nor the process."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread

__all__ = ["Crew", "Job"]


class Job:
    """Work that has been handed over; it either begins or is withdrawn."""

    __slots__ = ("_taken", "_work")

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self._taken = work, Lock()

    def run(self) -> None:
        """Do the work, unless it was withdrawn."""
        if self._taken.acquire(blocking=False):
            self._work()

    def withdraw(self) -> bool:
        """Return whether the work had not begun; it will not begin then."""
        return self._taken.acquire(blocking=False)


class Crew:
    """At most `size` daemon threads, started as they are needed; work must not raise.

    >>> crew = Crew(1, "example")
    >>> done = SimpleQueue()
    >>> job = crew.submit(lambda: done.put("done"))
    >>> done.get(), job.withdraw()
    ('done', False)
    >>> crew.close()
    """

    def __init__(self, size: int, name: str) -> None:
        self._size, self._name = size, name
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._started, self._unfinished, self._lock = 0, 0, Lock()

    def submit(self, work: Callable[[], None]) -> Job:
        """Hand over work, in order."""
        job = Job(work)
        with self._lock:
            self._unfinished += 1
            if self._started < min(self._unfinished, self._size):
                self._started += 1
                name = f"{self._name}-{self._started}"
                Thread(target=self._toil, name=name, daemon=True).start()
            self._queue.put(job)
        return job

    def close(self) -> None:
        """Let every thread end after the work that was handed over; wait for none."""
        with self._lock:
            for _ in range(self._started):
                self._queue.put(None)
            self._size = 0

    def _toil(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()
            with self._lock:
                self._unfinished -= 1
