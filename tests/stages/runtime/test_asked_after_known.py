"""Live reads see what was known strictly before, whatever the machine's clock does."""

from __future__ import annotations

import random
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import polars as pl
import pytest

import homeostat as hs
from homeostat.core.clock import SteadyClock, from_micros
from homeostat.features.logged import differ

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


class Ask(hs.Event):
    """Somebody asks about a card."""

    ask: str
    card: str
    at: hs.Timestamp
    much: float


class Tap(hs.Event):
    """A card is held to a reader."""

    tap: str
    ask: str
    card: str
    at: hs.Timestamp
    price: float


ASKS = hs.EventSource("asks", Ask, event_id="ask", event_time="at", lateness="10d")
TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at", lateness="10d")
CARD = hs.Entity("card", key="card")
BY_TAP = hs.FeatureView(
    "by_tap", CARD, TAPS, (hs.count().over("1h", "9d"), hs.sum_("price").over("9d"), hs.count())
)
BY_ASK = hs.FeatureView("by_ask", CARD, ASKS, (hs.count().over("9d"), hs.last("much").over("9d")))
MODEL = hs.Model(
    "m",
    features=(*BY_TAP.all(), *BY_ASK.all(), "much"),
    label=hs.Label(
        "dear", predicts=ASKS, outcome=TAPS, join_on="ask", value=hs.col("price") > 1, delay="1h",
        when_absent=False,
    ),
    estimator=hs.Estimator("sklearn.linear_model:LogisticRegression"),
    split=hs.Split(validation="1d", test="1d"),
    requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=1),
)  # fmt: skip
SYSTEM = hs.System(
    "asked", sources=(ASKS, TAPS), views=(BY_TAP, BY_ASK), models=(MODEL,),
    deployments=(
        hs.Deployment(
            model=MODEL, rollout=(hs.Shadow("1d"),), degradation=hs.Degradation(score=0.5)
        ),
    ),
)  # fmt: skip


class Wound:
    """A clock that somebody sets."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> int:
        return self.at


class World:
    """Pushes and asks on a clock that stands, jumps ahead and goes back."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random, self.clock = folder, random.Random(seed), Wound()
        self.number = 0

    def step(self, app: hs.App) -> None:
        """Move the clock or not, and then push or ask, of one of two cards."""
        draw = self.random.random
        if draw() < 0.3:
            self.clock.at += self.random.choice((1, SECOND, -SECOND, 3_600 * SECOND, -9 * SECOND))
        self.number += 1
        card = self.random.choice("ab")
        at = from_micros(self.clock.at)
        if draw() < 0.6:
            tap = {"tap": f"t{self.number}", "ask": f"q{self.number}", "card": card}
            app.ingest("taps", [{**tap, "at": at, "price": self.number / 7}])
        elif draw() < 0.3:
            app.ingest("asks", [self.question(f"p{self.number}", card)])
        else:
            app.live.drain()
            app.predict("m", self.question(f"q{self.number}", card))

    def question(self, name: str, card: str) -> dict[str, Any]:
        return {"ask": name, "card": card, "at": from_micros(START), "much": float(self.number)}


def logged(app: hs.App) -> pl.DataFrame:
    app.live.flush()
    return pl.concat(app.home.predictions.frames("m"))


def asked_again(app: hs.App, rows: pl.DataFrame) -> np.ndarray[Any, Any]:
    """Return what training computes at the instants of predictions."""
    requests = rows["request"].str.json_decode(
        pl.Struct({"ask": pl.String(), "card": pl.String(), "much": pl.Float64()})
    )
    spine = requests.struct.unnest().with_columns(rows["at"].cast(pl.Datetime("us", "UTC")))
    return app.model_features("m", spine).select(MODEL.feature_names()).to_numpy()


@pytest.mark.parametrize("seed", range(2))
def test_what_is_served_is_what_training_sees(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, seed)
    for _ in range(3):  # the home is closed and opened again, on a clock that may be behind
        with hs.open(SYSTEM, tmp_path, world.clock) as app:
            for _ in range(20):
                world.step(app)
            app.live.drain()
        world.clock.at -= world.random.choice((0, SECOND, 7_200 * SECOND))
    with hs.open(SYSTEM, tmp_path, world.clock) as app:
        world.clock.at += 86_400 * SECOND
        app.live.drain()
        rows = logged(app)
        served = np.array(rows["features"].to_list())
        assert len(rows) > 8
        assert not differ(served, asked_again(app, rows)).any()
        found = app.audit("m")
        assert (found.different, found.lagging) == (0, 0)


def test_a_read_is_after_all_that_it_holds(tmp_path: Path) -> None:
    world = World(tmp_path, 0)
    with hs.open(SYSTEM, tmp_path, world.clock) as app:
        for n in range(5):
            tap = {"tap": f"t{n}", "ask": "q", "card": "a", "at": from_micros(START), "price": 1.0}
            app.ingest("taps", [tap])
            before = app.clock.now()
            assert app.read("by_tap", {"card": ["a"]})["count"][0] == n + 1
            assert app.clock.now() == before + 1


def test_an_event_that_a_snapshot_holds_too_early_is_reported(tmp_path: Path) -> None:
    world = World(tmp_path, 0)
    tap = {"tap": "t", "ask": "q", "card": "a", "at": from_micros(START), "price": 3.0}
    with hs.open(SYSTEM, tmp_path, world.clock) as app:
        app.clock.after = lambda known: app.clock.now()  # type: ignore[method-assign]
        app.ingest("taps", [tap])
        app.predict("m", world.question("q", "a"))
        app.live.drain()
        found = app.audit("m")
    assert found.causes == {"not_yet_known": 4}
    assert (found.different, found.affected, found.lagging) == (4, 1, 0)
    count = next(one for one in found.differing if one.feature == "by_tap__count_9d")
    assert (count.logged, count.recomputed) == (1.0, 0.0)
    assert "offset 0 of 'taps'" in count.evidence


def test_a_clock_is_one_order_for_many_threads() -> None:
    clock, shown = SteadyClock(Wound()), list[tuple[int, int]]()

    def ask() -> None:
        for _ in range(2_000):
            known = clock.now()
            shown.append((known, clock.after(known)))

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(known < asked for known, asked in shown)
    assert clock.now() == max(asked for _, asked in shown)


def test_what_is_pushed_first_and_asked_after_does_not_count_itself(tmp_path: Path) -> None:
    world = World(tmp_path, 0)
    with hs.open(SYSTEM, tmp_path, world.clock) as app:
        own, other = world.question("own", "a"), world.question("other", "a")
        app.ingest("asks", [own])
        app.predict("m", own)
        app.predict("m", other)
        app.live.drain()
        rows = logged(app)
        count = MODEL.feature_names().index("by_ask__count_9d")
        told = {r: f[count] for r, f in zip(rows["request_id"], rows["features"], strict=True)}
        assert told == {"own": 0.0, "other": 1.0}
        assert not differ(np.array(rows["features"].to_list()), asked_again(app, rows)).any()
        assert app.audit("m").different == 0
