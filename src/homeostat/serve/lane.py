"""The way of one model's calls: a thread predicts, and the deadline does not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from homeostat.core.errors import HomeostatError
from homeostat.declare.deployments import Deployment
from homeostat.serve.answer import Answer
from homeostat.serve.crew import Crew
from homeostat.serve.held import HeldCalls, functions_of
from homeostat.serve.metrics import Metrics
from homeostat.serve.ports import Stopwatch
from homeostat.serve.predictor import Shed
from homeostat.serve.repeats import RequestConflict
from homeostat.serve.requests import RequestInvalid, RequestReader
from homeostat.serve.seam import Request, Service, Ticket

__all__ = ["Lane", "Shared"]


LARGEST_PIECE = 128
"""So many requests of a body are answered together at most."""

ABREAST = 8
"""So many requests of a body are asked one by one at the same time, where several of it hang."""

LOOKS = 10
"""So often within a deadline a call that has not begun is looked at."""

Work = Callable[[], list[Answer]]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all lanes of a server share; `spare` runs fallbacks when `threads` are all taken.

    With `waits` an answer is durable before it leaves, and so none is given on the event loop.
    `held` is how many calls of one model may run on after their deadline.
    """

    service: Service
    metrics: Metrics
    threads: Crew
    spare: Crew
    stopwatch: Stopwatch
    waits: bool = False
    held: int = 64


@dataclass(slots=True)
class _Body:
    """How the requests of one body are asked.

    `size` of them together; those of size 1 `abreast` at the same time. `apart` more of them are
    asked one by one after a piece was late, and each time it happens that is twice as long.
    `hangs`: one of those that were asked last was given up while it waited for something.
    """

    size: int = 1
    abreast: int = 1
    apart: int = 0
    spell: int = 1
    hangs: bool = False

    def split(self, size: int) -> None:
        """Ask one by one, after a piece of this size was late."""
        self.spell = max(size, 2 * self.spell)
        self.size, self.apart = 1, self.spell

    def answered(self, requests: int, took_ns: int, deadline_ns: int) -> None:
        """Choose how the next ones are asked, after requests that took so long."""
        self.apart -= requests
        if self.hangs:
            self.abreast = min(2 * self.abreast, ABREAST)
        elif self.apart <= 0:
            self.size = _next_size(self.size, took_ns, deadline_ns)


@dataclass(slots=True)
class _Call:
    """One call on a thread of `threads`; given up at its deadline, it is among the `held` ones.

    `hangs`: it was given up while it waited for something.
    """

    threads: Crew
    work: Work
    ticket: Ticket
    held: HeldCalls
    at_once: bool = False
    hangs: bool = field(default=False, init=False)


