"""A bound on the memory of a process, the pages of files that it touches included: a control group.

What a container with a limit has. The system takes clean pages of files back when the bound is
reached, and kills the process when that is not enough.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["bounded", "unbounded_because"]

LAYOUTS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)
"""Of both versions of control groups: the root, and the file of the bound."""


def unbounded_because() -> str | None:
    """Return why no process can be bounded here, None if it can."""
    try:
        group, *_ = _made()
    except OSError as refused:
        return f"memory can be bounded by root with control groups only ({refused})"
    group.rmdir()
    return None


@contextmanager
def bounded(most: int) -> Iterator[None]:
    """Bound this process to `most` bytes."""
    group, root, bound = _made()
    try:
        (group / bound).write_text(str(most))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield
    finally:
        (root / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def _made() -> tuple[Path, Path, str]:
    """Make a group below the root, name the file of its bound; OSError where it is not allowed."""
    refused: OSError = FileNotFoundError("there are none")
    for root, bound in LAYOUTS:
        group = root / f"homeostat-benchmark-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            refused = error
            continue
        if (group / bound).exists():
            return group, root, bound
        group.rmdir()
    raise refused
