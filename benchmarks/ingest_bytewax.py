"""Bytewax as a contender of `ingest_files`: the aggregation alone; imports nothing of ours.

Both forms read lines in batches, parse them with orjson and key by card; nothing is validated,
deduplicated, stored or recovered. `tumbling` is the library's own window operator with one window
per length and event, the least it can do. `sliding` answers what we answer, the exact windows
that end at each event, in a state kept by hand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.operators import KeyedStream, windowing
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from benchmarks.contest import Case, Work
from benchmarks.engine_tally import Tally, figures, lines_of

__all__ = ["sliding", "tumbling"]

BATCH = 200_000
"""Lines read at once: window operators look at all keys after each batch, so few are fastest."""

MOST = 200_000
"""Events that `tumbling` is asked for at most."""

ALIGNED = datetime(1970, 1, 1, tzinfo=UTC)
Payment = tuple[datetime, float]
Stat = tuple[int, float]


class Sink(DynamicSink[Any]):  # type: ignore[misc]
    """Hands every batch to a function, and keeps nothing."""

    def __init__(self, take: Callable[[list[Any]], None]) -> None:
        self._take = take

    def build(self, step_id: str, index: int, count: int) -> StatelessSinkPartition[Any]:
        """Return the one partition."""
        return _Partition(self._take)


class _Partition(StatelessSinkPartition[Any]):  # type: ignore[misc]
    def __init__(self, take: Callable[[list[Any]], None]) -> None:
        self._take = take

    def write_batch(self, items: list[Any]) -> None:
        self._take(items)


def _payments(flow: Dataflow, case: Case) -> KeyedStream[Payment]:
    lines = op.input("lines", flow, FileSource(lines_of(case), batch_size=BATCH))

    def parsed(batch: list[str]) -> list[tuple[str, Payment]]:
        found = map(orjson.loads, batch)
        return [
            (said["card"], (datetime.fromisoformat(said["paid_at"]), said["amount"]))
            for said in found
        ]

    return op.flat_map_batch("parse", lines, parsed)


def tumbling(case: Case) -> Work | str:
    """`fold_window` over three tumbling windows of an event clock."""
    if case["events"] > MOST:
        return f"not run: above {MOST // 1000} k events it takes minutes"
    tally, flow = Tally(case), Dataflow("tumbling")
    payments = _payments(flow, case)
    clock = windowing.EventClock(lambda payment: payment[0], timedelta(0))

    def told(span: str) -> Callable[[list[Any]], None]:
        def take(batch: list[tuple[str, tuple[int, Stat]]]) -> None:
            for _, (_, (count, total)) in batch:
                tally.add(span, count, total / count)

        return take

    for span, hours in tally.hours.items():
        windower = windowing.TumblingWindower(timedelta(hours=hours), ALIGNED)
        folded = windowing.fold_window(
            span, payments, clock, windower, lambda: (0, 0.0), _with, _merged, ordered=False
        )
        op.output(f"out {span}", folded.down, Sink(told(span)))
    return figures(tally.events, lambda: run_main(flow), tally.check_tumbling)


def _with(stat: Stat, payment: Payment) -> Stat:
    return stat[0] + 1, stat[1] + payment[1]


def _merged(left: Stat, right: Stat) -> Stat:
    return left[0] + right[0], left[1] + right[1]


class _Window:
    """The payments of one card in the last `length`, with their sum."""

    __slots__ = ("kept", "length", "total")

    def __init__(self, length: timedelta) -> None:
        self.length, self.total = length, 0.0
        self.kept: deque[Payment] = deque()

    def add(self, payment: Payment) -> Stat:
        """Take a payment in, and those out that are too old; return count and mean."""
        kept, begin = self.kept, payment[0] - self.length
        while kept and kept[0][0] < begin:
            self.total -= kept.popleft()[1]
        kept.append(payment)
        self.total += payment[1]
        return len(kept), self.total / len(kept)


def sliding(case: Case) -> Work:
    """`stateful_map` with the payments of each window in a queue."""
    tally, flow = Tally(case), Dataflow("sliding")
    lengths = [timedelta(hours=hours) for hours in tally.hours.values()]
    spans = tuple(tally.hours)

    def added(windows: list[_Window] | None, payment: Payment) -> tuple[list[_Window], list[Stat]]:
        windows = windows or [_Window(length) for length in lengths]
        return windows, [window.add(payment) for window in windows]

    def take(batch: list[tuple[str, list[Stat]]]) -> None:
        for _, stats in batch:
            for span, (count, mean) in zip(spans, stats, strict=True):
                tally.add(span, count, mean)

    op.output("out", op.stateful_map("windows", _payments(flow, case), added), Sink(take))
    return figures(tally.events, lambda: run_main(flow), tally.check_exact)