@dataclass(slots=True)
class Lane:
    """One deployed model: its requests, its declared bounds, and the calls being answered.

    `in_flight` counts what is being answered; a body of several requests is one, however many they
    are. A call that is late is given up: it counts no more, the thread it holds is replaced, and
    it is among the `held` ones until it ends. At the bound of those the model is not asked any
    more.
    """

    deployment: Deployment
    reader: RequestReader
    shared: Shared
    in_flight: int = field(default=0, init=False)
    held: HeldCalls = field(init=False)
    held_fallbacks: HeldCalls = field(init=False)

    def __post_init__(self) -> None:
        shared, model = self.shared, self.deployment.model
        tell = partial(shared.metrics.held, model.name)
        made = partial(HeldCalls, shared.held, functions_of(model), shared.stopwatch, tell)
        self.held, self.held_fallbacks = made(), made()

    @property
    def notes(self) -> list[str]:
        """Say why the model is not asked, where too many of its calls hang."""
        if not self.held.is_full:
            return []
        fallback = "new requests have the `overloaded` fallback until one of them ends"
        return [f"{self.deployment.model.name}: {self.held}; {fallback}"]

    async def answers(self, requests: list[Request], reasons: bool, began: int) -> list[Answer]:
        """Return the model's answers, or for those that miss the deadline the declared fallback's.

        The deadline is that of one request. Several are answered in pieces, each within one
        deadline: the first piece is one request, and the next ones grow while they take less than
        a quarter of it. A piece that is late is answered again request by request, so that what
        is slow about one costs no other its answer; where several hang, at the same time.

        Args:
            requests: valid requests of the model.
            reasons: whether to say which features moved the scores.
            began: the stopwatch when the requests were received.

        Raises:
            RequestConflict: an id came before with other content; nothing of the body is answered.
            RequestInvalid: no event of the source may say so; nothing of the body is answered.
        """
        if self.in_flight >= self.deployment.max_in_flight:
            return await self._overloaded(requests, late=False)
        self._fly(1)
        try:
            if len(requests) > 1:
                return await self._in_pieces(requests, reasons)
            return await self._alone(requests, reasons, began, _Body())
        finally:
            self._fly(-1)

    async def _in_pieces(self, requests: list[Request], reasons: bool) -> list[Answer]:
        deadline_ns = self.deployment.deadline_us * 1000
        loop, name = asyncio.get_running_loop(), self.deployment.model.name
        await loop.run_in_executor(None, self.shared.service.check, name, requests)
        answered: list[Answer] = []
        body = _Body()
        while left := requests[len(answered) :]:
            began, body.hangs = self.shared.stopwatch(), False
            if self.held.is_full:
                return answered + await self._overloaded(left, late=False)
            if body.size > 1:
                piece = left[: body.size]
                found = await self._piece(piece, reasons, began, body)
                if found is None:
                    body.split(len(piece))
                    continue
            else:
                piece = left[: body.abreast]
                found = await self._abreast(piece, reasons, body)
            answered += found
            body.answered(len(piece), self.shared.stopwatch() - began, deadline_ns)
        return answered

    async def _abreast(self, requests: list[Request], reasons: bool, body: _Body) -> list[Answer]:
        """Ask requests at the same time, each by itself and with a deadline of its own."""
        began = self.shared.stopwatch()
        found = await asyncio.gather(
            *(self._alone([one], reasons, began, body) for one in requests),
            return_exceptions=True,
        )
        return [answer for one in found for answer in _raised(one)]

    async def _alone(
        self, requests: list[Request], reasons: bool, began: int, body: _Body
    ) -> list[Answer]:
        """Return the answer of one request, the fallback's where the model's is late."""
        if self.held.is_full:
            return await self._overloaded(requests, late=False)
        found = await self._piece(requests, reasons, began, body)
        return await self._overloaded(requests, late=True) if found is None else found

    async def _piece(
        self, requests: list[Request], reasons: bool, began: int, body: _Body
    ) -> list[Answer] | None:
        """Return the model's answers, None if they were not there in time."""
        ticket = Ticket(began, divisible=len(requests) > 1)
        left_ns = self.deployment.deadline_us * 1000 - (self.shared.stopwatch() - began)
        name, predict = self.deployment.model.name, self.shared.service.predict
        call = _Call(
            self.shared.threads, partial(predict, name, requests, reasons, ticket), ticket,
            self.held, at_once=body.abreast > 1,
        )  # fmt: skip
        found = await self._in_time(call, left_ns / 1e9)
        body.hangs |= call.hangs
        return found or None

    async def _overloaded(self, requests: list[Request], *, late: bool) -> list[Answer]:
        """Return the declared fallback; a chain that tries a model gets one more deadline."""
        chain = self.deployment.degradation.overloaded
        predict, name = self.shared.service.predict, self.deployment.model.name
        held = not late and self.held.is_full
        cause = ("overloaded", "calls_held") if held else ("overloaded",)
        if chain[0] != "score" and not self.held_fallbacks.is_full:
            ticket = Ticket(self.shared.stopwatch(), Shed(cause, chain, late))
            work = partial(predict, name, requests, False, ticket)
            call = _Call(self.shared.spare, work, ticket, self.held_fallbacks)
            found = await self._in_time(call, self.deployment.deadline_us / 1e6)
            if found is not None:
                return found
        ticket = Ticket(self.shared.stopwatch(), Shed(cause, ("score",), late))
        if self.shared.waits:
            return await asyncio.to_thread(predict, name, requests, False, ticket)
        return predict(name, requests, False, ticket)

    def _fly(self, change: int) -> None:
        self.in_flight += change
        self.shared.metrics.in_flight(self.deployment.model.name, change)

    async def _in_time(self, call: _Call, seconds: float) -> list[Answer] | None:
        """Return what a call returns on a thread; None if the deadline claims its ticket before it.

        Until it has begun, it is looked at now and then, so that it does not wait behind calls
        that hang. Its error is raised here only if somebody still waits.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[list[Answer] | None] = loop.create_future()
        due = loop.time() + seconds
        timer: asyncio.TimerHandle | None = None

        def settle(answers: list[Answer] | None, error: BaseException | None) -> None:
            call.held.discard(job)
            self._failed(error)
            if not outcome.done():
                if error is None:
                    outcome.set_result(answers)
                else:
                    outcome.set_exception(error)

        def run() -> None:
            answers: list[Answer] | None = None
            failed: BaseException | None = None
            try:
                answers = call.work()
            except BaseException as error:  # noqa: BLE001 - carried to the event loop
                failed = error
            with suppress(RuntimeError):  # the loop is closed: the server ended without this answer
                loop.call_soon_threadsafe(settle, answers, failed)

        def look() -> None:
            nonlocal timer
            left = due - loop.time()
            if left > 0:
                call.threads.relieve(job)
                timer = loop.call_later(min(left, seconds / LOOKS), look)
            elif not outcome.done() and call.ticket.claim():
                if not call.threads.withdraw(job):
                    call.hangs = job.is_waiting()
                    call.held.add(job)
                    call.threads.set_aside(job)
                outcome.set_result(None)

        job = call.threads.submit(run, at_once=call.at_once)
        timer = loop.call_later(max(seconds / LOOKS, 0.0), look)
        try:
            return await outcome
        finally:
            if timer is not None:
                timer.cancel()

    def _failed(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, RequestConflict | RequestInvalid):
            self.shared.metrics.fault("predict", HomeostatError(repr(error)))


def _raised(found: list[Answer] | BaseException) -> list[Answer]:
    if isinstance(found, BaseException):
        raise found
    return found


def _next_size(size: int, took_ns: int, deadline_ns: int) -> int:
    """Return how many requests the next piece has, after one that took so long.

    >>> [_next_size(8, took, 100) for took in (25, 26, 51)]
    [16, 8, 4]
    """
    if 4 * took_ns <= deadline_ns:
        return min(2 * size, LARGEST_PIECE)
    return max(size // 2, 1) if 2 * took_ns > deadline_ns else size
