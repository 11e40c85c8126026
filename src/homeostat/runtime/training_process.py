"""A training in a process of its own: it shares neither memory nor interpreter with the server.

The child loads the system's file, trains as the running system would, and writes the outcome, as
JSON, into a pipe. It has a low priority, and ends when its parent does. A child that is killed, for
its memory or by a fault in native code, is a training that failed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import content_hash
from homeostat.declare.system import System
from homeostat.runtime.trainings import Failed, Outcome, Training, carry_out

__all__ = ["DeclaredOtherwise", "TrainingProcess"]

LOOK_S = 0.1
NICE = 10
"""What is folded and answered comes first."""


class DeclaredOtherwise(HomeostatError):
    """The system's file no longer says what the running system does."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"{path}: {found}; allowed: the declarations that run; the training is done by the "
            "running process itself; see `homeostat plan`"
        )


@dataclass(frozen=True, slots=True)
class TrainingProcess:
    """Carries out trainings of the system declared in a file, on the home in a folder."""

    system: System
    path: Path
    folder: Path

    def __call__(self, training: Training, stopped: Event) -> Outcome | None:
        """Train, and return what came of it; None if `stopped` was set before.

        Raises:
            DeclaredOtherwise: the file was changed since, or cannot be loaded any more.
        """
        asked = {
            "path": str(self.path), "folder": str(self.folder), "hash": self.system.hash,
            "model": training.model, "at": training.at, "champion": training.champion,
        }  # fmt: skip
        reads, writes = os.pipe()
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "homeostat.runtime.training_process", str(writes)],
                stdin=subprocess.PIPE,
                stdout=2,  # what the user's code prints is no answer of the server
                pass_fds=(writes,),
            )
        finally:
            os.close(writes)
        try:
            assert child.stdin is not None
            child.stdin.write(json.dumps(asked).encode() + b"\n")
            child.stdin.flush()
            told = _read(reads, child, stopped)
        finally:
            os.close(reads)
            if stopped.is_set():
                child.kill()
            status = child.wait()
            if child.stdin is not None:
                child.stdin.close()
        if told is None:
            return None
        if not told:
            return Outcome(_died(training, status))
        body = json.loads(told)
        if "otherwise" in body:
            raise DeclaredOtherwise(self.path, body["otherwise"])
        return Outcome.from_json(body)


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


def _died(training: Training, status: int) -> Failed:
    if status < 0:
        names = {number.value: number.name for number in signal.Signals}
        found = f"its process was killed by {names.get(-status, f'signal {-status}')}"
        advice = (
            "most often the machine has too little memory for it: shorten the history of the split"
        )
    else:
        found, advice = f"its process ended with status {status}", "see what the server printed"
    evidence = {
        "type": "ProcessDied",
        "message": found,
        "where": "the training process",
        "declared": content_hash(training.deployment.model),
    }
    return Failed(f"training failed: {found}; {advice}", {"failed": evidence})


def _answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Train in this process, which is the child."""
    from homeostat.runtime.home import lake_of
    from homeostat.runtime.loading import load_system
    from homeostat.runtime.profile import load_storage
    from homeostat.runtime.same_lake import places_of
    from homeostat.runtime.training import Trainer
    from homeostat.train.registry import Registry

    path, folder = Path(asked["path"]), Path(asked["folder"])
    try:
        system = load_system(path)
    except Exception as broken:  # noqa: BLE001 - the file is a user's code
        return {"otherwise": f"it cannot be loaded: {type(broken).__name__}: {broken}"}
    if system.hash != asked["hash"]:
        return {"otherwise": "it declares something else than the running system"}
    lake = lake_of(places_of(folder, load_storage(path)), system)
    registry = Registry(folder / "meta.db", folder / "packages")
    model = asked["model"]
    retrain = system.retrain(model)
    training = Training(
        system.deployment(model),
        asked["at"],
        asked["champion"],
        () if retrain is None else retrain.companions,
    )
    return carry_out(training, Trainer(system, lake, registry), registry.load).as_json()


def _end_with_the_parent() -> None:
    """Wait for the end of the standard input, which the parent holds open while it lives."""
    while os.read(0, 1):
        continue
    os._exit(1)


def main() -> None:
    """Be the child."""
    asked = json.loads(sys.stdin.buffer.readline())
    Thread(target=_end_with_the_parent, daemon=True).start()
    os.nice(NICE)
    answer = json.dumps(_answer(asked)).encode()
    with os.fdopen(int(sys.argv[1]), "wb") as pipe:
        pipe.write(answer)


if __name__ == "__main__":
    main()
