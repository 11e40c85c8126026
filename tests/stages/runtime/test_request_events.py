"""A request is an event too: pushed before, asked again, of two models, after a restart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec import UNSET

import homeostat as hs
from homeostat.core.clock import ManualClock, from_micros
from homeostat.serve.answer import Answer
from homeostat.serve.repeats import RequestConflict
from homeostat.serve.requests import RequestInvalid
from homeostat.testing.payments import NOON, payments, tap

CLOCKS = ["2013-07-01T11:50:00Z", "2013-07-01T11:59:00Z"]


def two_models() -> hs.System:
    """Return a system in which two models answer the same requests, both by their fallback."""
    one = payments()
    second = replace(one.models[0], name="abuse")
    return hs.System(
        "two", sources=one.sources, views=one.views, models=(*one.models, second),
        deployments=(*one.deployments, replace(one.deployments[0], model=second)),
    )  # fmt: skip


def letters(app: Any) -> list[tuple[str, str]]:
    """Return reason and detail of the dead letters of a home."""
    return [(found.letter.reason, found.letter.detail) for found in app.home.letters.list()]


@pytest.mark.parametrize("seed", range(6))
def test_pushes_questions_and_restarts_agree_on_what_an_id_means(tmp_path: Path, seed: int) -> None:
    random, clock, system = Random(seed), ManualClock(NOON), two_models()
    events: dict[str, tuple[float, str]] = {}
    answers: dict[tuple[str, str], tuple[float, str, Answer]] = {}
    conflicts, name = 0, "a"
    app = hs.open(system, tmp_path / "home", clock)
    try:
        for _ in range(40):
            clock.advance_to(clock.now() + random.choice([1, 1_000_000]))
            if random.random() < 0.5:  # else the same id follows at once
                name = random.choice("abcdefghijklmnop")
            amount = random.choice([1.0, 2.0])
            at = random.choice(CLOCKS)
            match random.choice(["push", "push", "ask", "ask", "ask", "fold", "restart"]):
                case "push":
                    event = tap(tap_id=name, amount=amount, tapped_at=at)
                    app.live.ingest("taps", [json.dumps(event).encode()])
                    first = events.setdefault(name, (amount, at))
                    conflicts += first != (amount, at)
                case "fold":
                    app.live.fold()
                case "restart":
                    app.close()
                    app = hs.open(system, tmp_path / "home", clock)
                case _:
                    model = random.choice(["fraud", "abuse"])
                    given = at if random.random() < 0.5 else None
                    now = from_micros(clock.now()).isoformat().replace("+00:00", "Z")
                    known = answers.get((model, name))
                    before = events.get(name) if known is None else known[:2]
                    other = before is not None and (
                        before[0] != amount or given not in (None, before[1])
                    )
                    request = tap(tap_id=name, amount=amount, tapped_at=given)
                    if other:
                        with pytest.raises(RequestConflict, match=repr(name)):
                            app.predict(model, request)
                        continue
                    (answer,) = app.predict(model, request)
                    said = (amount, given or now) if before is None else before
                    kept = answers.setdefault((model, name), (*said, answer))
                    assert answer == kept[2]
                    events.setdefault(name, said)
                    app.live.fold()
        app.live.drain()
        assert letters(app) == [("conflict", "the id came before with other content")] * conflicts
        rows = app.sql("select tap_id, amount, tapped_at from taps").rows()
        assert {n: (a, t.isoformat().replace("+00:00", "Z")) for n, a, t in rows} == events
        assert len(rows) == len(events)
        for model in ("fraud", "abuse"):
            logged = [i for f in app.home.predictions.frames(model) for i in f["request_id"]]
            assert sorted(logged) == sorted(n for m, n in answers if m == model)
    finally:
        app.close()


def test_what_no_event_may_say_is_no_dead_letter(tmp_path: Path) -> None:
    with hs.open(payments(), tmp_path / "home", ManualClock(NOON)) as app:
        with pytest.raises(RequestInvalid, match="tapped_at: 1h ahead; allowed: at most 5s ahead"):
            app.predict("fraud", tap(tapped_at="2013-07-01T13:00:00Z"))
        (late,) = app.predict("fraud", tap(tapped_at="2010-07-01T13:00:00Z"))
        assert str(late.note).startswith("too late")
        app.live.drain()
        assert letters(app) == []
        assert app.sql("select count(*) from taps").item() == 1


def test_an_answer_that_is_found_again_can_be_looked_at_again(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with hs.open(payments(), tmp_path / "home", clock) as app:
        (first,) = app.predict("fraud", tap())
    with hs.open(payments(), tmp_path / "home", clock) as app:
        assert app.live.service.prediction(first.prediction_id) is None
        assert app.predict("fraud", tap()) == [first]
        found = app.live.service.prediction(first.prediction_id)
        assert found is not None
        assert (found.answer, found.request["card"]) == (first, "***")
        assert app.live.metrics.latency("fraud", "total").count == 0


class Visit(hs.Event):
    """Somebody looks at a page; the model needs less than the whole event."""

    visit: str
    page: str
    device: str
    at: hs.Timestamp
    country: str = "none"


class Sale(hs.Event):
    """They bought."""

    visit: str
    at: hs.Timestamp
    bought: bool


def test_a_request_that_is_not_the_whole_event_says_so_and_the_event_may_follow(
    tmp_path: Path,
) -> None:
    visits = hs.EventSource("visits", Visit, event_id="visit", event_time="at")
    sales = hs.EventSource("sales", Sale, event_id="visit", event_time="at")
    label = hs.Label(
        "sale", predicts=visits, outcome=sales, join_on="visit", value=hs.col("bought"),
        delay="1d", when_absent=False,
    )  # fmt: skip
    model = hs.Model(
        "buys", features=("page",), label=label,
        estimator=hs.Estimator("lightgbm:LGBMClassifier"),
        split=hs.Split(validation="1d", test="1d"),
        requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=1),
    )  # fmt: skip
    deployment = hs.Deployment(
        model=model, rollout=(hs.Shadow("1d"),), degradation=hs.Degradation(score=0.5)
    )
    system = hs.System("shop", sources=(visits, sales), models=(model,), deployments=(deployment,))
    with hs.open(system, tmp_path / "home", ManualClock(NOON)) as app:
        part = {"visit": "v1", "page": "home"}
        (first,) = app.predict("buys", part)
        assert first.note == "no event of 'visits': device is missing"
        assert app.predict("buys", part) == [first]
        (whole,) = app.predict("buys", {**part, "visit": "v2", "device": "phone"})
        assert whole.note is UNSET
        app.live.drain()
        event = {**part, "device": "phone", "at": "2013-07-01T11:59:59Z"}
        app.live.ingest("visits", [json.dumps(event).encode()])
        app.live.drain()
        assert app.predict("buys", part) == [first]
        assert letters(app) == []
        assert app.sql("select visit, country from visits order by visit").rows() == [
            ("v1", "none"), ("v2", "none"),
        ]  # fmt: skip
