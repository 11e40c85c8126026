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
from homeostat.serve.metrics import Metrics
from homeostat.serve.ports import Stopwatch
from homeostat.serve.predictor import Shed
from homeostat.serve.repeats import RequestConflict
from homeostat.serve.requests import RequestInvalid, RequestReader
from homeostat.serve.seam import Request, Service, Ticket

__all__ = ["Lane", "Shared"]


LARGEST_PIECE = 128
"""So many requests of a body are answered together at most."""

Work = Callable[[], list[Answer]]
Landed = Callable[[BaseException | None], None]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all lanes of a server share; `spare` runs fallbacks when `threads` are all taken.

    With `waits` an answer is durable before it leaves, and so none is given on the event loop.
    """

    service: Service
    metrics: Metrics
    threads: Crew
    spare: Crew
    stopwatch: Stopwatch
    waits: bool = False


@dataclass(slots=True)
class _Place:
    """One body's place among the calls in flight, passed on from piece to piece.

    A call that is overdue takes the place with it; the next piece needs another one.
    """

    kept: bool = False
    ended: bool = False


@dataclass(slots=True)
class Lane:
    """One deployed model: its requests, its declared bounds, and the calls being answered.

    `in_flight` counts calls until their thread is done with them, so that a model which hangs is
    soon not asked any more. A body of several requests is one call, however many they are.
    """

    deployment: Deployment
    reader: RequestReader
    shared: Shared
    in_flight: int = field(default=0, init=False)

    async def answers(self, requests: list[Request], reasons: bool, began: int) -> list[Answer]:
        """Return the model's answers, or for those that miss the deadline the declared fallback's.

        The deadline is that of one request. Several are answered in pieces, each within one
        deadline: the first piece is one request, and the next ones grow while they take less than
        a quarter of it. A piece that is late is answered again request by request, so that what
        is slow about one costs no other its answer.

        Args:
            requests: valid requests of the model.
            reasons: whether to say which features moved the scores.
            began: the stopwatch when the requests were received.

        Raises:
            RequestConflict: an id came before with other content; nothing of the body is answered.
            RequestInvalid: no event of the source may say so; nothing of the body is answered.
        """
        place = _Place()
        try:
            return await self._in_pieces(place, requests, reasons, began)
        finally:
            place.ended = True
            if place.kept:
                self._fly(-1)

    async def _in_pieces(
        self, place: _Place, requests: list[Request], reasons: bool, began: int
    ) -> list[Answer]:
        deadline_ns = self.deployment.deadline_us * 1000
        if len(requests) > 1:
            loop, name = asyncio.get_running_loop(), self.deployment.model.name
            await loop.run_in_executor(None, self.shared.service.check, name, requests)
            began = self.shared.stopwatch()  # nobody waits for the reading of the others
        answered: list[Answer] = []
        size, single = 1, 0
        while left := requests[len(answered) :]:
            if not self._enter(place):
                return answered + await self._overloaded(left, late=False)
            piece = left[:size]
            found = await self._piece(place, piece, reasons, began)
            began, took = self.shared.stopwatch(), self.shared.stopwatch() - began
            if found is None and len(piece) > 1:
                size, single = 1, len(piece)
                continue
            answered += found or await self._overloaded(piece, late=True)
            began, single = self.shared.stopwatch(), single - len(piece)
            if single <= 0:
                size = _next_size(size, took, deadline_ns)
        return answered

    async def _piece(
        self, place: _Place, requests: list[Request], reasons: bool, began: int
    ) -> list[Answer] | None:
        """Return the model's answers, None if they were not there in time."""
        ticket = Ticket(began, divisible=len(requests) > 1)
        left_ns = self.deployment.deadline_us * 1000 - (self.shared.stopwatch() - began)
        work = partial(
            self.shared.service.predict, self.deployment.model.name, requests, reasons, ticket
        )
        landed = partial(self._landed, place)
        return await _in_time(self.shared.threads, work, ticket, left_ns / 1e9, landed) or None

    async def _overloaded(self, requests: list[Request], *, late: bool) -> list[Answer]:
        """Return the declared fallback; a chain that tries a model gets one more deadline."""
        chain = self.deployment.degradation.overloaded
        predict, name = self.shared.service.predict, self.deployment.model.name
        if chain[0] != "score":
            ticket = Ticket(self.shared.stopwatch(), Shed("overloaded", chain, late))
            work = partial(predict, name, requests, False, ticket)
            seconds = self.deployment.deadline_us / 1e6
            found = await _in_time(self.shared.spare, work, ticket, seconds, self._failed)
            if found is not None:
                return found
        ticket = Ticket(self.shared.stopwatch(), Shed("overloaded", ("score",), late))
        if self.shared.waits:
            return await asyncio.to_thread(predict, name, requests, False, ticket)
        return predict(name, requests, False, ticket)

    def _fly(self, change: int) -> None:
        self.in_flight += change
        self.shared.metrics.in_flight(self.deployment.model.name, change)

    def _enter(self, place: _Place) -> bool:
        if place.kept:
            place.kept = False
        elif self.in_flight < self.deployment.max_in_flight:
            self._fly(1)
        else:
            return False
        return True

    def _landed(self, place: _Place, error: BaseException | None) -> None:
        if place.ended or place.kept:
            self._fly(-1)
        else:
            place.kept = True
        self._failed(error)

    def _failed(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, RequestConflict | RequestInvalid):
            self.shared.metrics.fault("predict", HomeostatError(repr(error)))


def _next_size(size: int, took_ns: int, deadline_ns: int) -> int:
    """Return how many requests the next piece has, after one that took so long.

    >>> [_next_size(8, took, 100) for took in (25, 26, 51)]
    [16, 8, 4]
    """
    if 4 * took_ns <= deadline_ns:
        return min(2 * size, LARGEST_PIECE)
    return max(size // 2, 1) if 2 * took_ns > deadline_ns else size


async def _in_time(
    threads: Crew, work: Work, ticket: Ticket, seconds: float, landed: Landed
) -> list[Answer] | None:
    """Return what `work` returns on a thread; None if the deadline claims the ticket before it.

    `landed` is told, on the event loop, when the thread is done or will not begin. Its error is
    raised here only if somebody still waits.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[list[Answer] | None] = loop.create_future()

    def settle(answers: list[Answer] | None, error: BaseException | None) -> None:
        landed(error)
        if not outcome.done():
            if error is None:
                outcome.set_result(answers)
            else:
                outcome.set_exception(error)

    def run() -> None:
        answers: list[Answer] | None = None
        failed: BaseException | None = None
        try:
            answers = work()
        except BaseException as error:  # noqa: BLE001 - carried to the event loop, and raised there
            failed = error
        with suppress(RuntimeError):  # the loop is closed: the server ended without this answer
            loop.call_soon_threadsafe(settle, answers, failed)

    def expire() -> None:
        if not outcome.done() and ticket.claim():
            if running.withdraw():
                landed(None)
            outcome.set_result(None)

    running = threads.submit(run)
    timer = loop.call_later(max(seconds, 0.0), expire)
    try:
        return await outcome
    finally:
        timer.cancel()
