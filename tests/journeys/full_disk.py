"""A home on a small file system that fills up, and is then relieved: what `test_full_disk` runs.

Run it as root of a mount namespace of its own: `python full_disk.py FOLDER undisturbed`,
`readonly`, `upkeep` or `full ROOM`. It mounts a small file system at FOLDER, pushes events until
nothing goes on any more, relieves it, and pushes the rest. It writes what failed meanwhile, and
what the home then holds, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import homeostat as hs
from homeostat.core.clock import ManualClock, from_micros
from homeostat.lake.tiered import TieredLake

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
SIZE_MB = 160
BATCHES, ROWS, TROUBLE = 16, 2_000, 6


class Tap(hs.Event):
    """A card is held to a reader."""

    tap: str
    card: str
    amount: float
    at: hs.Timestamp


TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at")
CARDS = hs.FeatureView(
    "cards",
    hs.Entity("card", key="card"),
    TAPS,
    (hs.count().over("1h"), hs.sum_("amount").over("1h", "1d")),
)
SYSTEM = hs.System("taps", sources=(TAPS,), views=(CARDS,))


def batch(number: int) -> list[bytes]:
    """Return the events of one push: a few are broken, a few came before."""
    draw = np.random.default_rng(number)
    found = []
    for place in range(ROWS):
        name = f"{number}-{place}" if place % 50 else f"{max(number - 1, 0)}-{place + 1}"
        said: dict[str, Any] = {
            "tap": name,
            "card": f"card-{place % 700}",
            "amount": float(draw.integers(1, 10_000)) / 100 if place % 50 else 1.0,
            "at": from_micros(START + (number * ROWS + place) * 1000).isoformat(),
        }
        if place % 97 == 0:
            said["amount"] = "much"
        found.append(json.dumps(said).encode())
    return found


def held(app: hs.App) -> dict[str, Any]:
    """Return what the home holds: rows of the lake, live features, dead letters."""
    rows = app.sql(
        "SELECT COUNT(*) n, COUNT(DISTINCT tap) d, SUM(CAST(100 * amount AS BIGINT)) s FROM taps"
    ).rows()
    cards = [f"card-{number}" for number in range(700)]
    letters = app.home.letters.counts()
    return {
        "lake": [repr(value) for value in rows[0]],
        "live": [
            [repr(value) for value in row] for row in app.read("cards", {"card": cards}).rows()
        ],
        "letters": [[*key, count] for key, count in sorted(letters.items())],
    }


def push(app: hs.App, clock: ManualClock, number: int, rest: Callable[[Exception], None]) -> None:
    """Push one batch and let the loop go on, as a server does; what fails is done again."""
    clock.advance_to(START + (number + 1) * ROWS * 1000)
    for act in (lambda: app.live.ingest("taps", batch(number)), app.live.tick, app.live.flush):
        while True:
            try:
                act()
                break
            except hs.HomeostatError as error:
                rest(error)


def undisturbed(folder: Path) -> dict[str, Any]:
    """Return what a home holds that had room enough."""
    clock = ManualClock(START)
    with hs.open(SYSTEM, folder, clock) as app:
        for number in range(BATCHES):
            push(app, clock, number, _unexpected)
        return held(app)


def _unexpected(error: Exception) -> None:
    raise error


def full(folder: Path, room: int) -> dict[str, Any]:
    """Return what a home holds whose file system had only `room` bytes left for a while."""
    _mount(folder, f"size={SIZE_MB}m")
    ballast, errors, clock = folder / "ballast", list[str](), ManualClock(START)

    def rest(error: Exception) -> None:
        errors.append(f"{type(error).__name__}: {error}")
        if len(errors) == 4:
            ballast.unlink()

    with hs.open(SYSTEM, folder / "home", clock) as app:
        for number in range(BATCHES):
            if number == TROUBLE:
                ballast.write_bytes(bytes(_free(folder) - room))
            push(app, clock, number, rest)
        return held(app) | {"errors": errors}


def readonly(folder: Path) -> dict[str, Any]:
    """Return what a home holds that could not be opened for a while, for it was read-only."""
    _mount(folder, f"size={SIZE_MB}m")
    errors, clock = list[str](), ManualClock(START)
    with hs.open(SYSTEM, folder / "home", clock) as app:
        for number in range(TROUBLE):
            push(app, clock, number, _unexpected)
    _mount(folder, "remount,ro")
    try:
        hs.open(SYSTEM, folder / "home", clock)
    except hs.HomeostatError as error:
        errors.append(f"{type(error).__name__}: {error}")
    _mount(folder, "remount,rw")
    with hs.open(SYSTEM, folder / "home", clock) as app:
        for number in range(TROUBLE, BATCHES):
            push(app, clock, number, _unexpected)
        return held(app) | {"errors": errors}


def upkeep(folder: Path) -> dict[str, Any]:
    """Return what became of a lake whose days were sorted, and moved, on disks that were full."""
    places = folder / "hot", folder / "cold"
    for place in places:
        place.mkdir()
        _mount(place, "size=24m")
    lake, errors = TieredLake(*places, keys={"taps": ("card",)}), list[str]()
    for first in range(0, 400_000, 20_000):
        lake.append("taps", _rows(first, first + 20_000), "fold", first)
    before, files = lake.read("taps"), len(lake.files("taps"))
    days = lake.days("taps")[:5]
    tries: tuple[Callable[[], object], ...] = (
        lambda: lake.compact("taps"),
        lambda: lake.move("taps", days[-1]),
    )
    for place, act in zip(places, tries, strict=True):
        ballast = place / "ballast"
        ballast.write_bytes(bytes(_free(place) - 600_000))
        for _ in range(3):
            free = _free(place)
            try:
                act()
            except hs.HomeostatError as error:
                errors.append(f"{type(error).__name__}: {error}")
            if place == places[0]:  # what failed takes no room; delta-rs leaves its own files
                assert (_free(place), free > 500_000) == (free, True)
            assert lake.read("taps").equals(before)
        ballast.unlink()
        act()
        assert lake.read("taps").equals(before)
    held = lake.status("taps")
    return {
        "errors": errors, "files": [files, held.files], "sorted": held.sorted_share,
        "cold": len(lake.days("taps", "cold")),
    }  # fmt: skip


def _rows(first: int, end: int) -> pl.DataFrame:
    numbers = pl.int_range(first, end, eager=True)
    known = pl.from_epoch(START // SECOND + 3 * numbers, "s").dt.replace_time_zone("UTC")
    return pl.DataFrame(
        {
            "card": numbers * 7_919 % 50_000, "_offset": numbers, "_known_time": known,
            "_event_time": known, "_tie": numbers * 2_654_435_761 % 2**40,
        }
    ).with_columns(pl.col("_known_time", "_event_time").cast(pl.Datetime("us", "UTC")))  # fmt: skip


def _free(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


if __name__ == "__main__":
    where, kind, *words = sys.argv[1:]
    if kind == "undisturbed":
        found = undisturbed(Path(where))
    elif kind == "readonly":
        found = readonly(Path(where))
    elif kind == "upkeep":
        found = upkeep(Path(where))
    else:
        found = full(Path(where), int(words[0]))
    sys.stdout.write(json.dumps(found))
