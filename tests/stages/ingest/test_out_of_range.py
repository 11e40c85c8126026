"""A number that no view could sum exactly is quarantined, and blocks nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from homeostat.core.clock import ManualClock, to_micros
from homeostat.runtime.app import App
from homeostat.testing.toy import TOY_START, toy_system


@pytest.mark.parametrize("amount", [2.0**52, -(2.0**60), 1e300])
def test_a_huge_amount_is_quarantined_and_the_next_event_is_folded(
    tmp_path: Path, amount: float
) -> None:
    payment = {"payment_id": "a", "card": "c", "merchant": "kiosk", "asked_at": str(TOY_START)}
    payloads = [
        json.dumps({**payment, "amount": amount}).encode(),
        json.dumps({**payment, "payment_id": "b", "amount": 5.0}).encode(),
    ]
    clock = ManualClock(to_micros(TOY_START))
    with App(toy_system(), tmp_path, clock) as app:
        app.live.ingest("payments", payloads)
        counts = app.live.drain()["payments"]
        clock.advance_to(clock.now() + 1)
        live = app.read("cards", {"card": ["c"]})
    assert (counts.accepted, counts.rejected) == (1, 1)
    assert live["amount_sum_1d"].to_list() == [5.0]


def test_the_reason_names_the_field_and_the_bound(tmp_path: Path) -> None:
    payment = {"payment_id": "a", "card": "c", "merchant": "kiosk", "asked_at": str(TOY_START)}
    with App(toy_system(), tmp_path, ManualClock(to_micros(TOY_START))) as app:
        app.live.ingest("payments", [json.dumps({**payment, "amount": 1e17}).encode()])
        app.live.drain()
        (letter,) = app.home.letters.list()
    assert letter.letter.reason == "out_of_range:amount"
    assert "4503599627370496" in letter.letter.detail
