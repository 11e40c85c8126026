"""The HTTP application: answers, refusals by name, and never a 500."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.core.errors import HomeostatError
from homeostat.serve.http import Application, Limits
from homeostat.serve.ports import NotDurable
from homeostat.serve.predictions import Predictions
from homeostat.serve.routing import Route
from homeostat.serve.seam import Ingested
from homeostat.testing.drills import BrokenStore, Drill, FixedScores, HangingScores, KeptLog
from homeostat.testing.payments import Bench, arm, payments, tap

MakesBench = Callable[..., Bench]
PREDICT = "/predict/fraud"


def ask(
    made: Bench | Application, path: str = PREDICT, body: Any = None, method: str = "POST",
    **given: Any,
) -> httpx.Response:  # fmt: skip
    async def go() -> httpx.Response:
        app = made if isinstance(made, Application) else made.application()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            if body is not None:
                given["content"] = body if isinstance(body, bytes) else json.dumps(body)
            return await client.request(method, path, **given)

    return asyncio.run(go())


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_an_answer_has_score_decision_version_and_id(bench: MakesBench) -> None:
    response = ask(bench(Route(champion=arm(0.625, 3))), body=tap())
    assert response.status_code == 200
    assert response.json() == {
        "prediction_id": "p1", "model": "fraud", "version": 3, "arm": "champion", "score": 0.625,
        "decision": True, "threshold": 0.5, "at": "2013-07-01T12:00:00Z", "degraded": [],
    }  # fmt: skip


def test_reasons_come_when_asked_for(bench: MakesBench) -> None:
    made = bench(Route(champion=arm(0.625)))
    reasons = ask(made, PREDICT + "?reasons=true", tap()).json()["reasons"]
    assert [(r["feature"], r["contribution"], r["direction"]) for r in reasons[:3]] == [
        ("per_item", 7.0, "raises"), ("items", -6.0, "lowers"), ("online", 5.0, "raises"),
    ]  # fmt: skip
    assert [r["value"] for r in reasons] == [6.25, 2.0, 0.0, "bakery", 12.5]
    assert "reasons" not in ask(made, PREDICT + "?reasons=false", tap()).json()


def test_reasons_that_fail_leave_the_answer(bench: MakesBench) -> None:
    class Mute(FixedScores):
        def contributions(self, features: Any) -> Any:
            raise Drill("no reasons")

    made = bench(Route(champion=arm(Mute(0.625))))
    found = ask(made, PREDICT + "?reasons=true", tap()).json()
    assert (found["score"], found["reasons"]) == (0.625, [])
    assert found["degraded"] == ["reasons_broken"]


def test_a_list_is_answered_by_a_list(bench: MakesBench) -> None:
    body = {"requests": [tap(tap_id=f"t{i}") for i in range(3)]}
    found = ask(bench(), body=body).json()["predictions"]
    assert [answer["prediction_id"] for answer in found] == ["p1", "p2", "p3"]


def test_predictions_are_logged_and_can_be_looked_at(bench: MakesBench) -> None:
    made = bench(Route(champion=arm(0.625, 3)))
    app = made.application()
    ask(app, body=tap(tapped_at=...))
    assert made.log.batches[0].frame()["request_id"].to_list() == ["t1"]
    found = ask(app, "/predictions/p1", method="GET").json()
    assert found["answer"]["score"] == 0.625
    assert found["request"]["card"] == "***"
    assert found["request"]["tapped_at"] == "2013-07-01T12:00:00Z"
    assert found["features"]["shop"] == "bakery"
    assert found["features"]["card_taps__count_1h"] == 0.0
    assert found["features"]["card_taps__amount_mean_1h"] is None
    assert found["offsets"] == {"taps": -1}
    missing = ask(app, "/predictions/p9", method="GET")
    assert error(missing) == (404, "unknown_prediction")


@pytest.mark.parametrize(
    ("body", "status", "code", "text"),
    [
        (b"", 400, "malformed", "the body is no JSON"),
        (b'{"tap_id": ', 400, "malformed", "the body is no JSON"),
        (b"\xff\xfe", 400, "malformed", "not UTF-8"),
        (b'{"tap_id": "caf\xe9"}', 400, "malformed", "not UTF-8"),
        (tap(amount="12"), 422, "invalid_request", 'amount: text "12"; allowed: a finite number'),
        (tap(amuont=12), 422, "invalid_request", "amuont: an unknown field"),
        (tap(shop=...), 422, "invalid_request", "shop: missing; allowed: text"),
        ({"requests": [tap(), tap(items="x")]}, 422, "invalid_request", "requests[1].items"),
        (json.dumps(tap(amount=float("nan"))).encode(), 422, "invalid_request", "amount: not a"),
        ([1], 422, "invalid_request", "body: a list"),
        (b" " * 5000 + b"{}", 413, "too_large", "more than 4096 bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_body_is_named(
    bench: MakesBench, body: Any, status: int, code: str, text: str
) -> None:
    made = bench()
    response = ask(made.application(Limits(body_bytes=4096)), body=body)
    assert error(response) == (status, code)
    assert text in response.json()["error"]["message"]
    assert not made.log.batches


def test_problems_are_listed_for_machines(bench: MakesBench) -> None:
    found = ask(bench(), body=tap(amount="x", shop=1)).json()["error"]["problems"]
    assert found == [
        {"field": "shop", "found": "a number 1", "allowed": "text"},
        {"field": "amount", "found": 'text "x"', "allowed": "a finite number"},
    ]


@pytest.mark.parametrize(
    ("method", "path", "expected", "text"),
    [
        ("POST", "/predict/frauds", (404, "unknown_model"), "Did you mean 'fraud'?"),
        ("GET", PREDICT, (405, "wrong_method"), "allowed: POST"),
        ("DELETE", "/models", (405, "wrong_method"), "allowed: GET"),
        ("GET", "/modles", (404, "unknown_path"), "Did you mean '/models'?"),
        ("POST", "/predict", (404, "unknown_path"), "/predict/{model}"),
        ("GET", "/health/x", (404, "unknown_path"), "allowed: "),
        ("POST", PREDICT + "?reason=true", (400, "unknown_parameter"), "Did you mean 'reasons'?"),
        ("POST", PREDICT + "?reasons=1", (400, "invalid_parameter"), "allowed: true, false"),
        ("POST", "/events/tips", (404, "unknown_source"), "Did you mean 'taps'?"),
    ],
)
def test_wrong_addresses_are_explained(
    bench: MakesBench, method: str, path: str, expected: Any, text: str
) -> None:
    response = ask(bench(), path, tap() if method == "POST" else None, method)
    assert error(response) == expected
    assert text in response.json()["error"]["message"]
    if response.status_code == 405:
        assert response.headers["allow"] in response.json()["error"]["message"]


FAULTS: list[tuple[dict[str, Any], dict[str, Any], tuple[str, float, list[str]]]] = [
    ({"champion": arm(Drill("x"), 2), "previous": arm(0.75)}, {},
     ("previous", 0.75, ["model_broken"])),
    ({"champion": arm(Drill("x"))}, {}, ("score", 0.125, ["model_broken"])),
    ({}, {}, ("score", 0.125, ["no_model"])),
    ({"champion": arm(0.75)}, {"store": None}, ("champion", 0.75, ["store_down"])),
    ({"champion": arm(0.75)}, {"store": BrokenStore(opens=False)},
     ("champion", 0.75, ["store_down"])),
    ({"champion": arm(0.75)}, {"store": BrokenStore(opens=True)},
     ("champion", 0.75, ["store_down"])),
    ({"champion": arm(0.75)}, {"log": KeptLog(broken=True)}, ("champion", 0.75, [])),
    ({"champion": arm(0.75), "challenger": arm(Drill("x"), 2), "share": 1.0}, {},
     ("champion", 0.75, ["challenger_broken"])),
    ({"champion": arm(0.75), "challenger": arm(Drill("x"), 2), "shadow": True}, {},
     ("champion", 0.75, [])),
]  # fmt: skip


@pytest.mark.parametrize(("route", "parts", "expected"), FAULTS)
def test_every_fault_has_its_declared_answer(
    bench: MakesBench, route: Any, parts: Any, expected: Any
) -> None:
    made = bench(Route(**route), **parts)
    response = ask(made, body=tap())
    assert response.status_code == 200
    found = response.json()
    assert (found["arm"], found["score"], found["degraded"]) == expected


def test_a_bug_inside_is_a_503_and_counted(bench: MakesBench) -> None:
    def routes(model: str) -> Route:
        raise Drill("secret")

    made = bench()
    app = Application(made.system, made.service(routes=routes), made.metrics)
    response = ask(app, body=tap())
    assert error(response) == (503, "unavailable")
    assert "secret" not in response.text
    assert made.metrics.last_faults["http"] == "Drill: secret"


class FullLog(KeptLog):
    """A prediction log on a full disk."""

    def append(self, predictions: Predictions) -> None:
        raise NotDurable(predictions.model, 2.0, "StorageFailed: 0.0 MB are free", waits=True)

    def trouble(self) -> str:
        return "prediction log: answers wait to be written: StorageFailed: 0.0 MB are free"


@pytest.mark.parametrize("sync", [True, False])
def test_an_answer_that_cannot_be_durable_is_a_503_that_says_why(
    bench: MakesBench, sync: bool
) -> None:
    made = bench()
    service = made.service(log=FullLog(), sync=sync)
    app = Application(made.system, service, made.metrics)
    ready = ask(app, "/ready", method="GET")
    assert ready.status_code == (503 if sync else 200)
    assert "0.0 MB are free" in ready.json()["notes"][-1]
    response = ask(app, body=tap())
    assert error(response) == (503, "not_durable")
    assert "0.0 MB are free" in response.text
    assert response.headers["retry-after"] == "1"


def released(hanging: HangingScores, work: Any) -> Any:
    """Return what `work` returns, and let the hanging model go on afterwards."""
    try:
        return work()
    finally:
        hanging.release.set()


def test_a_model_that_hangs_is_overloaded_at_the_deadline(bench: MakesBench) -> None:
    hanging = HangingScores(0.75)
    made = bench(Route(champion=arm(hanging)), {"deadline": "20ms"})
    response = released(hanging, lambda: ask(made, body=tap()))
    assert response.status_code == 200
    found = response.json()
    assert (found["arm"], found["score"], found["degraded"]) == ("score", 0.125, ["overloaded"])
    assert [batch.arms for batch in made.log.batches] == [["score"]]


def test_an_overloaded_model_is_stood_in_for_by_the_one_before(bench: MakesBench) -> None:
    hanging = HangingScores(0.75)
    declared = {"deadline": "500ms", "overloaded": ("previous", "score")}
    route = Route(champion=arm(hanging, 2), previous=arm(0.375, 1))
    found = released(hanging, lambda: ask(bench(route, declared), body=tap()).json())
    assert (found["arm"], found["score"], found["degraded"]) == ("previous", 0.375, ["overloaded"])


def test_where_the_one_before_hangs_too_the_score_answers(bench: MakesBench) -> None:
    hanging = HangingScores(0.75)
    declared = {"deadline": "20ms", "overloaded": ("previous", "score")}
    route = Route(champion=arm(hanging, 2), previous=arm(hanging, 1))
    found = released(hanging, lambda: ask(bench(route, declared), body=tap()).json())
    assert (found["arm"], found["degraded"]) == ("score", ["overloaded"])


def test_a_challenger_that_hangs_is_to_blame(bench: MakesBench) -> None:
    hanging = HangingScores(0.75)
    route = Route(champion=arm(0.25), challenger=arm(hanging, 2), share=1.0)
    made = bench(route, {"deadline": "20ms"})
    found = released(hanging, lambda: ask(made, body=tap()).json())
    assert found["degraded"] == ["overloaded", "challenger_broken"]


def test_a_shadow_that_hangs_delays_nobody(bench: MakesBench) -> None:
    hanging = HangingScores(0.75)
    route = Route(champion=arm(0.25), challenger=arm(hanging, 2), shadow=True)
    made = bench(route)
    service = made.service(max_shadows=2)
    app = Application(made.system, service, made.metrics)

    def work() -> list[Any]:
        return [ask(app, body=tap(tap_id=f"t{i}")).json() for i in range(4)]

    found = released(hanging, work)
    assert [(a["score"], a["degraded"]) for a in found] == [(0.25, [])] * 4
    service.close()
    logged = {b.request_ids[0]: (b.shadow_scores, b.degraded) for b in made.log.batches}
    assert logged == {
        "t0": ([0.75], [[]]), "t1": ([0.75], [[]]),
        "t2": (None, [["shadow_skipped"]]), "t3": (None, [["shadow_skipped"]]),
    }  # fmt: skip


def test_beyond_max_in_flight_the_fallback_answers_at_once(bench: MakesBench) -> None:
    hanging = HangingScores(0.75)
    declared = {"max_in_flight": 2, "deadline": "1h"}
    made = bench(Route(champion=arm(hanging)), declared)
    app = made.application()

    async def crowd() -> list[dict[str, Any]]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            first = [
                asyncio.create_task(client.post(PREDICT, json=tap(tap_id=name))) for name in "ab"
            ]
            await asyncio.to_thread(hanging.entered.wait)
            while len([t for t in first if not t.done()]) and made.metrics.flying("fraud") < 2:
                await asyncio.sleep(0)
            third = await client.post(PREDICT, json=tap(tap_id="c"))
            assert not any(task.done() for task in first)
            hanging.release.set()
            answers = [*(await asyncio.gather(*first)), third]
            answers.append(await client.post(PREDICT, json=tap(tap_id="d")))
            return [answer.json() for answer in answers]

    found = asyncio.run(crowd())
    assert [a["degraded"] for a in found] == [[], [], ["overloaded"], []]
    assert [a["score"] for a in found] == [0.75, 0.75, 0.125, 0.75]


def test_calls_that_hang_are_replaced_up_to_the_bound_and_ready_says_where(
    bench: MakesBench,
) -> None:
    hanging = HangingScores(0.75)
    made = bench(Route(champion=arm(hanging)), {"deadline": "20ms", "max_in_flight": 1})
    app = made.application(Limits(threads=1, held=3))

    def work() -> tuple[list[Any], list[str], str]:
        found = [ask(app, body=tap(tap_id=f"t{i}")).json() for i in range(5)]
        return found, ready(app), ask(app, "/metrics", method="GET").text

    def ready(app: Application) -> list[str]:
        return list(ask(app, "/ready", method="GET").json()["notes"])

    asked, notes, metrics = released(hanging, work)
    assert [a["degraded"] for a in asked[:3]] == [["overloaded"]] * 3
    assert [a["degraded"] for a in asked[3:]] == [["overloaded", "calls_held"]] * 2
    assert hanging.entered.is_set()
    assert made.metrics.flying("fraud") == 0
    assert 'homeostat_held_calls{model="fraud"} 3' in metrics.splitlines()
    note = next(note for note in notes if note.startswith("fraud: 3 calls"))
    assert "3 in 'wait' (threading.py:" in note
    assert "have the `overloaded` fallback until one of them ends" in note


def test_events_go_to_the_log_as_they_came(bench: MakesBench) -> None:
    taken: list[tuple[str, list[bytes]]] = []

    def ingest(source: str, payloads: Sequence[bytes]) -> Ingested:
        taken.append((source, list(payloads)))
        return Ingested(source, 7, len(payloads))

    made = bench()
    app = Application(made.system, made.service(ingest=ingest), made.metrics)
    one, two = (json.dumps(tap(tap_id=name, more=[{}])).encode() for name in "ab")
    three = json.dumps(tap(), indent=1).encode()
    for body, events in (
        (one, [one]), (b"[" + one + b" , " + two + b"]", [one, two]),
        (one + b"\n" + two + b"\n", [one, two]), (three, [three]),
    ):  # fmt: skip
        response = ask(app, "/events/taps", body)
        assert response.status_code == 202
        assert response.json() == {
            "source": "taps", "first_offset": 7, "events": len(events), "refused": [],
        }  # fmt: skip
        assert taken.pop() == ("taps", events)
    for body in (b"", b"[]", b"{", b"[1,", b"\xff"):
        response = ask(app, "/events/taps", body)
        assert error(response) == (400, "malformed")
        assert "events of 'taps'" in response.json()["error"]["message"]
    assert not taken


def test_a_service_without_a_log_says_so(bench: MakesBench) -> None:
    response = ask(bench(), "/events/taps", tap())
    assert error(response) == (503, "unavailable")
    with pytest.raises(HomeostatError, match="takes no events; allowed: predictions only"):
        bench().service().ingest("taps", [b"{}"])


def test_the_state_of_the_service_is_shown(bench: MakesBench) -> None:
    route = Route(champion=arm(0.5, 4), challenger=arm(Drill("x"), 5), share=0.25)
    made = bench(route)
    app = made.application()
    assert ask(app, "/health", method="GET").json() == {"status": "alive"}
    assert ask(app, "/models", method="GET").json() == {
        "models": [
            {"model": "fraud", "champion": 4, "challenger": 5, "previous": None, "share": 0.25,
             "shadow": False, "broken": []}
        ]
    }  # fmt: skip
    assert ask(app, "/ready", method="GET").json() == {"ready": True, "notes": []}
    head = ask(app, "/health", method="HEAD")
    assert (head.status_code, head.content) == (200, b"")
    app.drain()
    draining = ask(app, "/ready", method="GET")
    assert (draining.status_code, draining.json()["notes"]) == (503, ["draining"])


def test_ready_tells_what_fallbacks_stand_in_for(bench: MakesBench) -> None:
    found = ask(bench(Route(), store=None), "/ready", method="GET").json()
    assert found == {"ready": True, "notes": ["fraud: no champion", "no feature store"]}


def test_metrics_count_requests_answers_and_degradations(bench: MakesBench) -> None:
    made = bench(Route(champion=arm(0.75, 3)), store=None)
    app = made.application()
    two = [tap(tap_id="t2"), tap(tap_id="t3")]
    for body in (tap(), tap(amount="x"), {"requests": two}, tap()):
        ask(app, body=body)
    ask(app, "/nowhere", method="GET")
    response = ask(app, "/metrics", method="GET")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = set(response.text.splitlines())
    assert {
        'homeostat_requests_total{path="/predict/{model}",status="200"} 3',
        'homeostat_requests_total{path="/predict/{model}",status="422"} 1',
        'homeostat_requests_total{path="other",status="404"} 1',
        'homeostat_predictions_total{model="fraud",arm="champion",version="3"} 3',
        'homeostat_repeated_requests_total{model="fraud"} 1',
        'homeostat_degraded_total{model="fraud",cause="store_down"} 3',
        'homeostat_model_info{model="fraud",role="champion",version="3"} 1',
        'homeostat_latency_seconds_count{model="fraud",component="model"} 3',
        'homeostat_in_flight{model="fraud"} 0',
    } <= lines


def test_the_interface_describes_itself(bench: MakesBench) -> None:
    found = ask(bench(), "/openapi.json", method="GET").json()
    assert found["openapi"] == "3.1.0"
    event = found["components"]["schemas"]["fraud_request"]
    assert event["required"] == ["card", "shop", "amount", "items", "online"]
    assert event["properties"]["tapped_at"]["type"] == ["string", "null"]
    assert event["additionalProperties"] is False
    body = found["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    many = body["oneOf"][1]
    assert (many["required"], many["properties"]["requests"]["maxItems"]) == (["requests"], 1000)
    assert "409" in found["paths"][PREDICT]["post"]["responses"]
    assert set(found["paths"]) >= {PREDICT, "/events/taps", "/events/claims", "/ready"}


BODIES = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*tap(), "requests", "x"]), inner, max_size=9)
        ),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=60)
@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.sampled_from([PREDICT, PREDICT + "?reasons=true", "/events/taps", "/models", "/x/%00"]),
    BODIES,
)  # fmt: skip
def test_nothing_that_is_sent_makes_a_500(method: str, path: str, body: bytes) -> None:
    def ingest(source: str, payloads: Sequence[bytes]) -> Ingested:
        return Ingested(source, 0, len(payloads))

    made = Bench(payments(), Route(champion=arm(lambda f: np.zeros(len(f.matrix)))))
    app = Application(made.system, made.service(ingest=ingest), made.metrics)
    response = ask(app, path, body, method)
    assert response.status_code in (200, 202, 400, 404, 405, 422)
    assert "http" not in made.metrics.last_faults
