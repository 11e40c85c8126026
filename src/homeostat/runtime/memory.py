"""How much memory work over the lake may take."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["memory_to_use"]

SHARE = 4
"""One part in so many of the machine's memory: others run there too."""

CONTAINER = Path("/sys/fs/cgroup/memory.max")


def memory_to_use() -> int:
    """Return the bytes that events may take at once: a quarter of the machine or its container."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no container, or one without a bound ("max")
        whole = min(whole, int(CONTAINER.read_text()))
    return whole // SHARE
