"""Whether the process that runs a home still serves by other declarations than were applied since.

It serves and trains by those it was started with. They are written down when it begins, so that
commands of other processes can tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from homeostat.core.errors import HomeostatError
from homeostat.declare.system import System
from homeostat.runtime.lock import owner_of
from homeostat.runtime.plan import applied, applied_body, changes_between, write_body

__all__ = [
    "StartedOtherwise",
    "begun",
    "given_up_beside",
    "note_given_up",
    "pending",
    "restart_note",
]

FILE = "running.json"
GIVEN_UP = "running_given_up.json"
NAMED = 4


class StartedOtherwise(HomeostatError):
    """Other declarations hold than the process was started with, or will in a moment."""

    def __init__(self) -> None:
        super().__init__(
            "train: this process was started with other declarations than were applied since; "
            "allowed: a training by those that hold; start the process again, and train then"
        )


def begun(home: Path, system: System) -> None:
    """Write down which declarations the process that begins to run a home serves by."""
    write_body(home / FILE, applied_body(system))
    (home / GIVEN_UP).unlink(missing_ok=True)


def note_given_up(home: Path, names: Iterable[str]) -> None:
    """Write down versions that the process answers with until its end, given up meanwhile."""
    there = {*given_up_beside(home), *names}
    write_body(home / GIVEN_UP, json.dumps(sorted(there)))


def given_up_beside(home: Path) -> tuple[str, ...]:
    """Return the champions given up since the running process began, which it answers with."""
    path = home / GIVEN_UP
    if not path.exists() or owner_of(home) is None:
        return ()
    return tuple(json.loads(path.read_text(encoding="utf-8")))


def pending(home: Path) -> tuple[str, ...]:
    """Return what was applied to a home and is not served yet by the process that runs it."""
    given_up = (f"{name} given up, which answers until then" for name in given_up_beside(home))
    return (*given_up, *_declared_since(home))


def _declared_since(home: Path) -> tuple[str, ...]:
    path, now = home / FILE, applied(home)
    if now is None or not path.exists() or owner_of(home) is None:
        return ()
    changes = changes_between(json.loads(path.read_text(encoding="utf-8")), now)
    return tuple(f"{change.subject} {change.kind}" for change in changes)


def restart_note(home: Path) -> str:
    """Say that the process that runs a home is to be started again, and why; "" if it is not."""
    names = pending(home)
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    rests = ", and nothing is trained until then" if _declared_since(home) else ""
    return (
        f"restart pending: other declarations were applied ({', '.join(names[:NAMED])}{more}); "
        f"the next start serves and trains by them{rests}"
    )
