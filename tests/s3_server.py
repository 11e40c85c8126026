"""A local S3 server (moto) on the loopback address; run by conftest.py in its environment.

It says its port on stdout, and ends when stdin does. Moto looks whether an object is there and then
writes it; S3 does both in one step. So requests are handled one at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from threading import Lock, Thread
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server


class OneAtATime:
    """An application that handles one request after the other."""

    def __init__(self, application: Any) -> None:
        self._application, self._lock = application, Lock()

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        with self._lock:
            return list(self._application(environ, start_response))


def main() -> None:
    application = OneAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, True, request_handler=MotoRequestHandler)
    Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)  # noqa: T201
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
