"""Long work in a process of its own: memory, interpreter and pools are not those of the server.

The child loads the system's file, does one piece of work as the running system would, and writes
the answer, as JSON, into a pipe. It has a low priority, and ends when its parent does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any

from homeostat.core.errors import HomeostatError
from homeostat.declare.system import System

__all__ = ["LARGE", "DeclaredOtherwise", "OwnProcess", "ProcessDied"]

LOOK_S = 0.1
NICE = 10
"""What is folded and answered comes first."""

LARGE = 200_000
"""Work on more rows than this is done in a process of its own. One pool of threads serves all
queries of a process, in turn: the fold would wait for a long one, and its memory stays taken."""

_NATIVE = "native code that it called has a fault: see what the server printed, and run it by hand"
_STOPPED = "somebody stopped it, or code raised KeyboardInterrupt: see what the server printed"
_AFTER = {
    "SIGKILL": "most often the machine has too little memory for it",
    "SIGXCPU": "a limit on its processor time was reached: raise it (`ulimit -t`)",
    "SIGXFSZ": "a limit on the size of its files was reached: raise it (`ulimit -f`)",
    **dict.fromkeys(("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL"), _NATIVE),
    **dict.fromkeys(("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"), _STOPPED),
}
"""What to do after a process was killed by a signal."""

Work = Callable[[System, Path, Path, Mapping[str, Any]], dict[str, Any]]
"""Does a piece of work in the child: by the system of a file, on the home in a folder."""


class DeclaredOtherwise(HomeostatError):
    """The system's file no longer says what the running system does."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"{path}: {found}; allowed: the declarations that run; what a process of its own would "
            "do is done by the running one itself; see `homeostat plan`"
        )


class ProcessDied(HomeostatError):
    """A process ended before its work did."""

    retryable = True

    def __init__(self, what: str, status: int) -> None:
        self.status = status
        if status < 0:
            names = {number.value: number.name for number in signal.Signals}
            name = names.get(-status, f"signal {-status}")
            self.found = f"its process was killed by {name}"
            self.advice = _AFTER.get(name, "see what sent it that signal, and what it printed")
        else:
            self.found = f"its process ended with status {status}"
            self.advice = "see what the server printed"
        super().__init__(
            f"{what}: {self.found}; allowed: a process that ends its work; {self.advice}"
        )


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """Does work of the system declared in a file, on the home in a folder."""

    system: System
    path: Path
    folder: Path

    def call(
        self, work: str, asked: Mapping[str, Any], stopped: Event, what: str
    ) -> dict[str, Any] | None:
        """Do a piece of work, and return its answer; None if `stopped` was set before.

        Args:
            work: the function, a `Work`, as "module:name".
            asked: what it is told, as JSON values.
            stopped: ends it.
            what: names it in an error.

        Raises:
            DeclaredOtherwise: the file was changed since, or cannot be loaded any more.
            ProcessDied: the process ended without an answer.
        """
        whole = {
            "work": work, "path": str(self.path), "folder": str(self.folder),
            "hash": self.system.hash, "asked": asked,
        }  # fmt: skip
        reads, writes = os.pipe()
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "homeostat.runtime.own_process", str(writes)],
                stdin=subprocess.PIPE,
                stdout=2,  # what the user's code prints is no answer of the server
                pass_fds=(writes,),
            )
        finally:
            os.close(writes)
        try:
            assert child.stdin is not None
            try:
                child.stdin.write(json.dumps(whole).encode() + b"\n")
                child.stdin.flush()
            except BrokenPipeError:  # it ended: its status says how
                told: bytes | None = b""
            else:
                told = _read(reads, child, stopped)
        finally:
            os.close(reads)
            if stopped.is_set():
                child.kill()
            status = child.wait()
            _close(child)
        if told is None:
            return None
        if not told:
            raise ProcessDied(what, status)
        body: dict[str, Any] = json.loads(told)
        if "otherwise" in body:
            raise DeclaredOtherwise(self.path, body["otherwise"])
        return body


def _close(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        try:
            child.stdin.close()
        except BrokenPipeError:  # what it never read
            return


def _read(pipe: int, child: subprocess.Popen[bytes], stopped: Event) -> bytes | None:
    """Return what is written until the child closes the pipe or ends; None at a stop.

    Processes that the child forked may hold the other end open for longer than it lives.
    """
    parts: list[bytes] = []
    while not stopped.is_set():
        is_over = child.poll() is not None
        if select.select([pipe], [], [], LOOK_S)[0]:
            part = os.read(pipe, 1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)
        elif is_over:
            return b"".join(parts)
    return None


def _answer(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Do the work in this process, which is the child."""
    from homeostat.runtime.loading import load_system

    path = Path(whole["path"])
    try:
        system = load_system(path)
    except Exception as broken:  # noqa: BLE001 - the file is a user's code
        return {"otherwise": f"it cannot be loaded: {type(broken).__name__}: {broken}"}
    if system.hash != whole["hash"]:
        return {"otherwise": "it declares something else than the running system"}
    module, _, name = whole["work"].partition(":")
    work: Work = getattr(import_module(module), name)
    return work(system, path, Path(whole["folder"]), whole["asked"])


def _end_with_the_parent() -> None:
    """Wait for the end of the standard input, which the parent holds open while it lives."""
    while os.read(0, 1):
        continue
    os._exit(1)


def main() -> None:
    """Be the child."""
    whole = json.loads(sys.stdin.buffer.readline())
    Thread(target=_end_with_the_parent, daemon=True).start()
    os.nice(NICE)
    answer = json.dumps(_answer(whole)).encode()
    with os.fdopen(int(sys.argv[1]), "wb") as pipe:
        pipe.write(answer)


if __name__ == "__main__":
    main()
