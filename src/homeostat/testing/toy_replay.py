"""Replays the toy system in a home: the process that crash tests kill.

Run it as `python -m homeostat.testing.toy_replay HOME`. It prints "running" when it begins to work,
goes on where an earlier process was killed, and ends with the digest of the home.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from homeostat.core.clock import to_micros
from homeostat.core.durations import parse_duration
from homeostat.runtime.history import import_history
from homeostat.runtime.home import Home
from homeostat.runtime.replay import Schedule, replay
from homeostat.testing.digest import digest
from homeostat.testing.toy import TOY_START, toy_events, toy_system

__all__ = ["replay_toy", "toy_schedule"]


def toy_schedule() -> Schedule:
    """Return five days of history and a week of half-day steps."""
    start, day = to_micros(TOY_START), parse_duration("1d")
    return Schedule(start + 5 * day, start + 12 * day, day // 2, flush_every=2)


def replay_toy(folder: Path) -> dict[str, str]:
    """Import the toy's events and replay them, from wherever the home stands."""
    system = toy_system()
    home = Home(folder, system, sync=False)
    try:
        for name, frame in toy_events().items():
            import_history(home.log, system.source(name), frame, known_time="known_at")
        replay(system, home, toy_schedule())
        return digest(home)
    finally:
        home.close()


def main(folder: str) -> None:
    """Say that the work begins, do it, and write the digest as JSON."""
    sys.stdout.write("running\n")
    sys.stdout.flush()
    sys.stdout.write(json.dumps(replay_toy(Path(folder))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
