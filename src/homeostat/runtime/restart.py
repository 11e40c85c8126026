"""Whether the process that runs a home still serves by other declarations than were applied since.

It serves and trains by those it was started with. They are written down when it begins, so that
commands of other processes can tell.
"""

from __future__ import annotations

import json
from pathlib import Path

from homeostat.declare.system import System
from homeostat.runtime.lock import owner_of
from homeostat.runtime.plan import applied, applied_body, changes_between, write_body

__all__ = ["begun", "pending", "restart_note"]

FILE = "running.json"
NAMED = 4


def begun(home: Path, system: System) -> None:
    """Write down which declarations the process that begins to run a home serves by."""
    write_body(home / FILE, applied_body(system))


def pending(home: Path) -> tuple[str, ...]:
    """Return what was applied to a home and is not served yet by the process that runs it."""
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
    return (
        f"restart pending: other declarations were applied ({', '.join(names[:NAMED])}{more}); "
        "the next start serves and trains by them"
    )
