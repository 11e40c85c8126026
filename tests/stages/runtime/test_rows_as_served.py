"""A training row of an answered request is what its answer read, to the bit, whatever came between.

Homes are driven by drawn pushes, questions, folds, restarts and clocks; what was served is in the
prediction log, and which answer counts is told again in plain Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from threading import Event, Thread
from time import time_ns
from typing import Any

import numpy as np
import polars as pl
import pytest

import homeostat as hs
from homeostat.core.clock import from_micros, to_micros
from homeostat.runtime import answers

SECOND = 1_000_000
HOUR = 3_600 * SECOND
START = 1_700_000_000 * SECOND
DELAY = 2 * HOUR


class Ask(hs.Event):
    """Somebody asks about a card."""

    ask: int
    card: str
    at: hs.Timestamp
    much: float


class Tap(hs.Event):
    """A card is held to a reader; `seen_at` is when its reader told so."""

    tap: str
    ask: int
    card: str
    at: hs.Timestamp
    seen_at: hs.Timestamp
    price: float


ASKS = hs.EventSource("asks", Ask, event_id="ask", event_time="at", lateness="10d")
TAPS = hs.EventSource(
    "taps", Tap, event_id="tap", event_time="at", known_time="seen_at", lateness="10d"
)
CARD = hs.Entity("card", key="card")
BY_TAP = hs.FeatureView(
    "by_tap", CARD, TAPS, (hs.count().over("1h", "9d"), hs.mean("price").over("9d"), hs.count())
)
BY_ASK = hs.FeatureView(
    "by_ask",
    CARD,
    ASKS,
    (hs.count().over("9d"), hs.standard_deviation("much").over("9d"), hs.maximum("much")),
)
LATEST = hs.FeatureView("latest", CARD, ASKS, (hs.last("much").over("9d"),))
VIEWS = (BY_TAP, BY_ASK, LATEST)


@hs.on_demand("much", BY_ASK["count_9d"])
def per_ask(much: Any, asks: Any) -> Any:
    """Return how much it is per question before."""
    return much / asks


M = hs.Model(
    "m",
    features=(*(ref for view in VIEWS for ref in view.all()), "much", per_ask),
    label=hs.Label(
        "dear", predicts=ASKS, outcome=TAPS, join_on="ask", value=hs.col("price") > 1, delay="2h",
        when_absent=False,
    ),
    estimator=hs.Estimator("sklearn.linear_model:LogisticRegression"),
    split=hs.Split(validation="1d", test="1d"),
    requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=1),
)  # fmt: skip
MODELS = (M, replace(M, name="n"), replace(M, name="never"))
SYSTEM = hs.System(
    "asked", sources=(ASKS, TAPS), views=VIEWS, models=MODELS,
    deployments=tuple(
        hs.Deployment(
            model=model, rollout=(hs.Shadow("1d"),), degradation=hs.Degradation(score=0.5)
        )
        for model in MODELS[:2]
    ),
)  # fmt: skip
NAMES = M.feature_names()


@dataclass
class Wound:
    """A clock that somebody sets."""

    at: int = START

    def now(self) -> int:
        return self.at


ACTS = (
    *("tap", "tap", "tap", "tap", "history", "ask", "ask", "ask", "again", "body"),
    *("push", "push", "fold", "fold", "tidy", "open"),
)


class World:
    """Pushes, asks, folds, moves and closes, as drawn."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random, self.clock = folder, Random(seed), Wound()
        self.questions: list[dict[str, Any]] = []
        self.number = 0
        self.keep = None if seed % 3 else hs.LogKeep(keep_bytes=1)
        self.app = self.opened()

    def opened(self) -> hs.App:
        """Open the home."""
        return hs.open(SYSTEM, self.folder, self.clock, keep=self.keep)

    def step(self) -> None:
        """Do one thing."""
        random, app = self.random, self.app
        if random.random() < 0.4:
            self.clock.at += random.choice((1, 7, SECOND, -SECOND, HOUR, -9 * SECOND))
        match random.choice(ACTS):
            case "tap":
                taps = [json.dumps(self._tap()).encode() for _ in range(random.choice((1, 3)))]
                app.live.ingest("taps", taps)
            case "history":
                app.ingest("taps", [self._tap()], history=True)
            case "push":
                app.live.ingest("asks", [json.dumps(self._question()).encode()])
            case "ask":
                self._ask([self._question()])
            case "again" if self.questions:
                self._ask([random.choice(self.questions[-6:])])
            case "body":
                self._ask([self._question() for _ in range(3)])
            case "fold":
                app.live.fold()
            case "tidy":
                app.live.flush()
                app.live.flush_predictions()
                app.live.trim()
                for table in ("asks", "taps", "predictions_m"):
                    app.home.lake.compact(table)
            case "open":
                app.close()
                self.app = self.opened()

    def _ask(self, questions: list[dict[str, Any]]) -> None:
        """Ask one model or both; one body."""
        for model in self.random.choice((["m"], ["n"], ["m", "n"])):
            self.app.predict(model, questions)

    def _question(self) -> dict[str, Any]:
        self.number += 1
        at = from_micros(self.clock.at - self.random.choice((0, SECOND))).isoformat()
        found = {"ask": self.number, "card": self.random.choice("ab"), "at": at, "much": 1.5}
        self.questions.append({**found, "much": self.number / 7})
        return self.questions[-1]

    def _tap(self) -> dict[str, Any]:
        self.number += 1
        at = from_micros(self.clock.at - self.random.choice((0, 5 * SECOND, HOUR))).isoformat()
        seen = from_micros(self.clock.at).isoformat()
        asked = self.random.choice([q["ask"] for q in self.questions[-5:]] or [0])
        return {
            "tap": f"t{self.number}", "ask": asked, "card": self.random.choice("ab"), "at": at,
            "seen_at": seen, "price": self.number / 7,
        }  # fmt: skip


