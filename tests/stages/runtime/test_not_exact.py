"""A number without an exact sum is accepted, and missing in the sums of its entity alone."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path

import pytest

from homeostat.core.clock import ManualClock, to_micros
from homeostat.runtime.app import App
from homeostat.testing.toy import TOY_START, toy_system


@pytest.mark.parametrize("amount", [2.0**52, -(2.0**60), 1e300])
def test_a_huge_amount_is_accepted_and_only_its_own_sum_is_missing(
    tmp_path: Path, amount: float
) -> None:
    payment = {"payment_id": "a", "card": "c", "merchant": "kiosk", "asked_at": str(TOY_START)}
    payloads = [
        json.dumps({**payment, "amount": amount}).encode(),
        json.dumps({**payment, "payment_id": "b", "card": "d", "amount": 5.0}).encode(),
    ]
    clock = ManualClock(to_micros(TOY_START))
    with App(toy_system(), tmp_path, clock) as app:
        app.live.ingest("payments", payloads)
        counts = app.live.drain()["payments"]
        clock.advance_to(clock.now() + 1)
        live = app.read("cards", {"card": ["c", "d"]})
        assert not app.home.letters.list()
    assert (counts.accepted, counts.rejected) == (2, 0)
    huge, usual = live["amount_sum_1d"].to_list()
    assert huge is None or isnan(huge)
    assert usual == 5.0
