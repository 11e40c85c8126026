"""Trainings beside the fold and the loop: one at a time, in threads that a stop leaves behind.

The work itself is done by whoever `run` is: a process of its own, or the thread. The outcome comes
back as a value and is handed to `end`, which journals it.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, Thread

from homeostat.runtime.trainings import Outcome, Training, failed

__all__ = ["Background"]

REST_S = 1.0
"""The rest between two tries to write an outcome down, where the disk is full."""


class Background:
    """Runs trainings in the order they were asked for.

    Args:
        run: carries one out and returns what came of it; its second argument is set at a stop.
        end: journals an outcome.
        faults: told of an outcome that could not be journaled; it is tried again.
    """

    def __init__(
        self,
        run: Callable[[Training, Event], Outcome | None],
        end: Callable[[Training, Outcome], None],
        faults: Callable[[str, Exception], None],
    ) -> None:
        self._run, self._end, self._faults = run, end, faults
        self._stop, self._one = Event(), Lock()

    def start(self, training: Training) -> None:
        """Begin a training, or let it wait for the one before."""
        Thread(
            target=self._carry_out,
            args=(training,),
            name=f"homeostat-training-{training.model}",
            daemon=True,  # a stop leaves it: it is begun again at the next start
        ).start()

    def stop(self) -> None:
        """Leave what is under way without an outcome."""
        self._stop.set()

    def _carry_out(self, training: Training) -> None:
        with self._one:
            outcome: Outcome | None = None
            try:
                if not self._stop.is_set():
                    outcome = self._run(training, self._stop)
            except BaseException as broken:  # noqa: BLE001 - whatever it is, it is the outcome
                outcome = Outcome(failed(training.deployment.model, broken))
            while outcome is not None and not self._stop.is_set():
                try:
                    self._end(training, outcome)
                except Exception as broken:  # noqa: BLE001 - the journal cannot be written now
                    self._faults("journal", broken)
                    self._stop.wait(REST_S)
                else:
                    return
