"""Whatever was done with a home before, an event that is pushed now is in a feature, or refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, SystemClock, from_micros, to_micros
from homeostat.core.errors import HomeostatError
from homeostat.runtime.app import App
from homeostat.runtime.fold_progress import STANDS_S, FoldProgress
from homeostat.runtime.one_present import LaterWaits
from homeostat.runtime.timeline import Timeline
from homeostat.testing.toy_home import Commands

STEPS = ("ingest", "replay", "part", "train", "restart", "push", "virtual")


def push(app: App, name: str) -> float:
    """Push a payment that is made now; return the count of its card afterwards."""
    now = from_micros(SystemClock().now()).isoformat()
    payment = {"payment_id": name, "card": "card-new", "merchant": "kiosk", "amount": 1.0}
    app.ingest("payments", [{**payment, "asked_at": now}])
    counts = app.read("cards", {"card": ["card-new"]}).to_dicts()[0]
    return next(float(value) for key, value in counts.items() if key.startswith("count"))


def live(commands: Commands) -> App:
    from homeostat.runtime.loading import load_system

    path = commands.folder / commands.system
    return hs.open(load_system(path), commands.folder / commands.home, live=True, step="1m")


@pytest.mark.parametrize("seed", range(6))
def test_an_event_pushed_now_counts_whatever_came_before(fresh: Commands, seed: int) -> None:
    draw, has_lived, ingested = random.Random(seed), False, False
    for number, step in enumerate(draw.choices(STEPS, k=5)):
        match step:
            case "ingest":
                fresh.ingest()
                ingested = True
            case "replay" | "part":
                words = ("--to", "2024-03-09") if step == "part" else ()
                found = fresh.replay(*words)
                assert (found.status == 0) == (ingested and not has_lived) or found.err, found
            case "train" if ingested:
                trained = fresh("train", "fraud")
                assert trained.status in (0, 3) or "one challenger at a time" in trained.err
            case "push" | "restart":
                with live(fresh) as app:
                    assert push(app, f"{seed}-{number}") >= 1, step
                    assert all(n == 0 for n in app.live.waiting().values())
                    assert app.live.service.ready().ready
                has_lived = True
            case "virtual" if ingested:
                virtual(fresh)
    with live(fresh) as app:
        assert push(app, "at the end") >= 1
        assert Timeline.load(app.home.folder) == app.timeline
        assert app.timeline.describe() == ""


def virtual(commands: Commands) -> None:
    """Open the home at its own present; an event of now counts, is a dead letter, or refused."""
    from homeostat.runtime.loading import load_system

    path = commands.folder / commands.system
    with hs.open(load_system(path), commands.folder / commands.home) as app:
        refused = ""
        try:
            app.ingest("payments", [{"payment_id": "old", "card": "card-old"}])
        except LaterWaits as later:
            refused = str(later)
        assert "homeostat run" in refused or app.live.waiting()["payments"] == 0


def test_steps_go_on_when_a_replayed_home_begins_to_live(fresh: Commands) -> None:
    fresh.ingest()
    fresh.replay("--to", "2024-03-09")
    with hs.open(_system(fresh), fresh.folder / fresh.home) as app:
        assert app.timeline.describe().startswith("the present of this home is 2024-03-09")
        assert sum(app.live.waiting().values()) > 100
        with pytest.raises(LaterWaits, match="homeostat replay"):
            push(app, "now")
    with live(fresh) as app:
        app.live.drain()
        assert sum(app.live.waiting().values()) == 0
        last = app.live.loop.state("fraud")
        made = app.step()
        assert last.champion == app.live.loop.state("fraud").champion
        assert all(abs(d.at - SystemClock().now()) < 60_000_000 for d in made)
    assert "lived in real time" in fresh.replay().err


def test_a_replay_ends_before_the_present(fresh: Commands) -> None:
    fresh.ingest()
    refused = fresh.replay("--to", "2124-03-09")
    assert refused.status == 1
    assert "an end before the present" in refused.err


def test_a_fold_that_stands_is_said_and_not_ready(fresh: Commands) -> None:
    fresh.ingest()
    seconds = [0.0]
    with hs.open(_system(fresh), fresh.folder / fresh.home) as app:
        progress = FoldProgress(
            app.home, app.clock, lambda: "OSError: no", seconds=lambda: seconds[0]
        )
        assert progress.stands() == ""
        app.live.ingest("payments", [b"{}"])
        for at in (2.0, STANDS_S - 1):
            seconds[0] = at
            assert progress.stands() == ""
        seconds[0] = STANDS_S + 3
        assert "1 records of 'payments' wait" in progress.stands()
        assert progress.stands().endswith("OSError: no")
        app.live.fold()
        seconds[0] += 2
        assert progress.stands() == ""


def test_what_is_known_later_than_the_present_is_named(tmp_path: Path, fresh: Commands) -> None:
    clock, seconds = ManualClock(to_micros(from_micros(10**15))), [0.0]
    with hs.open(_system(fresh), tmp_path / "home", clock) as app:
        progress = FoldProgress(app.home, clock, lambda: None, seconds=lambda: seconds[0])
        app.home.log.append("payments", [clock.now() + 10**9], [b"{}"])
        assert progress.stands() == ""
        app.live.fold()
        seconds[0] = STANDS_S + 2
        assert "becomes known at 2001-09-09 02:03:20 UTC" in progress.stands()


def test_the_step_of_the_loop_is_checked(tmp_path: Path, fresh: Commands) -> None:
    for step in ("0s", "10ms", "soon"):
        with pytest.raises(HomeostatError, match="at least a second"):
            hs.open(_system(fresh), tmp_path / "home", step=step)


def _system(commands: Commands) -> hs.System:
    from homeostat.runtime.loading import load_system

    return load_system(commands.folder / commands.system)
