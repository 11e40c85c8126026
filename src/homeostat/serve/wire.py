"""The little of HTTP that we need on top of ASGI: requests in, JSON out, refusals in one shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

import msgspec

from homeostat.core.errors import HomeostatError, did_you_mean

__all__ = [
    "Gone",
    "Receive",
    "Refused",
    "Reply",
    "Scope",
    "Send",
    "flag",
    "read_body",
    "send_reply",
]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_encoder = msgspec.json.Encoder(decimal_format="number")
_DRAINED = 16  # a body this many times too large is still read, so that the client sees why


class Gone(HomeostatError):
    """The client left before its request was complete."""


class Reply(msgspec.Struct, frozen=True):
    """A response: status, body, and headers beyond type and length."""

    status: int
    body: bytes
    kind: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def of(cls, value: object, status: int = 200) -> Reply:
        """Return a value as JSON."""
        return cls(status, _encoder.encode(value))


class Refused(HomeostatError):
    """A request that gets a 4xx or 503; the body says where, what was found, what is allowed.

    >>> refused = Refused(404, "unknown_path", "path '/x': there is none; allowed: /health.")
    >>> refused.reply().status
    404
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        problems: Sequence[object] = (),
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.status, self.code = status, code
        self.problems, self.headers = list(problems), headers
        super().__init__(message)

    def reply(self) -> Reply:
        """Return the response that tells the client."""
        error = {"code": self.code, "message": str(self), "problems": self.problems}
        body = _encoder.encode({"error": error})
        return Reply(self.status, body, headers=self.headers)


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the body; raise `Refused` (413) beyond `limit` bytes, `Gone` if it is cut off."""
    chunks: list[bytes] = []
    size = 0
    more = True
    while more and size <= limit * _DRAINED:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone("client: it left before its request was complete.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        more = message.get("more_body", False)
    if size > limit:
        raise Refused(
            413,
            "too_large",
            f"body: more than {limit} bytes; allowed: {limit}; send fewer requests at once.",
            headers=((b"connection", b"close"),),
        )
    return b"".join(chunks)


async def send_reply(send: Send, reply: Reply, *, with_body: bool = True) -> None:
    """Send a response; a HEAD request gets the headers alone."""
    length = str(len(reply.body)).encode()
    headers = [(b"content-type", reply.kind), (b"content-length", length), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body if with_body else b""})


def flag(query: bytes, name: str) -> bool:
    """Return a yes-or-no query parameter, False if it is absent; refuse any other parameter.

    >>> flag(b"reasons=true", "reasons"), flag(b"", "reasons")
    (True, False)
    """
    value = False
    for part in filter(None, query.decode("latin-1").split("&")):
        given, _, text = part.partition("=")
        if given != name:
            raise Refused(
                400,
                "unknown_parameter",
                f"query parameter {given!r}: it is unknown.{did_you_mean(given, [name])} "
                f"allowed: {name}; leave it out.",
            )
        if text not in ("true", "false"):
            raise Refused(
                400,
                "invalid_parameter",
                f"query parameter {name!r}: found {text!r}; allowed: true, false; write one.",
            )
        value = text == "true"
    return value
