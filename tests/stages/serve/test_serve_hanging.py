"""Calls that hang cost no other its answer: in one body, and side by side.

Deadlines run on an event loop whose time stands still while anything can still move, so that a busy
machine makes nobody late.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Event, Lock
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeostat.core.store import Snapshot
from homeostat.serve.answer import Answer
from homeostat.serve.crew import Crew, Job
from homeostat.serve.lane import Lane, Shared
from homeostat.serve.requests import RequestReader
from homeostat.serve.routing import Route
from homeostat.testing.drills import Drill, FixedScores
from homeostat.testing.memory_store import MemoryStore
from homeostat.testing.payments import Bench, arm, payments, tap

T = TypeVar("T")

QUIET_S = 0.03
"""Nothing moved for so long: what waits is behind calls that hang."""

HANGS, RAISES = 13, 11


class Counted(Crew):
    """A pool whose handed over, begun and ended work is counted."""

    def __init__(self, size: int) -> None:
        super().__init__(size, "hanging")
        self._counts, self.waiting, self.running = Lock(), 0, 0

    def submit(self, work: Callable[[], None], *, at_once: bool = False) -> Job:
        """Hand over work."""

        def counted() -> None:
            with self._counts:
                self.waiting -= 1
                self.running += 1
            try:
                work()
            finally:
                with self._counts:
                    self.running -= 1

        with self._counts:
            self.waiting += 1
        return super().submit(counted, at_once=at_once)

    def withdraw(self, job: Job) -> bool:
        """Take work back."""
        done = super().withdraw(job)
        with self._counts:
            self.waiting -= done
        return done


class World:
    """A service whose on-demand function hangs for some rows until they are let go."""

    def __init__(
        self, threads: int = 4, held: int = 64, overloaded: tuple[str, ...] = ("score",)
    ) -> None:
        self.release, self._lock, self.hanging, self.most = Event(), Lock(), 0, 0
        self.system = payments(deadline="60s", on_demand=self.price, overloaded=overloaded)
        model = FixedScores(lambda features: 1 / (2 + features.matrix[:, 2]))
        self.bench = Bench(self.system, Route(champion=arm(model, 3), previous=arm(model, 2)))
        self.crew, self.spare = Counted(threads), Counted(1)
        self.service = self.bench.service()
        shared = Shared(
            self.service, self.bench.metrics, self.crew, self.spare, lambda: 0, held=held
        )
        reader = RequestReader(self.system, self.system.models[0])
        self.lane = Lane(self.system.deployments[0], reader, shared)

    def price(self, amount: Any, items: Any) -> Any:
        """Return the price of an item; hang, or raise, where there are so many items."""
        if (items == HANGS).any():
            with self._lock:
                self.hanging += 1
                self.most = max(self.most, self.hanging)
            self.release.wait()
            with self._lock:
                self.hanging -= 1
        if (items == RAISES).any():
            raise Drill("raises")
        return amount / items

    def stands(self) -> bool:
        """Whether nothing moves any more unless time passes."""
        with self._lock:
            return self.crew.running + self.spare.running == self.hanging

    def waits(self) -> bool:
        """Whether work has not begun."""
        return self.crew.waiting + self.spare.waiting > 0

    def run(self, work: Callable[[], Awaitable[T]]) -> tuple[T, float]:
        """Return what is asked, and how many deadlines it took; let all go on afterwards."""

        async def go() -> T:
            return await work()

        timed = Timed(self)
        try:
            with asyncio.Runner(loop_factory=lambda: timed) as runner:
                try:
                    return runner.run(go()), timed.now / 60
                finally:
                    self.release.set()
                    runner.run(self._settled())
        finally:
            self.crew.close()
            self.spare.close()

    async def _settled(self) -> None:
        while len(self.lane.held) or self.crew.running:
            await asyncio.sleep(0)

    async def ask(self, items: list[int], name: str = "t") -> list[Answer]:
        """Ask rows of so many items in one body."""
        rows = [tap(tap_id=f"{name}{i}", amount=float(i), items=n) for i, n in enumerate(items)]
        return await self.lane.answers(self.lane.reader.rows(rows), False, 0)


class Timed(asyncio.SelectorEventLoop):
    """An event loop whose time passes only where nothing else can happen."""

    def __init__(self, world: World) -> None:
        self.now = 0.0
        super().__init__(Selector(world, self))

    def time(self) -> float:
        """Return the loop's own time."""
        return self.now