Rows = Mapping[str, tuple[int, bytes]]
"""By request: the instant, and the bits of the features."""


def served(app: hs.App, model: str) -> Rows:
    """Return what the first answer to each request read."""
    found: dict[str, tuple[int, bytes]] = {}
    for frame in app.home.predictions.frames(model):
        for row in frame.select(pl.col("at").dt.epoch("us"), "request_id", "features").rows():
            at, name, features = row
            found[name] = min(found.get(name, (1 << 62, b"")), (at, _bits(features)))
    return found


def trained_on(app: hs.App, model: str) -> Rows:
    """Return what the training rows have."""
    rows = app.training_set(model)
    assert set(rows.columns) == {"ask", "at", "label", *NAMES}
    return {
        str(row["ask"]): (_micros(row["at"]), _bits([row[name] for name in NAMES]))
        for row in rows.iter_rows(named=True)
    }


def expected(app: hs.App, model: str, *, own_alone: bool = False) -> Rows:
    """Return what the training rows must have: the rule in plain words.

    The first answer by the model itself, or else by another one, unless it came after the label of
    the request was final; where nobody answered, what was known before the request was.
    """
    others = () if own_alone else ({"m", "n"} - {model})
    logs = [served(app, name) for name in (model, *others)]
    if model == "never":
        logs = [{**logs[1], **{k: min(logs[1].get(k, v), v) for k, v in logs[2].items()}}]
    events = app.home.lake.read("asks")
    plain = _unanswered(app, events)
    found = {}
    for name, known in zip(events["ask"], events["_known_time"], strict=True):
        told = [log[str(name)] for log in logs if str(name) in log]
        counting = [one for one in told if one[0] <= _micros(known) + DELAY]
        found[str(name)] = counting[0] if counting else (_micros(known), plain[name])
    return found


def _unanswered(app: hs.App, events: pl.DataFrame) -> Mapping[int, bytes]:
    """Return the features of requests at the instants at which they became known."""
    spine = events.select("ask", "card", "much", pl.col("_known_time").alias("at"))
    matrix = app.model_features("m", spine).select(NAMES)
    return dict(zip(events["ask"], map(_bits, matrix.rows()), strict=True))


