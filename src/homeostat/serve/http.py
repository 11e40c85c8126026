"""The HTTP application: raw ASGI, no framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns

from homeostat.core.errors import HomeostatError, UnknownName, did_you_mean
from homeostat.core.storage import StorageFailed
from homeostat.declare.system import System
from homeostat.serve.crew import Crew
from homeostat.serve.lane import Lane, Shared
from homeostat.serve.metrics import Metrics
from homeostat.serve.openapi import describe, foreign
from homeostat.serve.ports import NotDurable
from homeostat.serve.push import Push
from homeostat.serve.repeats import RequestConflict
from homeostat.serve.requests import RequestInvalid, RequestMalformed, RequestReader
from homeostat.serve.routing import Route
from homeostat.serve.seam import Service
from homeostat.serve.wire import (
    Gone,
    Receive,
    Refused,
    Reply,
    Scope,
    Send,
    flag,
    headers_of,
    read_body,
    send_reply,
)

__all__ = ["Application", "Limits", "Mount"]

_PATHS = {
    "predict": ("POST", "/predict/{model}"),
    "events": ("POST", "/events/{source}"),
    "predictions": ("GET", "/predictions/{id}"),
    "models": ("GET", "/models"),
    "health": ("GET", "/health"),
    "ready": ("GET", "/ready"),
    "metrics": ("GET", "/metrics"),
    "openapi.json": ("GET", "/openapi.json"),
}


@dataclass(frozen=True, slots=True)
class Mount:
    """A path of another protocol: `answer` takes the body of a POST, on a thread."""

    path: str
    summary: str
    answer: Callable[[bytes], Reply]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server: body size, seconds to send a body, threads that predict.

    A body of events may have `events_bytes`, packed and unpacked; `held_bytes` bounds the bodies of
    events that are held at once. With `waits` an answer waits for a disk before it leaves. `held`
    calls of one model may run on after their deadline before it is not asked any more.
    """

    body_bytes: int = 1 << 20
    events_bytes: int = 8 << 20
    held_bytes: int = 64 << 20
    body_seconds: float = 10.0
    threads: int = 4
    waits: bool = False
    held: int = 64


