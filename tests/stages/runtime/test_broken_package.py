"""A champion whose file is damaged: the fallback answers, an alert opens, the loop goes on."""

from __future__ import annotations

from pathlib import Path

from homeostat.core.clock import ManualClock
from homeostat.core.durations import parse_duration
from homeostat.runtime.app import App
from homeostat.testing.toy import TOY_START, toy_system
from homeostat.testing.toy_replay import replay_toy, toy_schedule

REQUEST = {"payment_id": "x1", "card": "card-3", "merchant": "kiosk", "amount": 20.0}


def test_fallback_alert_and_another_model(tmp_path: Path) -> None:
    replay_toy(tmp_path)
    clock = ManualClock(toy_schedule().end)
    with App(toy_system(), tmp_path, clock) as app:
        version = app.state("fraud").champion
    for graph in (tmp_path / "packages").glob("fraud@*/model.onnx"):
        graph.write_bytes(b"torn")
    with App(toy_system(), tmp_path, clock) as app:
        (answer,) = app.predict("fraud", {**REQUEST, "asked_at": str(TOY_START)})
        assert (answer.arm, answer.score, answer.degraded) == ("score", 0.1, ["model_broken"])
        opened = [d for d in app.step() if d.action == "alert" and "package" in str(d.evidence)]
        assert [d.evidence["version"] for d in opened] == [version]
        clock.advance_to(clock.now() + parse_duration("5d"))
        assert "train" in [d.action for d in app.step()]