def _bits(values: Any) -> bytes:
    return np.array([np.nan if v is None else v for v in values], np.float64).tobytes()


def _micros(at: Any) -> int:
    return to_micros(at)


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "home", request.param)
    yield made
    made.app.close()


def run(world: World, steps: int) -> hs.App:
    """Let a world go on, until all labels are final."""
    for _ in range(steps):
        world.step()
    world.clock.at += 40 * HOUR
    world.app.live.drain()
    world.app.live.flush()
    return world.app


@pytest.mark.parametrize("world", range(6), indirect=True)
def test_rows_are_what_was_served(world: World) -> None:
    app = run(world, 70)
    for model in ("m", "n", "never"):
        assert trained_on(app, model) == expected(app, model)
    assert sum(map(len, (served(app, "m"), served(app, "n")))) > 20
    for model in ("m", "n"):
        assert app.audit(model).different == 0
        asked = app.model_features(model)
        at = dict(zip(map(str, asked["ask"]), map(_micros, asked["at"]), strict=True))
        assert at == {name: at for name, (at, _) in expected(app, model).items()}
        assert not [name for name in asked.columns if name.startswith("_")]
    before = {model: trained_on(app, model) for model in ("m", "n")}
    app.close()
    world.app = app = world.opened()
    app.live.flush_predictions()
    assert {model: trained_on(app, model) for model in ("m", "n")} == before


@pytest.mark.soak
@pytest.mark.parametrize("world", range(100, 200), indirect=True)
def test_rows_are_what_was_served_in_many_worlds(world: World) -> None:
    app = run(world, 200)
    for model in ("m", "n", "never"):
        assert trained_on(app, model) == expected(app, model)


def test_a_question_about_the_past_moves_no_row(tmp_path: Path) -> None:
    clock = Wound()
    question = {"ask": 1, "card": "a", "at": from_micros(START), "much": 2.0}
    with hs.open(SYSTEM, tmp_path, clock) as app:
        app.ingest("asks", [question])
        clock.at += DELAY + 1
        before = trained_on(app, "m")
        app.predict("m", question)
        clock.at += 9 * DELAY
        app.live.drain()
        assert trained_on(app, "m") == before == {"1": (START, before["1"][1])}


class Running:
    """The machine's clock, which can be put forward."""

    ahead = 0

    def now(self) -> int:
        return time_ns() // 1000 + self.ahead


def test_busy_keys_are_trained_on_as_they_were_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads push the cards that are asked about, and the fold runs behind."""
    clock, stop = Running(), Event()
    number = iter(range(1, 1 << 30))

    def question() -> dict[str, Any]:
        now = from_micros(clock.now() - SECOND).isoformat()
        n = next(number)
        return {"ask": n, "card": "ab"[n % 2], "at": now, "much": n / 7}

    with hs.open(SYSTEM, tmp_path, clock) as app:

        def push() -> None:
            while not stop.wait(0.001):
                app.live.ingest("asks", [json.dumps(question()).encode()])

        def fold() -> None:
            while not stop.wait(0.02):
                app.live.fold()

        threads = [Thread(target=act) for act in (push, fold)]
        for thread in threads:
            thread.start()
        for _ in range(60):
            app.predict("m", [question(), question()])
            stop.wait(0.004)
        stop.set()
        for thread in threads:
            thread.join()
        clock.ahead = 3 * DELAY
        app.live.drain()
        given = served(app, "m")
        assert len(given) == 120
        rows = trained_on(app, "m")
        assert {name: rows[name] for name in given} == given
        assert app.audit("m").different == 0
        monkeypatch.setattr(answers, "asked", lambda requests, *_: requests)
        app._trainer._last_rows = None
        late = trained_on(app, "m")
        assert any(late[name] != given[name] for name in given)  # else this test sees nothing
