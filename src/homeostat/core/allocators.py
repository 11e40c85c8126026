"""The allocators of a server: an arena per core for many threads, and free pages given back.

Both the C library's allocator and that of the Rust libraries (jemalloc, of Polars and of delta-rs)
give threads arenas of their own, four or eight per core, and keep what was freed in the midst of
one. A server has a hundred threads now and then (commits of the lake, a pool of readers), so what
one step needed would stay taken in arena after arena. Where the C library is not GNU's, or the
environment says otherwise, nothing is done.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

__all__ = ["bound_arenas", "give_back"]

RUST = "_RJEM_MALLOC_CONF"
"""The environment variable that jemalloc reads when a library that has it is loaded."""

M_ARENA_MAX = -8


@cache
def _library() -> ctypes.CDLL | None:
    """Return the C library of this process if it is GNU's."""
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None


def bound_arenas() -> None:
    """Let the threads that begin from now on share an arena per core; before Polars is loaded."""
    cores = os.cpu_count() or 1
    os.environ.setdefault(RUST, f"narenas:{cores},lg_tcache_max:12")
    library = _library()
    if library is not None and "MALLOC_ARENA_MAX" not in os.environ:
        library.mallopt(M_ARENA_MAX, max(cores, 2))


def give_back() -> bool:
    """Return the C library's free pages to the system; return whether there were any.

    It takes milliseconds, and other threads of Python go on.
    """
    library = _library()
    return library is not None and bool(library.malloc_trim(0))
