"""Whatever is sent, the worker goes on: a record is in the lake, a duplicate or a dead letter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, from_micros
from homeostat.testing.hostile_payloads import hostile_payloads

START = 1_700_000_000_000_000
REASON = re.compile(
    r"malformed|conflict|future|(missing_field|misspelled_field|invalid_field|not_finite):\w+"
)


class Tap(hs.Event):
    """A card is held to a reader."""

    tap: str
    card: str
    amount: float
    items: int | None
    at: hs.Timestamp
    note: str = "none"


TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at")
CARDS = hs.FeatureView(
    "cards", hs.Entity("card", key="card"), TAPS, (hs.count().over("7d"), hs.sum_("items"))
)
SYSTEM = hs.System("taps", sources=(TAPS,), views=(CARDS,))


def event(number: int) -> dict[str, Any]:
    """Return a good event."""
    return {"tap": f"good-{number}", "card": f"card-{number % 7}", "amount": 1.5, "items": number,
            "at": from_micros(START).isoformat()}  # fmt: skip


def check(folder: Path, rounds: int, size: int, large: list[bytes], largest: int) -> None:
    """Push good events between hostile payloads, and account for every one of them."""
    clock, sent, good = ManualClock(START), 0, 0
    refused: dict[str, int] = {}
    with hs.open(SYSTEM, folder, clock) as app:
        for number in range(rounds):
            hostile = hostile_payloads(event(number), size, seed=number, largest=largest)
            between = [json.dumps(event(10_000_000 + number * size + i)).encode() for i in range(9)]
            clock.advance_to(START + (number + 1) * 1_000_000)
            batch = [*hostile[: size // 2], *between, *hostile[size // 2 :], *large]
            app.live.ingest("taps", batch)
            for counts in [app.live.tick().counts["taps"] for _ in range(len(large) + 1)]:
                sent -= counts.total
            sent, good = sent + len(batch), good + len(between)
        assert sent == 0
        app.live.flush()
        found = app.sql("SELECT COUNT(*), COUNT(DISTINCT _offset), COUNT(DISTINCT tap) FROM taps")
        rows, offsets, ids = found.row(0)
        letters = app.home.letters
        for (_, reason), number in letters.counts().items():
            assert REASON.fullmatch(reason), reason
            refused[reason] = refused.get(reason, 0) + number
        assert rows == offsets == ids
        kept = app.sql("SELECT COUNT(*) FROM taps WHERE items >= 10_000_000").item()
        assert kept == good
        assert len(refused) > 10
        assert sum(refused.values()) > rounds * size // 2
        held = app.read("cards", {"card": [f"card-{number}" for number in range(7)]})
        assert held["count_7d"].sum() >= good
    offsets_of_letters = {one.letter.offset for one in _letters(folder)}
    assert len(offsets_of_letters) == sum(refused.values())


def _letters(folder: Path) -> list[Any]:
    from homeostat.ingest.deadletters import DeadLetters

    letters = DeadLetters(folder / "meta.db")
    try:
        return letters.list(limit=-1)
    finally:
        letters.close()


def test_hostile_payloads_are_quarantined_with_their_reason(tmp_path: Path) -> None:
    check(tmp_path, rounds=4, size=1_500, large=[], largest=100_000)


@pytest.mark.soak
def test_a_million_hostile_payloads_are_quarantined(tmp_path: Path) -> None:
    line = json.dumps(event(1))[:-1] + ', "x": "'
    check(tmp_path / "million", rounds=50, size=20_000, large=[], largest=1_000_000)
    large = [line.encode() + b"y" * (50 << 20) + b'"}', b"[" * (50 << 20), b"9" * (50 << 20)]
    check(tmp_path / "large", rounds=2, size=2_000, large=large, largest=1_000_000)
