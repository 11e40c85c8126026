"""The little of HTTP that we need on top of ASGI: requests in, JSON out, refusals in one shape."""

from __future__ import annotations

import zlib
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
    "gunzip",
    "headers_of",
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


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers of a request by their names in lower case; of a repeated one the last."""
    found = scope.get("headers", ())
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in found}


def gunzip(body: bytes, limit: int) -> bytes:
    """Return what a gzip file of one member or several holds; refuse more than `limit` bytes.

    >>> import gzip
    >>> gunzip(gzip.compress(b"ab") + gzip.compress(b"c"), limit=3)
    b'abc'
    """
    parts: list[bytes] = []
    room = limit
    while body:
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(body, room + 1)
        except zlib.error as odd:
            raise _no_gzip(str(odd)) from odd
        room -= len(part)
        if room < 0:
            raise _too_large(limit, " unpacked")
        if not member.eof:
            raise _no_gzip("it is cut off")
        parts.append(part)
        body = member.unused_data
    return b"".join(parts)


def _no_gzip(found: str) -> Refused:
    return Refused(
        400,
        "malformed",
        f"body: it is said to be gzip, and cannot be read so: {found}; allowed: a whole gzip file; "
        "pack it again, or leave content-encoding out.",
    )


def _too_large(limit: int, how: str = "") -> Refused:
    """Return the refusal of a body above a limit."""
    return Refused(
        413,
        "too_large",
        f"body: more than {limit} bytes{how}; allowed: {limit}; send fewer requests at once.",
        headers=((b"connection", b"close"),),
    )


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
        raise _too_large(limit)
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
