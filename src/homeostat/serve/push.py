"""Takes pushed events: bodies are unpacked and judged, and what waits is appended together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from homeostat.core.errors import UnknownName
from homeostat.declare.system import System
from homeostat.ingest.log import PayloadTooLarge
from homeostat.ingest.push import BodyMalformed, Door, Judged, Rejected, cut
from homeostat.serve.metrics import ACCEPTED, Metrics
from homeostat.serve.seam import Behind, Ingested, Service
from homeostat.serve.wire import Refused, Reply, gunzip

__all__ = ["Push", "Pushed"]

_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


class Pushed(msgspec.Struct, frozen=True):
    """What became of a body: `events` are in the log from `first_offset` on, the rest is told.

    `first_offset` is null where nothing was accepted. An event that was accepted may still turn
    out a duplicate, which is dropped, or a conflict or ahead of its time: a dead letter.
    """

    source: str
    first_offset: int | None
    events: int
    refused: list[Rejected]


@dataclass
class _Queue:
    """Bodies of one source that wait for the append under way to end."""

    waiting: list[tuple[list[bytes], asyncio.Future[Ingested]]] = field(default_factory=list)
    writer: asyncio.Task[None] | None = None


class Push:
    """Brings bodies into the log; used from one event loop.

    All that arrives while an append is under way goes into the next one: however many clients
    there are, the disk is synced once for all of them.

    Args:
        system: the declarations.
        service: takes the events.
        metrics: counts them.
        body_bytes: how large a body may be, packed or unpacked.
        held_bytes: how much may be held for all the requests that are under way.
    """

    def __init__(
        self, system: System, service: Service, metrics: Metrics, body_bytes: int, held_bytes: int
    ) -> None:
        self._service, self._metrics = service, metrics
        self._body_bytes, self._held_bytes = body_bytes, held_bytes
        self._sources = system.sources
        self._doors: dict[str, Door] = {}
        self._queues: dict[str, _Queue] = {}
        self._held = 0

    def check(self, source: str) -> None:
        """Refuse a source that is not declared."""
        names = tuple(declared.name for declared in self._sources)
        if source not in names:
            raise Refused(
                404, "unknown_source", str(UnknownName("event source", source, names, "/events"))
            )

    @contextmanager
    def room(self, headers: Mapping[str, str]) -> Iterator[None]:
        """Hold room for a body while the block runs; refuse it (429) where there is none."""
        size = self._body_bytes
        if "content-encoding" not in headers and headers.get("content-length", "").isdecimal():
            size = min(int(headers["content-length"]), size)
        if self._held and self._held + size > self._held_bytes:
            raise _too_busy(
                f"{self._held:,} bytes of other requests are held; allowed: {self._held_bytes:,}", 1
            )
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    async def take(self, source: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Bring the events of a body into the log, and tell what became of each."""
        loop = asyncio.get_running_loop()
        judged = await loop.run_in_executor(None, self._judge, source, body, headers)
        for rejected in judged.rejected:
            self._metrics.pushed(source, rejected.reason, 1)
        if not judged.accepted:
            raise Refused(
                422,
                "refused",
                f"events of {source!r}: none of {len(judged.rejected)} can be read; allowed: "
                "objects with the declared fields; the reasons are in `problems`.",
                judged.rejected,
            )
        try:
            taken = await self._append(source, judged.accepted)
        except Behind as behind:
            raise _too_busy(str(behind), behind.retry_after_s) from None
        except PayloadTooLarge as large:
            raise Refused(413, "too_large", str(large)) from None
        self._metrics.pushed(source, ACCEPTED, taken.events)
        return Reply.of(Pushed(source, taken.first_offset, taken.events, judged.rejected), 202)

    def _judge(self, source: str, body: bytes, headers: Mapping[str, str]) -> Judged:
        packed = headers.get("content-encoding", "identity").strip().lower()
        if packed in ("gzip", "x-gzip"):
            body = gunzip(body, self._body_bytes)
        elif packed != "identity":
            raise Refused(
                415,
                "unknown_encoding",
                f"content-encoding: found {packed!r}; allowed: gzip, identity; pack it so.",
            )
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            events = cut(source, body, by_lines=kind in _LINES)
        except BodyMalformed as malformed:
            self._metrics.pushed(source, "malformed", 1)
            raise Refused(400, "malformed", str(malformed)) from None
        door = self._doors.get(source)
        if door is None:
            declared = next(s for s in self._sources if s.name == source)
            door = self._doors.setdefault(source, Door(declared))
        return door.judge(events)

    async def _append(self, source: str, payloads: list[bytes]) -> Ingested:
        """Append payloads with the next ones that are written; return where they are."""
        queue = self._queues.setdefault(source, _Queue())
        done: asyncio.Future[Ingested] = asyncio.get_running_loop().create_future()
        queue.waiting.append((payloads, done))
        if queue.writer is None:
            queue.writer = asyncio.create_task(self._write(source, queue))
        return await done

    async def _write(self, source: str, queue: _Queue) -> None:
        try:
            while queue.waiting:
                group, queue.waiting = queue.waiting, []
                if not await self._written(source, group):
                    for one in group:  # one of them was too large for the log: find out which
                        await self._written(source, [one], alone=True)
        finally:
            queue.writer = None

    async def _written(
        self,
        source: str,
        group: Sequence[tuple[list[bytes], asyncio.Future[Ingested]]],
        *,
        alone: bool = False,
    ) -> bool:
        """Append a group and tell each where it is; False if each must be tried alone."""
        payloads = [payload for part, _ in group for payload in part]
        loop = asyncio.get_running_loop()
        try:
            taken = await loop.run_in_executor(None, self._service.ingest, source, payloads)
        except PayloadTooLarge as large:
            if not alone and len(group) > 1:
                return False
            _fail(group, large)
        except Exception as broken:  # noqa: BLE001 - each of those who wait must hear of it
            _fail(group, broken)
        else:
            first = taken.first_offset
            for part, done in group:
                if not done.done():
                    done.set_result(Ingested(source, first, len(part)))
                first += len(part)
        return True


def _fail(group: Sequence[tuple[list[bytes], asyncio.Future[Ingested]]], broken: Exception) -> None:
    for _, done in group:
        if not done.done():
            done.set_exception(broken)


def _too_busy(found: str, seconds: int) -> Refused:
    return Refused(
        429,
        "behind",
        f"{found}; nothing of this body was taken; send it again after {seconds} s.",
        headers=((b"retry-after", str(seconds).encode()),),
    )