class Application:
    """An ASGI application in front of a `Service`.

    A prediction runs on a thread; if it has not answered at the deadline, or too many calls are in
    flight, the declared `overloaded` fallback answers in its place.

    Args:
        system: the declarations.
        service: what stands behind.
        metrics: counts that /metrics shows, with the routes of `routes`.
        routes: the versions in service by model, for /metrics.
        limits: bounds of the server.
    """

    def __init__(
        self,
        system: System,
        service: Service,
        metrics: Metrics,
        routes: Callable[[str], Route] = lambda model: Route(),
        limits: Limits = Limits(),
    ) -> None:
        self._system, self._service = system, service
        self._metrics, self._routes, self._limits = metrics, routes, limits
        self._threads = Crew(limits.threads, "homeostat-predict")
        self._spare = Crew(1, "homeostat-fallback")
        shared = Shared(
            service, metrics, self._threads, self._spare, perf_counter_ns, limits.waits, limits.held
        )
        self._lanes = {
            d.model.name: Lane(
                d,
                RequestReader(
                    system,
                    d.model,
                    partial(service.needs, d.model.name),
                    service.former(d.model.name),
                ),
                shared,
            )
            for d in system.deployments
        }
        self._push = Push(system, service, metrics, limits.events_bytes, limits.held_bytes)
        self._mounts: dict[str, Mount] = {}
        self._paths = dict(_PATHS)
        self._draining = False

    def mount(self, given: Mount) -> None:
        """Answer another protocol's path too; call it before serving."""
        head = given.path.lstrip("/")
        if head in self._paths or not head or "/" in head:
            raise HomeostatError(
                f"path {given.path!r}: taken, or of more than one part; allowed: one word beside "
                f"{', '.join(self._paths)}; choose another."
            )
        self._mounts[head] = given
        self._paths[head] = ("POST", given.path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, or take part in the server's start and end."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            raise HomeostatError(
                f"connection of type {scope['type']!r}; allowed: HTTP; connect without an upgrade."
            )

    def drain(self) -> None:
        """Report not ready from now on; requests are still answered until the server stops."""
        self._draining = True

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                self._draining = True
                for threads in (self._threads, self._spare):
                    threads.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        head, _, rest = scope["path"].lstrip("/").partition("/")
        place = self._paths.get(head)
        label = place[1] if place else "other"
        try:
            reply = await self._reply(scope, receive, head, rest)
        except Refused as refused:
            reply = refused.reply()
        except Gone:
            self._metrics.request(label, 499)
            return
        except NotDurable as held:
            self._metrics.fault("log", held)
            retry = ((b"retry-after", b"1"),)
            reply = Refused(503, "not_durable", f"{label}: {held}", headers=retry).reply()
        except StorageFailed as full:
            self._metrics.fault("storage", full)
            retry = ((b"retry-after", b"1"),)
            reply = Refused(503, "storage_failed", f"{label}: {full}", headers=retry).reply()
        except Exception as broken:  # noqa: BLE001 - a bug of ours is counted, and never a 500
            self._metrics.fault("http", broken)
            reply = Refused(
                503,
                "unavailable",
                f"{label}: it failed inside; allowed: to try again; see /metrics.",
            ).reply()
        self._metrics.request(label, reply.status)
        await send_reply(send, reply, with_body=scope["method"] != "HEAD")

    async def _reply(self, scope: Scope, receive: Receive, head: str, rest: str) -> Reply:
        found = self._paths.get(head)
        if found is None or ("{" in found[1]) != bool(rest):
            paths = [path for _, path in self._paths.values()]
            raise Refused(
                404,
                "unknown_path",
                f"path {scope['path']!r}: there is none.{did_you_mean(scope['path'], paths)} "
                f"allowed: {', '.join(paths)}.",
            )
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method != found[0]:
            raise Refused(
                405,
                "wrong_method",
                f"{found[1]}: found {scope['method']}; allowed: {found[0]}; send that.",
                headers=((b"allow", found[0].encode()),),
            )
        if head in self._mounts:
            body = await self._body(scope, receive)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, self._mounts[head].answer, body)
        match head:
            case "predict":
                return await self._predict(rest, scope, receive)
            case "events":
                return await self._events(rest, scope, receive)
            case "predictions":
                return self._prediction(rest)
            case "models":
                return Reply.of({"models": self._service.models()})
            case "health":
                return Reply.of({"status": "alive"})
            case "ready":
                return self._ready()
            case "metrics":
                routes = {name: self._routes(name) for name in self._lanes}
                text = self._metrics.text(routes).encode()
                return Reply(200, text, b"text/plain; version=0.0.4; charset=utf-8")
            case _:
                document = describe(self._system, self._service.needs, self._service.former)
                document["paths"] |= {m.path: foreign(m.summary) for m in self._mounts.values()}
                return Reply.of(document)

    async def _body(self, scope: Scope, receive: Receive, limit: int | None = None) -> bytes:
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                bound = self._limits.body_bytes if limit is None else limit
                return await read_body(scope, receive, bound)
        except TimeoutError:
            raise Refused(
                408,
                "too_slow",
                f"body: not complete after {self._limits.body_seconds:g} s; allowed: that long; "
                "send it at once.",
                headers=((b"connection", b"close"),),
            ) from None

    async def _predict(self, model: str, scope: Scope, receive: Receive) -> Reply:
        lane = self._lanes.get(model)
        if lane is None:
            unknown = UnknownName("deployed model", model, tuple(self._lanes), "/predict")
            raise Refused(404, "unknown_model", str(unknown))
        reasons = flag(scope.get("query_string", b""), "reasons")
        body = await self._body(scope, receive)
        began = perf_counter_ns()
        try:
            requests, is_list = lane.reader.read(body)
            answers = await lane.answers(requests, reasons, began)
        except RequestMalformed as malformed:
            raise Refused(400, "malformed", str(malformed)) from None
        except RequestInvalid as invalid:
            raise Refused(422, "invalid_request", str(invalid), invalid.problems) from None
        except RequestConflict as other:
            raise Refused(409, "conflict", str(other), other.problems) from None
        return Reply.of({"predictions": answers} if is_list else answers[0])

    async def _events(self, source: str, scope: Scope, receive: Receive) -> Reply:
        self._push.check(source)
        headers = headers_of(scope)
        with self._push.room(headers):
            body = await self._body(scope, receive, self._limits.events_bytes)
            return await self._push.take(source, body, headers)

    def _prediction(self, prediction_id: str) -> Reply:
        found = self._service.prediction(prediction_id)
        if found is None:
            raise Refused(
                404,
                "unknown_prediction",
                f"prediction {prediction_id!r}: it is not among the recent ones; allowed: the id "
                "of a recent answer; older ones are in the table of predictions.",
            )
        return Reply.of(found)

    def _ready(self) -> Reply:
        state = self._service.ready()
        held = [note for lane in self._lanes.values() for note in lane.notes]
        notes = [*(["draining"] if self._draining else []), *state.notes, *held]
        ready = state.ready and not self._draining
        return Reply.of({"ready": ready, "notes": notes}, 200 if ready else 503)
