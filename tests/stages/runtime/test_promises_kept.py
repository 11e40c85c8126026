"""A model in service that is slower, or further behind, than it is required to be has an alert."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.runtime.app import App
from homeostat.testing.toy import TOY_START, toy_system
from homeostat.testing.toy_replay import replay_toy, toy_schedule

MINUTE = 60_000_000


def request(number: int) -> dict[str, Any]:
    return {
        "card": "card-3", "merchant": "kiosk", "amount": 20.0, "payment_id": f"n{number}",
        "asked_at": None,
    }  # fmt: skip


def alerts(app: App) -> dict[str, str]:
    """The last alert or clear by key."""
    found = [d for d in app.step() if d.action in ("alert", "clear")]
    return {str(d.evidence["key"]): d.action for d in found}


def test_slow_answers_events_that_wait_and_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = partial(hs.Requirements, latency_p99="1us", freshness="10m", explain=False)
    monkeypatch.setattr(hs, "Requirements", needs)
    system = toy_system()
    replay_toy(tmp_path)
    clock = ManualClock(toy_schedule().end)
    with App(system, tmp_path, clock) as app:
        first = alerts(app)
        assert not {"latency/fraud", "behind/fraud"} & first.keys()
        answers = app.predict("fraud", [request(i) for i in range(120)])
        assert not any(answer.degraded for answer in answers)
        app.live.fold()
        assert alerts(app)["latency/fraud"] == "alert"
        (told,) = app.predict("fraud", request(120), reasons=True)
        assert (told.reasons, told.degraded) == ([], ["reasons_not_declared"])
        app.live.drain()
        late = b'{"payment_id":"w","card":"c","merchant":"m","amount":1,"asked_at":"%s"}'
        payload = late % TOY_START.isoformat().encode()
        app.home.log.append("payments", [to_micros(TOY_START)], [payload])
        clock.advance_to(clock.now() + 20 * MINUTE)
        made = app.live.step_now()  # what is found while the fold stands still
        assert {str(d.evidence.get("key")): d.action for d in made}["behind/fraud"] == "alert"
        assert alerts(app)["behind/fraud"] == "clear"
