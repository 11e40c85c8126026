"""A monitor that raises is a finding of its own, and stops no other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

from homeostat.monitor.findings import Finding
from homeostat.runtime.trainings import go_through, sentence_of

__all__ = ["OF_THE_MACHINE", "judged"]

OF_THE_MACHINE: tuple[type[Exception], ...] = (OSError, MemoryError, sqlite3.OperationalError)
"""A replay stops at these, and goes on when it is run again: its decisions are of its log alone."""


def judged(
    subject: str,
    what: str,
    judge: Callable[[], Iterable[Finding]],
    through: tuple[type[Exception], ...] = (),
) -> list[Finding]:
    """Return what a judge finds; that it cannot judge is found in its place.

    Args:
        subject: the model or source it is about.
        what: names the judge among those of its subject.
        judge: returns its findings.
        through: what is raised all the same.

    >>> found = judged("late", "drift", lambda: [Finding("drift", "late", "clear", "none")])
    >>> [(f.key, f.status) for f in found]
    [('drift/late', 'clear'), ('unjudged/late/drift', 'clear')]
    >>> judged("late", "drift", lambda: [][0])[0].reason.split(" (in")[0]
    'drift cannot be judged: IndexError: list index out of range'
    """
    try:
        found = list(judge())
    except through:
        raise
    except BaseException as broken:  # noqa: BLE001 - a panic of a native library is one, too
        go_through(broken)
        told = f"{what} cannot be judged: {sentence_of(broken)}"
        return [Finding("unjudged", subject, "found", told, detail=what)]
    return [*found, Finding("unjudged", subject, "clear", f"{what} is judged", detail=what)]
