"""A home whose work is shared among threads is to the bit that of one thread."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from threading import enumerate as threads

import numpy as np
import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, from_micros
from homeostat.core.row_threads import RowThreads
from homeostat.ingest.intake import Intake
from homeostat.runtime import live, worker
from homeostat.testing.digest import digest
from homeostat.testing.hostile_payloads import hostile_payloads

START = 1_700_000_000_000_000
CARDS = [f"card-{number}" for number in range(7)]


class Tap(hs.Event):
    """A card is held to a reader."""

    tap: str
    card: str
    amount: float
    items: int | None
    at: hs.Timestamp
    note: str = "none"


TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at", lateness="1m")
CARD = hs.Entity("card", key="card")
VIEWS = (
    hs.FeatureView(
        "cards", CARD, TAPS, (hs.count().over("1h", "7d"), hs.mean("amount").over("1h"))
    ),
    hs.FeatureView("sums", CARD, TAPS, (hs.sum_("items"), hs.last("items"))),
    hs.FeatureView("notes", hs.Entity("note", key="note"), TAPS, (hs.maximum("amount"),)),
)
SYSTEM = hs.System("taps", sources=(TAPS,), views=VIEWS)


def batch(number: int) -> list[bytes]:
    """Return hostile payloads, events, late ones, duplicates and conflicts."""
    draw, found = np.random.default_rng(number), list[bytes]()
    for place in range(60):
        again = draw.random() < 0.1
        at = START + number * 1_000_000 - 70_000_000 * (place % 20 == 0)
        said = {
            "tap": f"{max(number - again, 0)}-{place}",
            "card": CARDS[place % 7],
            "amount": place / 4 + (draw.random() < 0.05),
            "items": place if place % 3 else None,
            "at": from_micros(at).isoformat(),
        }  # fmt: skip
        if place % 5 == 0:
            said["note"] = "ü" * (place % 30)
        found.append(json.dumps(said).encode())
        if place % 3 == 0:
            found += hostile_payloads(said, 1, seed=60 * number + place, largest=1_000)
    return found


def lived(folder: Path) -> dict[str, str]:
    """Return what a home holds after some pushes and one long backlog."""
    clock = ManualClock(START)
    with hs.open(SYSTEM, folder, clock) as app:
        for number in range(24):
            clock.advance_to(START + number * 1_000_000)
            app.live.ingest("taps", batch(number))
            if number < 16:
                app.live.fold()
        app.live.drain()
        app.live.flush()
        found = digest(app.home)
        for view in ("cards", "sums"):
            found[view] = repr(app.read(view, {"card": CARDS}).rows())
        assert app.home.lake.read("taps")["_too_late"].sum() > 10
        assert {reason for _, reason in app.home.letters.counts()} >= {"malformed", "conflict"}
        return found


def working() -> list[str]:
    """Return the threads that read payloads or commit to the lake; others are of other tests."""
    mine = ("homeostat-lake", "homeostat-rows")
    return [thread.name for thread in threads() if thread.name.startswith(mine)]


def test_threads_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "Intake", partial(Intake, threads=RowThreads(1)))
    one = lived(tmp_path / "one")
    commits = hs.open(SYSTEM, tmp_path / "one", ManualClock(START + 10**9))
    assert commits.home.lake.version("taps") == 0
    commits.close()
    monkeypatch.setattr(worker, "Intake", partial(Intake, threads=RowThreads(3, 2)))
    monkeypatch.setattr(live, "FLUSH_EVENTS", 70)
    assert lived(tmp_path / "several") == one
    several = hs.open(SYSTEM, tmp_path / "several", ManualClock(START + 10**9))
    assert several.home.lake.version("taps") > 5
    several.close()
    assert not working()


def test_a_home_closes_after_the_commit_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "FLUSH_EVENTS", 1)
    clock = ManualClock(START + 10_000_000)
    with hs.open(SYSTEM, tmp_path, clock) as app:
        for number in range(3):
            app.live.ingest("taps", batch(number))
            accepted = app.live.fold().counts["taps"].accepted
        assert accepted
    assert not working()
    with hs.open(SYSTEM, tmp_path, clock) as app:
        found = app.home.lake.read("taps")
        assert found["tap"].n_unique() == found.height > 100
        assert app.home.lake.application_version("taps", "fold/taps") == (
            app.home.log.end("taps").next_offset - 1
        )
