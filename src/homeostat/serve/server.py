"""Runs an ASGI application on uvicorn: in the foreground, or on a thread beside other work."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread, current_thread, main_thread
from typing import TYPE_CHECKING, Any

from homeostat.core.errors import HomeostatError

if TYPE_CHECKING:
    import socket

    import uvicorn

    from homeostat.serve.http import Application

__all__ = ["NotServed", "serve", "serving"]

_GRACE_SECONDS = 10


class NotServed(HomeostatError):
    """The address cannot be listened on."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"server: {host}:{port} cannot be listened on; allowed: a free port; choose another, "
            "or 0 for any."
        )


def serve(
    app: Application,
    host: str = "127.0.0.1",
    port: int = 8000,
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until SIGINT or SIGTERM, then answer what was received, and return.

    Args:
        app: the application.
        host: the interface; the default is reachable from this machine only.
        port: 0 for any free one.
        started: told the address, once it can be reached.
    """
    server = _server(app, host, port, started)
    with _quiet_signals():
        _run(server)
    if not server.started:
        raise NotServed(host, port)


@contextmanager
def serving(app: Application, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve on a thread while the block runs; yields the address, such as http://127.0.0.1:8000."""
    addresses: list[str] = []
    settled = Event()

    def started(address: str) -> None:
        addresses.append(address)
        settled.set()

    server = _server(app, host, port, started)

    def run() -> None:
        try:
            _run(server)
        finally:
            settled.set()

    thread = Thread(target=run, name="homeostat-http", daemon=True)
    thread.start()
    settled.wait()
    if not addresses:
        raise NotServed(host, port)
    try:
        yield addresses[0]
    finally:
        server.should_exit = True
        thread.join()


def _run(server: uvicorn.Server) -> None:
    try:
        server.run()
    except SystemExit:  # uvicorn's answer to a port in use
        server.started = False


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """Let `serve` return after a signal: uvicorn raises it again when it has finished."""
    if current_thread() is not main_thread():
        yield
        return
    before = {s: signal.signal(s, lambda *_: None) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _server(
    app: Application, host: str, port: int, started: Callable[[str], None]
) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                bound = self.servers[0].sockets[0].getsockname()
                started(f"http://{bound[0]}:{bound[1]}")

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.drain()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        _as_asgi(app),
        host=host,
        port=port,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return Server(config)


def _as_asgi(app: Application) -> Any:
    return app
