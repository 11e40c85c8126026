"""Steps of a live home: what is predicted in a step reaches the lake when the step has ended."""

from __future__ import annotations

from pathlib import Path

from homeostat.core.clock import ManualClock
from homeostat.core.durations import parse_duration
from homeostat.runtime.app import App
from homeostat.runtime.observe import Now
from homeostat.testing.toy import TOY_START, toy_system
from homeostat.testing.toy_replay import replay_toy, toy_schedule

SECOND = 1_000_000
REQUEST = {"card": "card-3", "merchant": "kiosk", "amount": 20.0, "asked_at": str(TOY_START)}


def in_the_lake(app: App) -> set[str]:
    return set(app.sql("select request_id from predictions_fraud")["request_id"].to_list())


def test_predictions_before_and_after_a_step_by_hand_reach_the_lake(tmp_path: Path) -> None:
    replay_toy(tmp_path)
    clock = ManualClock(toy_schedule().end)
    with App(toy_system(), tmp_path, clock) as app:
        app.predict("fraud", {**REQUEST, "payment_id": "before"})
        app.step()
        app.predict("fraud", {**REQUEST, "payment_id": "after"})
        clock.advance_to(clock.now() + parse_duration("12h"))
        app.step()
        clock.advance_to(clock.now() + parse_duration("12h"))
        app.step()
        assert {"before", "after"} <= in_the_lake(app)
        audited = app.audit("fraud")
    assert audited.different == 0


def test_requests_become_events_of_their_source(tmp_path: Path) -> None:
    replay_toy(tmp_path)
    clock = ManualClock(toy_schedule().end)
    with App(toy_system(), tmp_path, clock) as app:
        app.predict("fraud", {**REQUEST, "payment_id": "asked", "asked_at": None})
        clock.advance_to(clock.now() + parse_duration("1h"))
        app.step()
        found = app.sql("select payment_id from payments where payment_id = 'asked'")
    assert found.height == 1


def test_the_loop_compacts_closed_days_by_itself(tmp_path: Path) -> None:
    replay_toy(tmp_path)
    clock = ManualClock(toy_schedule().end)
    with App(toy_system(), tmp_path, clock) as app:
        before, lake = app.sql("select * from payments order by payment_id"), app.home.lake
        assert lake.status("payments").sorted_share == 0
        clock.advance_to(clock.now() + parse_duration("12h"))
        app.live.tick()
        found = lake.status("payments")
        assert found.sorted_share is not None
        assert found.sorted_share > 0.9
        assert app.sql("select * from payments order by payment_id").equals(before)


def test_what_is_answered_while_a_step_runs_is_audited_by_the_next(tmp_path: Path) -> None:
    replay_toy(tmp_path)
    clock = ManualClock(toy_schedule().end)
    with App(toy_system(), tmp_path, clock) as app:

        def skew(at: int) -> str:
            state, observer = app.state("fraud"), app.live.loop.observer
            now = Now(1_000, at, {}, toy_schedule().end)
            found = observer.findings(app.system.model("fraud"), state, now)
            return " ".join(f"{one.status} {one.reason}" for one in found if one.kind == "skew")

        for n in range(30):
            clock.advance_to(clock.now() + SECOND)
            if n == 10:
                app.live.flush()  # the step that runs has brought into the lake what there was
                begun = clock.now()
            app.predict("fraud", {**REQUEST, "payment_id": f"p{n}"})
            app.live.fold()
        assert "in 0 of 11 predictions" in skew(begun)
        app.live.flush()
        assert "in 0 of 30 predictions" in skew(clock.now() + 1)
