"""A PostgreSQL of its own for a test: in a temporary folder, on a socket in it, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homeostat.core.errors import HomeostatError

__all__ = ["PostgresMissing", "postgres_server"]

PATIENCE_S = 60
DEBIAN = Path("/usr/lib/postgresql")


class PostgresMissing(HomeostatError):
    """There is no PostgreSQL on this machine."""

    def __init__(self) -> None:
        super().__init__(
            f"PostgreSQL: no initdb on the path or in {DEBIAN}; allowed: any release since 12; "
            "`make test` installs it as root on Debian, or install it yourself"
        )


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server until the block ends, and give its URL for SQLAlchemy.

    It does not sync: it is for tests, and faster so. PostgreSQL refuses to be run by root; then
    the user `postgres` of Debian's package runs it, or `nobody`.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    owner = _owner(folder)
    try:
        _run(owner, programs / "initdb", "--pgdata", folder / "data", "--username", "toy",
             "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")  # fmt: skip
        settings = (
            f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off "
            "-c full_page_writes=off -c synchronous_commit=off -c max_connections=20"
        )
        control = (programs / "pg_ctl", "--pgdata", folder / "data", "--timeout", str(PATIENCE_S))
        _run(owner, *control, "--wait", "--log", folder / "log", "--options", settings, "start")
        try:
            yield f"postgresql+psycopg://toy@/postgres?host={folder}"
        finally:
            _run(owner, *control, "--mode", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not installed:
        raise PostgresMissing
    return installed[-1].parent


def _owner(folder: Path) -> str | None:
    """Give a folder to who runs the server, and return that user; None for this one."""
    if os.getuid() != 0:
        return None
    names = [user.pw_name for user in pwd.getpwall()]
    owner = "postgres" if "postgres" in names else "nobody"
    shutil.chown(folder, owner)
    return owner


def _run(owner: str | None, *words: str | Path) -> None:
    done = subprocess.run(
        list(map(str, words)),
        user=owner,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        cwd="/",
        text=True,
        check=False,
        timeout=2 * PATIENCE_S,
    )
    if done.returncode:
        raise ServerFailed(str(words[0]), done.stderr)


class ServerFailed(HomeostatError):
    """A program of PostgreSQL failed."""

    def __init__(self, program: str, said: str) -> None:
        super().__init__(f"{program}: {' '.join(said.split())}; see the log in its folder")
