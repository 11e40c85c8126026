"""A pool of daemon threads in which a call that hangs costs no other its thread.

The pool runs `size` calls at a time. A thread whose call is set aside (because nobody waits for it
any more, or because nothing has moved for a while) does not count among them from then on: another
one takes its place, and the thread ends when its call does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread, current_thread

__all__ = ["Crew", "Job"]

WAITS = 0.1
"""A call that used less than this share of the time on a processor is waiting for something."""


class Job:
    """Work that has been handed over; it either begins or is withdrawn."""

    __slots__ = ("_ended_before", "aside", "began", "computed_ns", "taken", "thread", "work")

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.taken = self.aside = False
        self.thread: Thread | None = None
        self.began = self.computed_ns = self._ended_before = 0

    def is_waiting(self) -> bool:
        """Whether its thread waits for something (a lock, a disk, a peer) instead of computing.

        Where the system does not tell a thread's processor time, a call that runs counts as one
        that waits.
        """
        thread, clock_of = self.thread, getattr(time, "pthread_getcpuclockid", None)
        if thread is None or thread.ident is None or not thread.is_alive():
            return False
        if clock_of is None:
            return True
        used = time.clock_gettime_ns(clock_of(thread.ident)) - self.computed_ns
        return used < WAITS * (time.monotonic_ns() - self.began)

    def has_moved(self, ended: int) -> bool:
        """Whether the pool ended a call since the last time this was asked."""
        before, self._ended_before = self._ended_before, ended
        return ended != before


class Crew:
    """Daemon threads that do `size` pieces of work at a time; work must not raise.

    Threads are started as they are needed. One that hangs keeps the process from ending no more
    than it keeps the others from work.

    Args:
        size: how many calls run at a time, those that were set aside not counted.
        name: of the threads.
        most: so many threads beyond `size` are started at most because nothing moves.

    >>> crew = Crew(1, "example")
    >>> done = SimpleQueue()
    >>> job = crew.submit(lambda: done.put("done"))
    >>> done.get(), crew.withdraw(job)
    ('done', False)
    >>> crew.close()
    """

    def __init__(self, size: int, name: str, most: int = 64) -> None:
        self._size, self._name, self._most = size, name, most
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = Lock()
        self._running: set[Job] = set()
        self._threads = 0  # that count: free, or at work that was not set aside
        self._free = self._waiting = self._aside = self._made = self._ended = 0
        self._open = True

    def submit(self, work: Callable[[], None], *, at_once: bool = False) -> Job:
        """Hand over work, in order; `at_once` lets it not wait for one of the `size` threads."""
        job = Job(work)
        with self._lock:
            job.has_moved(self._ended)
            self._waiting += 1
            self._grow(1 if at_once and self._threads < self._size + self._most else 0)
            self._queue.put(job)
        return job

    def withdraw(self, job: Job) -> bool:
        """Return whether the work had not begun; it will not begin then."""
        with self._lock:
            if job.taken:
                return False
            job.taken = True
            self._waiting -= 1
            return True

    def set_aside(self, job: Job) -> None:
        """Count a call that runs no more, so that another thread takes its place."""
        with self._lock:
            self._set_aside(job)

    def relieve(self, job: Job) -> None:
        """Where work has not begun and no call has ended for a while, let others take the places.

        Ask again and again; what is between two calls is the while. Calls that compute keep
        their places: more threads would make them slower.
        """
        with self._lock:
            if job.taken or job.has_moved(self._ended):
                return
            for running in [one for one in self._running if not one.aside and one.is_waiting()]:
                if self._aside < self._most:
                    self._set_aside(running)

    def close(self) -> None:
        """Let every thread end after the work that was handed over; wait for none."""
        with self._lock:
            self._open, self._size = False, 0
            for _ in range(self._threads):
                self._queue.put(None)

    def _set_aside(self, job: Job) -> None:
        if job in self._running and not job.aside:
            job.aside = True
            self._aside += 1
            self._threads -= 1
            self._grow(0)

    def _grow(self, beyond: int) -> None:
        """Start threads for work that waits, as long as fewer than `size`, and `beyond`, count."""
        room = max(self._size - self._threads, beyond) if self._open else 0
        for _ in range(min(self._waiting - self._free, room)):
            self._threads += 1
            self._free += 1
            self._made += 1
            name = f"{self._name}-{self._made}"
            Thread(target=self._toil, name=name, daemon=True).start()

    def _toil(self) -> None:
        while (job := self._queue.get()) is not None:
            if self._begin(job):
                job.work()
                if not self._end(job):
                    return

    def _begin(self, job: Job) -> bool:
        with self._lock:
            if job.taken:
                return False
            job.taken, job.thread = True, current_thread()
            job.began, job.computed_ns = time.monotonic_ns(), time.thread_time_ns()
            self._waiting -= 1
            self._free -= 1
            self._running.add(job)
            return True

    def _end(self, job: Job) -> bool:
        """Return whether the thread goes on."""
        with self._lock:
            self._running.discard(job)
            self._ended += 1
            if job.aside:
                self._aside -= 1
                self._threads += 1
            goes_on = self._threads <= self._size or (not self._open and not job.aside)
            if goes_on:
                self._free += 1
            else:
                self._threads -= 1
            return goes_on
