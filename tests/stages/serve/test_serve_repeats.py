"""The same request again is no new question: one answer per id and model, whatever happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from threading import Barrier
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import ManualClock, from_micros
from homeostat.serve.answer import Recent
from homeostat.serve.http import Application
from homeostat.serve.predictor import Predictor
from homeostat.serve.repeats import RequestConflict
from homeostat.serve.requests import RequestInvalid, RequestReader
from homeostat.serve.routing import Route
from homeostat.testing.drills import FixedScores, HangingScores
from homeostat.testing.payments import NOON, Bench, arm, payments, tap

MakesBench = Callable[..., Bench]
CLOCK = "2013-07-01T11:59:00Z"


def post(app: Application, body: Any, query: str = "") -> tuple[int, Any]:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/predict/fraud" + query, content=json.dumps(body))

    answer = asyncio.run(go())
    return answer.status_code, answer.json()


def fields(refused: Any) -> list[str]:
    return [problem["field"] for problem in refused["error"]["problems"]]


def counted() -> FixedScores:
    """Return a model whose every score is another one."""
    scores = iter(np.linspace(0.01, 0.99, 2000).tolist())
    return FixedScores(lambda f: np.array([next(scores) for _ in f.matrix]))


ASKED = st.tuples(
    st.sampled_from("abc"), st.sampled_from([1.0, 2.0]), st.sampled_from([CLOCK, None, ...])
)
STEPS = st.lists(
    st.one_of(
        ASKED.map(lambda one: [one]),
        st.lists(ASKED, min_size=2, max_size=4),
        st.sampled_from(["restart", "promote"]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 40))
def test_one_answer_per_id_after_restarts_and_promotions(steps: list[Any], recent: int) -> None:
    made = Bench(payments(), Route(champion=arm(counted(), 1)))
    clock = ManualClock(NOON)

    def started() -> Application:
        service = made.service(clock=clock, recent=Recent(recent))
        return Application(made.system, service, made.metrics)

    app, known = started(), dict[str, tuple[float, str, Any]]()
    for step in steps:
        clock.advance_to(clock.now() + 1_000_000)
        if step == "restart":
            app = started()
            continue
        if step == "promote":
            before = made.route.champion
            assert before is not None
            made.route = Route(champion=arm(counted(), before.version + 1), previous=before)
            continue
        requests = [tap(tap_id=i, amount=a, tapped_at=t) for i, a, t in step]
        said = dict[str, tuple[float, str]]()
        now = from_micros(clock.now()).isoformat().replace("+00:00", "Z")
        other = set()
        for place, (name, amount, given_clock) in enumerate(step):
            told = CLOCK if given_clock == CLOCK else None
            first = known[name][:2] if name in known else said.get(name)
            if first is None:
                said[name] = (amount, told or now)
            else:
                if first[0] != amount:
                    other.add((place, "amount"))
                if told is not None and told != first[1]:
                    other.add((place, "tapped_at"))
        status, found = post(app, {"requests": requests})
        if other:
            assert (status, found["error"]["code"]) == (409, "conflict")
            prefix = "requests[{}]." if len(step) > 1 else ""
            named = {p["field"] for p in found["error"]["problems"]}
            assert named == {prefix.format(place) + field for place, field in other}
            assert all(repr(step[place][0]) in str(found) for place, _ in other)
            continue
        assert status == 200
        for (name, _, _), answer in zip(step, found["predictions"], strict=True):
            if name not in known:
                known[name] = (*said[name], answer)
            assert answer == known[name][2]
    logged = [name for batch in made.log.batches for name in batch.request_ids]
    assert sorted(logged) == sorted(known)


def test_two_that_are_equal_and_under_way_at_once_get_one_answer(bench: MakesBench) -> None:
    both, scores = Barrier(2), iter([0.25, 0.75])

    def score(features: Any) -> Any:
        both.wait()
        return np.array([next(scores)])

    made = bench(Route(champion=arm(score)))
    app = made.application()

    async def go() -> list[Any]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asked = [client.post("/predict/fraud", json=tap(tapped_at=...)) for _ in range(2)]
            return [one.json() for one in await asyncio.gather(*asked)]

    first, second = asyncio.run(go())
    assert first == second
    assert [batch.request_ids for batch in made.log.batches] == [["t1"]]


def test_of_two_that_differ_and_are_under_way_at_once_one_is_refused(bench: MakesBench) -> None:
    both = Barrier(2)

    def score(features: Any) -> Any:
        both.wait()
        return np.array([0.5])

    app = bench(Route(champion=arm(score))).application()

    async def go() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asked = [client.post("/predict/fraud", json=tap(amount=a)) for a in (1.0, 2.0)]
            return [one.status_code for one in await asyncio.gather(*asked)]

    assert sorted(asyncio.run(go())) == [200, 409]


def test_an_answer_that_was_a_fallback_stays_the_answer(bench: MakesBench) -> None:
    hanging = HangingScores(0.75)
    app = bench(Route(champion=arm(hanging)), {"deadline": "20ms"}).application()
    try:
        first = post(app, tap())
    finally:
        hanging.release.set()
    assert first[1]["degraded"] == ["overloaded"]
    assert post(app, tap()) == first


def test_reasons_are_those_of_the_version_that_answered(bench: MakesBench) -> None:
    made = bench(Route(champion=arm(0.625, 1)))
    app = made.application()
    plain, told = post(app, tap()), post(app, tap(), "?reasons=true")
    assert {k: v for k, v in told[1].items() if k != "reasons"} == plain[1]
    assert len(told[1]["reasons"]) == 5
    made.route = Route(champion=arm(0.25, 2), previous=made.route.champion)
    assert post(app, tap(), "?reasons=true") == told
    made.route = Route(champion=arm(0.25, 3))
    gone = post(app, tap(), "?reasons=true")[1]
    assert (gone["score"], gone["reasons"], gone["degraded"]) == (0.625, [], ["reasons_gone"])


def test_personal_values_are_not_told(bench: MakesBench) -> None:
    app = bench().application()
    post(app, tap())
    status, found = post(app, tap(card="4000-1234"))
    assert (status, found["error"]["problems"][0]["field"]) == (409, "card")
    assert "4000" not in str(found)
    assert "c1" not in str(found)


def test_requests_without_an_id_are_each_a_question(bench: MakesBench) -> None:
    made = bench(Route(champion=arm(counted())))
    app = made.application()
    assert post(app, tap(tap_id=...))[1]["score"] != post(app, tap(tap_id=...))[1]["score"]


def test_models_answer_each_for_itself_and_agree_on_the_clock() -> None:
    one = payments()
    second = replace(one.models[0], name="abuse")
    system = hs.System(
        "two", sources=one.sources, views=one.views, models=(*one.models, second),
        deployments=(*one.deployments, replace(one.deployments[0], model=second)),
    )  # fmt: skip
    made = Bench(system, Route(champion=arm(counted())))
    clock = ManualClock(NOON)
    predictors = {
        d.model.name: Predictor(system, d, stopwatch=made.stopwatch) for d in system.deployments
    }
    recent = Recent()
    service = made.service(predictors=predictors, clock=clock, recent=recent)
    request = tap(tapped_at=None)
    fraud = service.predict("fraud", [request])
    clock.advance_to(NOON + 5)
    abuse = service.predict("abuse", [request])
    assert fraud[0].score != abuse[0].score
    assert service.predict("fraud", [request]) == fraud
    assert service.predict("abuse", [request]) == abuse
    clocks = [batch.requests[0]["tapped_at"] for batch in made.log.batches]
    assert clocks == [from_micros(NOON)] * 2
    assert [batch.recorded for batch in made.log.batches] == [[True], [False]]
    service.predict("fraud", [tap(tap_id="t2", tapped_at=None)])
    with pytest.raises(RequestConflict, match="was asked of 'fraud' under the id 't2'"):
        service.predict("abuse", [tap(tap_id="t2", amount=1.0, tapped_at=None)])


@pytest.mark.parametrize(
    ("changes", "field", "text"),
    [
        ({"tapped_at": "2013-07-01T12:00:05.000001Z"}, "tapped_at", "5s1us ahead"),
        ({"tap_id": ""}, "tap_id", "the id is empty"),
    ],
)
def test_what_no_event_may_say_is_refused_before_it_is_logged(
    bench: MakesBench, changes: Any, field: str, text: str
) -> None:
    made = bench()
    status, found = post(made.application(), tap(**changes))
    assert (status, found["error"]["code"]) == (422, "invalid_request")
    assert found["error"]["problems"][0]["field"] == field
    assert text in found["error"]["problems"][0]["found"]
    assert not made.log.batches


def test_a_clock_within_the_skew_is_taken(bench: MakesBench) -> None:
    status, found = post(bench().application(), tap(tapped_at="2013-07-01T12:00:05Z"))
    assert (status, "note" in found) == (200, False)


def test_a_request_that_is_no_event_says_so_each_time(bench: MakesBench) -> None:
    app = bench().application()
    late = tap(tapped_at="2013-05-01T12:00:00Z")
    status, found = post(app, late)
    assert status == 200
    assert found["note"].startswith("too late: ")
    assert post(app, late)[1] == found


def test_a_body_is_refused_whole_and_each_row_by_its_place(bench: MakesBench) -> None:
    made = bench()
    app = made.application()
    post(app, tap(tap_id="a"))
    body = {"requests": [tap(tap_id="b"), tap(tap_id="a", items=9), tap(tap_id="c")]}
    status, found = post(app, body)
    assert (status, [p["field"] for p in found["error"]["problems"]]) == (
        409,
        ["requests[1].items"],
    )
    body["requests"][1] = tap(tap_id="")
    status, found = post(app, body)
    assert (status, [p["field"] for p in found["error"]["problems"]]) == (
        422,
        ["requests[1].tap_id"],
    )
    assert [batch.request_ids for batch in made.log.batches] == [["a"]]


def test_a_store_that_fails_costs_the_memory_and_no_answer(bench: MakesBench) -> None:
    class Gone:
        def answered(self, model: str, request_ids: Any) -> Any:
            raise OSError("answers: gone")

    made = bench(Route(champion=arm(0.5)))
    service = made.service(answers=Gone())
    reader = RequestReader(made.system, made.system.models[0])
    (first,) = service.predict("fraud", reader.rows([tap()]))
    assert first.score == 0.5
    assert service.predict("fraud", reader.rows([tap()])) == [first]  # from memory
    assert made.metrics.last_faults["answers"] == "OSError: answers: gone"
    with pytest.raises(RequestInvalid):
        reader.rows([tap(amount=None)])
