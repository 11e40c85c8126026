"""Many threads share few arenas, and what they freed goes back to the system."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from homeostat.core.allocators import RUST, give_back

THREADS = """
import ctypes, sys
from threading import Barrier, Thread
from homeostat.core.allocators import bound_arenas, give_back
if sys.argv[1] == "bound":
    bound_arenas()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
together = Barrier(40)

def work():
    together.wait()
    kept = [library.malloc(20_000) for _ in range(20)]
    together.wait()
    for place in kept:
        library.free(place)

threads = [Thread(target=work) for _ in range(40)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
arenas = sum(  # each other arena than the first begins a heap of 64 MB
    int(line.split("-")[0], 16) % (64 << 20) == 0 and "00000000 00:00 0" in line
    for line in open("/proc/self/maps")
)
print(arenas, give_back(), give_back())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="arenas of the GNU C library")
def test_threads_share_arenas_and_free_pages_go_back() -> None:
    def run(how: str) -> list[str]:
        command = [sys.executable, "-c", THREADS, how]
        environment = {**os.environ, "MALLOC_ARENA_MAX": ""}
        del environment["MALLOC_ARENA_MAX"]
        told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return told.stdout.split()

    bound, free = run("bound"), run("free")
    cores = max(os.cpu_count() or 1, 2)
    assert int(bound[0]) < cores < int(free[0])
    assert free[1] == "True"


def test_the_words_of_the_environment_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from homeostat.core.allocators import bound_arenas

    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")  # so nothing of this process is changed
    monkeypatch.setenv(RUST, "narenas:3")
    bound_arenas()
    assert os.environ[RUST] == "narenas:3"
    monkeypatch.delenv(RUST)
    bound_arenas()
    assert os.environ[RUST].startswith("narenas:")
    give_back()
