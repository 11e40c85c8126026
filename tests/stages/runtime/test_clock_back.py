"""A machine's clock that goes back under load: nothing waits for it, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import homeostat as hs
from homeostat.core.clock import from_micros

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_700_000_000 * SECOND


class Tap(hs.Event):
    """A card is held to a reader."""

    tap: str
    card: str
    at: hs.Timestamp


TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at", lateness="2h")
CARDS = hs.FeatureView("cards", hs.Entity("card", key="card"), TAPS, (hs.count().over("1h"),))
SYSTEM = hs.System("taps", sources=(TAPS,), views=(CARDS,))


class Wound:
    """A clock that somebody sets."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> int:
        return self.at


def push(app: hs.App, clock: Wound, number: int) -> None:
    said = {"tap": str(number), "card": "a", "at": from_micros(clock.at).isoformat()}
    app.live.ingest("taps", [json.dumps(said).encode()])
    app.live.tick()


def count(app: hs.App) -> float:
    found: float = app.read("cards", {"card": ["a"]})["count_1h"][0]
    return found


def test_events_go_on_while_time_stands(tmp_path: Path) -> None:
    clock = Wound()
    with hs.open(SYSTEM, tmp_path, clock) as app:
        push(app, clock, 0)
        clock.at += HOUR + SECOND
        push(app, clock, 1)
        assert count(app) == 1  # the first is older than an hour
        clock.at -= HOUR // 2
        for number in range(2, 30):
            push(app, clock, number)
        assert count(app) == 29
        assert app.sql("SELECT COUNT(*) FROM taps").item() == 30
        assert "it went back by 1,800.0 s" in app.live.metrics.last_faults["clock"]
    with hs.open(SYSTEM, tmp_path, clock) as app:
        assert count(app) == 29
        clock.at = START + HOUR + 2 * SECOND
        push(app, clock, 30)
        assert count(app) == 30
        assert "clock" not in app.live.metrics.last_faults
        known = app.sql("SELECT epoch_us(_known_time) k FROM taps ORDER BY _offset")["k"]
        assert known.is_sorted()