class Selector(selectors.DefaultSelector):
    """Waits for the threads of a world, and lets time pass where they all hang."""

    def __init__(self, world: World, loop: Timed) -> None:
        super().__init__()
        self._world, self._loop = world, loop

    def select(self, timeout: float | None = None) -> Any:
        """Return what has happened; let `timeout` pass if nothing can."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        quiet = time.monotonic()
        while True:
            stands, waits = self._world.stands(), self._world.waits()
            found = super().select(0 if stands and not waits else 0.001)
            if found:
                return found
            if not stands:
                quiet = time.monotonic()
            elif not waits or time.monotonic() - quiet > QUIET_S:
                self._loop.now += timeout
                return []


def told(answer: Answer) -> tuple[Any, ...]:
    return (answer.score, answer.arm, answer.version, answer.decision, answer.degraded)


def alone(row: int, items: int) -> tuple[Any, ...]:
    """Return the answer that a row has alone, by the declarations."""
    if items == HANGS:
        return (0.125, "score", None, False, ["overloaded"])
    if items == RAISES:
        return (0.125, "score", None, False, ["features_broken"])
    score = 1 / (2 + float(row))
    return (score, "champion", 3, score >= 0.5, [])


def expected(items: list[int]) -> list[tuple[Any, ...]]:
    return [alone(row, n) for row, n in enumerate(items)]


BODIES = st.lists(st.sampled_from([1, 1, 1, 2, 4, 1, 1, 2, HANGS, RAISES]), min_size=2, max_size=60)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BODIES, st.integers(1, 4), st.sampled_from([("score",), ("previous", "score")]))
def test_rows_that_hang_cost_no_other_row_its_answer(
    items: list[int], threads: int, overloaded: tuple[str, ...]
) -> None:
    world = World(threads, overloaded=overloaded)
    found, deadlines = world.run(lambda: world.ask(items))
    assert [told(a) for a in found] == expected(items)
    pieces = 7  # are late at most in so many rows: after each, more are asked one by one
    assert deadlines <= items.count(HANGS) * len(overloaded) + pieces
    assert world.lane.in_flight == 0


@pytest.mark.soak
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from([1, 1, 1, 2, HANGS, RAISES]), min_size=2, max_size=200))
def test_rows_that_hang_cost_no_other_row_its_answer_at_length(items: list[int]) -> None:
    world = World(held=300)
    found, _ = world.run(lambda: world.ask(items))
    assert [told(a) for a in found] == expected(items)


def test_rows_that_all_hang_are_asked_abreast() -> None:
    class Slowly(World):
        def waits(self) -> bool:
            return True  # time passes for the threads too: they are seen to wait

    world = Slowly()
    items = [HANGS] * 30 + [1] * 20

    async def work() -> list[Answer]:
        await world.ask([1], "warm")
        return await world.ask(items)

    found, deadlines = world.run(work)
    assert [told(a) for a in found] == expected(items)
    assert deadlines <= 7  # 1, 2, 4, 8, 8 and 7 at a time
    assert world.most == 30


def test_clients_side_by_side_are_not_held_up_by_calls_that_hang() -> None:
    clients = 20
    world = World(threads=4)
    chance = np.random.default_rng(7)
    asked = [[HANGS if chance.random() < 0.1 else 1 for _ in range(6)] for _ in range(clients)]

    async def client(number: int) -> list[Answer]:
        return [
            (await world.ask([n], f"c{number}-{turn}-"))[0] for turn, n in enumerate(asked[number])
        ]

    async def all_of_them() -> list[list[Answer]]:
        return list(await asyncio.gather(*map(client, range(clients))))

    found, _ = world.run(all_of_them)
    assert [[told(a) for a in answers] for answers in found] == [
        [alone(0, n) for n in items] for items in asked
    ]


def test_at_the_bound_rows_are_not_asked_and_say_why() -> None:
    world = World(held=3)

    async def work() -> list[list[Answer]]:
        return [
            await world.ask(n, f"b{i}-") for i, n in enumerate([[HANGS]] * 3 + [[1, 1], [1] * 4])
        ]

    found, _ = world.run(work)
    assert [[a.degraded for a in answers] for answers in found] == [
        *[[["overloaded"]]] * 3,
        [["overloaded", "calls_held"]] * 2,
        [["overloaded", "calls_held"]] * 4,
    ]
    assert world.most == 3
    silent = "fraud: the champion gave none of the last 6 answers (at most 50 are looked at): "
    assert any(note.startswith(silent) for note in world.service.ready().notes)


def test_the_on_demand_feature_that_holds_the_calls_is_named() -> None:
    world = World(held=1)

    async def work() -> list[str]:
        await world.ask([HANGS])
        return world.lane.notes

    notes, _ = world.run(work)
    assert len(notes) == 1
    assert "1 in on-demand feature 'price' (test_serve_hanging.py:" in notes[0]
    assert world.lane.notes == []  # it has ended


class Watched:
    """A store that knows how many snapshots are open."""

    def __init__(self) -> None:
        self.open, self._store = 0, MemoryStore()

    @contextmanager
    def reader(self) -> Iterator[Snapshot]:
        """Open a snapshot."""
        self.open += 1
        with self._store.reader() as reader:
            yield reader
        self.open -= 1


def test_a_call_that_hangs_holds_no_snapshot_of_the_store() -> None:
    store, seen = Watched(), list[int]()

    def price(amount: Any, items: Any) -> Any:
        seen.append(store.open)
        return amount / items

    def score(features: Any) -> Any:
        seen.append(store.open)
        return np.full(len(features.matrix), 0.5)

    made = Bench(payments(on_demand=price), Route(champion=arm(FixedScores(score))), store=store)
    found = made.service().predict("fraud", [tap(tap_id=f"t{i}", tapped_at=...) for i in "ab"])
    assert [a.degraded for a in found] == [[], []]
    assert seen == [0, 0]


def test_a_call_set_aside_is_replaced_and_its_thread_ends() -> None:
    crew, release, done = Crew(1, "aside"), Event(), [Future[str]() for _ in range(3)]
    entered, names = Event(), []

    def hang() -> None:
        names.append(current())
        entered.set()
        release.wait()

    hung = crew.submit(hang)
    entered.wait()
    waiting = crew.submit(lambda: done[0].set_result(current()))
    while not done[0].done():
        crew.relieve(waiting)  # nothing has ended since it was handed over
    assert done[0].result() != names[0]
    crew.set_aside(hung)  # already
    release.set()
    crew.submit(lambda: done[1].set_result(current()))
    assert done[1].result(10) == done[0].result()
    crew.close()


def test_a_call_that_computes_keeps_its_place() -> None:
    crew, stop, entered, done = Crew(1, "computes"), Event(), Event(), Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))
            entered.set()

    crew.submit(compute)
    entered.wait()
    waiting = crew.submit(done.set)
    crew.relieve(waiting)
    assert not done.wait(0.05)
    stop.set()
    assert done.wait(10)
    crew.close()


def current() -> str:
    from threading import current_thread

    return current_thread().name
