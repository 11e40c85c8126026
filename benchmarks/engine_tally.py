"""What the engines beside ours share: their input, the check of their answers, their figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import isclose
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.contest import Case, Work

__all__ = ["Tally", "figures", "lines_of", "rates"]


def lines_of(case: Case) -> Path:
    """Return the events as JSON lines."""
    return case.folder / "events.ndjson"


class Tally:
    """Counts what an engine says of its windows, by length, and compares it with what is right.

    `expected.json` has the hours of every window, the events and the sum of their amounts, how
    many tumbling windows have an event (`windows`), and how many events the windows have that end
    at each event (`exact`).
    """

    def __init__(self, case: Case) -> None:
        said = json.loads((case.folder / "expected.json").read_text())
        self.events: int = said["events"]
        self.hours: dict[str, int] = said["hours"]
        self._said = said
        self._found: dict[str, list[float]] = {span: [0, 0, 0.0] for span in self.hours}

    def add(self, span: str, count: int, mean: float, times: int = 1) -> None:
        """Take one window of one card; with `times` -1, take it back."""
        found = self._found[span]
        found[0] += times
        found[1] += times * count
        found[2] += times * count * mean

    def check_tumbling(self) -> None:
        """Raise if windows, events or amounts are missing, or there twice."""
        for span, (windows, events, amount) in self._found.items():
            right, total = self._said["windows"][span], self._said["amount"]
            if windows != right or events != self.events or not isclose(amount, total):
                raise RuntimeError(
                    f"windows of {span}: {windows} with {events} events of {amount:.2f}; right: "
                    f"{right} with {self.events} of {total:.2f}"
                )

    def check_exact(self) -> None:
        """Raise if an event has no answer, or a window not its events."""
        for span, (windows, events, _) in self._found.items():
            right = self._said["exact"][span]
            if windows != self.events or events != right:
                raise RuntimeError(
                    f"windows of {span}: {windows} with {events} events; right: {self.events} with "
                    f"{right}"
                )


def figures(events: int, run: Callable[[], None], check: Callable[[], None]) -> Work:
    """Return the work that runs an engine in this process; its answer is checked afterwards."""

    def work() -> dict[str, float]:
        began, used = perf_counter(), process_time()
        run()
        wall, cpu = perf_counter() - began, process_time() - used
        check()
        return rates(events, wall, cpu)

    return work


def rates(events: int, wall_s: float, cpu_s: float) -> dict[str, float]:
    """Return the figures of a row."""
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "events_per_s": events / wall_s,
        "events_per_cpu_s": events / cpu_s,
    }
