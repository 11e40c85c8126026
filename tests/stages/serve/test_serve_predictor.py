"""The predictor: routing, shadows, and an answer whatever fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.clock import from_micros
from homeostat.core.hashing import unit_interval
from homeostat.features.assemble import Features
from homeostat.serve.ports import Broken, ModelBroken
from homeostat.serve.predictions import ARMS, frame_of, prediction_schema
from homeostat.serve.predictor import Batch, Predictor, Shed
from homeostat.serve.routing import Route, load_arm
from homeostat.testing.drills import BrokenStore, Drill, FixedScores, StepStopwatch
from homeostat.testing.memory_store import MemoryStore
from homeostat.testing.payments import NOON, Bench, arm, payments

MakesBench = Callable[..., Bench]


def request(name: str = "t1", **changes: Any) -> dict[str, Any]:
    return {
        "tap_id": name, "card": "c1", "shop": "bakery", "tapped_at": from_micros(NOON),
        "amount": 12.5, "items": 2, "online": False, "note": None, **changes,
    }  # fmt: skip


def ask(predictor: Predictor, route: Route, n: int = 3, reader: Any = None) -> Any:
    requests = [request(f"t{i}") for i in range(n)]
    given_reader = MemoryStore() if reader is None else reader
    with given_reader.reader() as opened:
        return predictor.predict(opened, requests, NOON, route, [f"p{i}" for i in range(n)])


def test_the_champion_answers_and_the_frame_says_so(bench: MakesBench) -> None:
    route = Route(champion=arm(0.625, version=7))
    found = ask(bench(route).predictor(), route)
    frame = found.frame()
    assert dict(frame.schema) == prediction_schema(["taps"])
    assert frame["prediction_id"].to_list() == ["p0", "p1", "p2"]
    assert frame["request_id"].to_list() == ["t0", "t1", "t2"]
    row = frame.row(0, named=True)
    assert (row["version"], row["arm"], row["score"], row["decision"]) == (
        7, "champion", 0.625, True,
    )  # fmt: skip
    assert (row["degraded"], row["offset_taps"], row["at"]) == ("", -1, from_micros(NOON))
    assert (row["shadow_version"], row["shadow_score"]) == (None, None)
    count, average, amount, shop, online, items, ratio = row["features"]
    assert (count, amount, online, items, ratio) == (0.0, 12.5, 0.0, 2.0, 6.25)
    assert np.isnan(average)
    assert np.isnan(shop)


def test_offsets_are_those_of_the_snapshot(bench: MakesBench) -> None:
    route = Route(champion=arm(0.5))
    store = MemoryStore()
    with store.writer() as writer:
        writer.put(b"offset/taps", (41).to_bytes(8, "big"))
    found = ask(bench(route).predictor(), route, reader=store)
    assert found.frame()["offset_taps"].to_list() == [41, 41, 41]


def test_a_canary_gets_its_share_and_always_the_same_requests(bench: MakesBench) -> None:
    route = Route(champion=arm(0.25), challenger=arm(0.75, 2), share=0.3, salt="r1")
    found = ask(bench(route).predictor(), route, n=400)
    taken = {i for i, a in enumerate(found.arms) if a == "challenger"}
    drawn = {i for i in range(400) if unit_interval("fraud", f"t{i}", "r1") < 0.3}
    assert taken == drawn
    assert 80 < len(taken) < 160
    assert {found.scores[i] for i in taken} == {0.75}
    assert {found.versions[i] for i in taken} == {2}
    other = replace(route, salt="r2")
    found = ask(bench(other).predictor(), other, n=400)
    assert {i for i, a in enumerate(found.arms) if a == "challenger"} != taken


def test_a_failing_canary_falls_back_to_the_champion(bench: MakesBench) -> None:
    route = Route(champion=arm(0.25), challenger=arm(Drill("boom"), 2), share=0.5)
    made = bench(route)
    found = ask(made.predictor(), route, n=50)
    assert set(found.arms) == {"champion"}
    drawn = [route.takes_challenger("fraud", f"t{i}") for i in range(50)]
    assert [causes == ["challenger_broken"] for causes in found.degraded] == drawn
    assert 0 < sum(drawn) < 50
    assert made.metrics.last_faults["challenger"] == "Drill: boom"


def test_a_shadow_is_logged_and_never_seen(bench: MakesBench) -> None:
    route = Route(champion=arm(0.25), challenger=arm(0.875, 2), shadow=True)
    found = ask(bench(route).predictor(), route)
    assert (found.scores, found.arms) == ([0.25] * 3, ["champion"] * 3)
    frame = found.frame()
    assert frame["shadow_version"].to_list() == [2, 2, 2]
    assert frame["shadow_score"].to_list() == [0.875] * 3
    assert frame["degraded"].to_list() == [""] * 3


def test_a_failing_shadow_leaves_a_null_score(bench: MakesBench) -> None:
    route = Route(champion=arm(0.25), challenger=arm(Drill("boom"), 2), shadow=True)
    found = ask(bench(route).predictor(), route)
    assert found.scores == [0.25] * 3
    assert found.frame()["shadow_score"].to_list() == [None] * 3
    assert found.frame()["shadow_version"].to_list() == [2] * 3
    assert found.frame()["degraded"].to_list() == ["shadow_broken"] * 3


BROKEN = [
    Drill("boom"), MemoryError("no memory"), lambda f: np.zeros(99), lambda f: np.full(3, np.nan)
]  # fmt: skip


@pytest.mark.parametrize("failure", BROKEN, ids=["raises", "memory", "shape", "nan"])
def test_a_broken_model_is_stood_in_for_by_the_one_before(bench: MakesBench, failure: Any) -> None:
    route = Route(champion=arm(failure, 2), previous=arm(0.75, 1, threshold=0.9))
    found = ask(bench(route).predictor(), route)
    assert (found.arms, found.versions) == (["previous"] * 3, [1] * 3)
    assert (found.scores, found.decisions) == ([0.75] * 3, [False] * 3)
    assert found.degraded == [["model_broken"]] * 3


def test_where_every_model_is_broken_the_declared_score_answers(bench: MakesBench) -> None:
    route = Route(champion=arm(Drill("a"), 2, threshold=0.1), previous=arm(Drill("b")))
    found = ask(bench(route).predictor(), route)
    assert (found.arms, found.versions, found.scores) == (["score"] * 3, [None] * 3, [0.125] * 3)
    assert found.decisions == [True] * 3
    assert found.thresholds == [0.1] * 3


def test_a_file_that_cannot_be_loaded_becomes_a_broken_arm(bench: MakesBench) -> None:
    faults: list[str] = []

    def load() -> Any:
        raise OSError("model.onnx: truncated")

    broken = load_arm(3, 0.5, load, lambda part, error: faults.append(f"{part}: {error}"))
    assert isinstance(broken.servable, Broken)
    assert faults == ["load: model.onnx: truncated"]
    with pytest.raises(ModelBroken, match=r"version 3 cannot be loaded: model.onnx: truncated"):
        broken.servable.score(Features(np.zeros((1, 1)), {}))
    route = Route(champion=broken)
    assert ask(bench(route).predictor(), route).degraded == [["model_broken"]] * 3


def test_a_model_that_was_never_loaded_has_no_threshold_to_decide_by(bench: MakesBench) -> None:
    route = Route(champion=arm(Broken("no file"), threshold=1.0), previous=arm(Drill("x"), 1, 0.1))
    assert ask(bench(route).predictor(), route).thresholds == [0.1] * 3
    route = Route(champion=arm(Broken("no file"), threshold=1.0))
    assert ask(bench(route).predictor(), route).thresholds == [0.25] * 3


def test_without_a_model_the_costs_choose_the_threshold(bench: MakesBench) -> None:
    found = ask(bench(Route()).predictor(), Route())
    assert (found.arms, found.degraded) == (["score"] * 3, [["no_model"]] * 3)
    assert found.thresholds == [0.25] * 3


def test_one_unusable_score_harms_its_own_row_only(bench: MakesBench) -> None:
    def score(features: Features) -> Any:
        return np.where(features.matrix[:, 2] > 100, np.nan, 0.75)

    route = Route(champion=arm(score))
    rows = [request("a"), request("b", amount=1e6), request("c")]
    with MemoryStore().reader() as reader:
        found = bench(route).predictor().predict(reader, rows, NOON, route, ["1", "2", "3"])
    assert found.scores == [0.75, 0.125, 0.75]
    assert found.degraded == [[], ["model_broken"], []]


@pytest.mark.parametrize("opens", [None, True])
def test_without_a_store_stored_features_are_missing(bench: MakesBench, opens: bool | None) -> None:
    seen: list[Features] = []

    def score(features: Features) -> Any:
        seen.append(features)
        return np.full(len(features.matrix), 0.75)

    route = Route(champion=arm(score))
    predictor = bench(route).predictor()
    store: Any = None if opens is None else BrokenStore(opens=True)
    found = predictor.predict(store, [request()], NOON, route, ["p"])
    assert (found.scores, found.degraded) == ([0.75], [["store_down"]])
    assert np.isnan(seen[0].matrix[0, :2]).all()
    assert seen[0].matrix[0, 2] == 12.5
    assert found.frame()["offset_taps"].to_list() == [None]


def test_a_store_without_its_offsets_is_down(bench: MakesBench) -> None:
    class Torn:
        def get(self, key: bytes) -> bytes | None:
            if key.startswith(b"offset/"):
                raise Drill("torn")
            return None

    route = Route(champion=arm(0.75))
    found = bench(route).predictor().predict(Torn(), [request()], NOON, route, ["p"])
    assert found.degraded == [["store_down"]]
    assert np.isnan(found.features.matrix[0, 0])
    assert found.offsets == {"taps": None}


def test_no_requests_have_no_answers(bench: MakesBench) -> None:
    route = Route(champion=arm(0.75), challenger=arm(0.5), share=0.5, shadow=True)
    found = bench(route).predictor().predict(None, [], NOON, route, [])
    assert (len(found), found.frame().height) == (0, 0)


def test_without_a_store_the_score_answers_where_it_is_declared(bench: MakesBench) -> None:
    route = Route(champion=arm(0.75))
    predictor = bench(route, {"store_down": "score"}).predictor()
    found = predictor.predict(None, [request()], NOON, route, ["p"])
    assert (found.scores, found.arms, found.degraded) == ([0.125], ["score"], [["store_down"]])


def test_features_that_cannot_be_computed_give_the_score(bench: MakesBench) -> None:
    route = Route(champion=arm(0.75), previous=arm(0.5))
    found = bench(route).predictor().predict(
        None, [request(items="two")], NOON, route, ["p"]
    )  # fmt: skip
    assert (found.scores, found.arms) == ([0.125], ["score"])
    assert found.degraded == [["store_down", "features_broken"]]
    assert found.frame()["features"].to_list() == [[]]


MS = 1_000_000


def test_beyond_the_deadline_the_overloaded_fallback_answers(bench: MakesBench) -> None:
    route = Route(champion=arm(0.75))
    slow_model = StepStopwatch([0, 1 * MS, 0, 200 * MS])
    found = ask(bench(route, {"deadline": "100ms"}, stopwatch=slow_model).predictor(), route)
    assert (found.arms, found.degraded) == (["score"] * 3, [["overloaded"]] * 3)
    assert found.latency.total_us == 201_000.0
    model = FixedScores(0.75)
    slow_store = StepStopwatch([0, 200 * MS])
    route = Route(champion=arm(model))
    found = ask(bench(route, {"deadline": "100ms"}, stopwatch=slow_store).predictor(), route)
    assert (found.arms, model.calls) == (["score"] * 3, 0)
    in_time = StepStopwatch([0, 50 * MS, 0, 50 * MS])
    found = ask(bench(route, {"deadline": "100ms"}, stopwatch=in_time).predictor(), route)
    assert (found.arms, found.degraded) == (["champion"] * 3, [[]] * 3)


def test_a_late_challenger_is_to_blame(bench: MakesBench) -> None:
    route = Route(champion=arm(0.25), challenger=arm(0.75, 2), share=0.5)
    stopwatch = StepStopwatch([0, 0, 0, 0, 0, 200 * MS])
    found = ask(bench(route, {"deadline": "100ms"}, stopwatch=stopwatch).predictor(), route, n=40)
    drawn = [route.takes_challenger("fraud", f"t{i}") for i in range(40)]
    assert set(found.arms) == {"score"}
    assert [causes[0] == "challenger_broken" for causes in found.degraded] == drawn
    assert all(causes[-1] == "overloaded" for causes in found.degraded)


def test_shed_requests_touch_neither_store_nor_model(bench: MakesBench) -> None:
    model = FixedScores(0.75)
    route = Route(champion=arm(model), previous=arm(0.375))
    predictor = bench(route).predictor()
    batch = Batch([request()], NOON, ["p"])
    found = predictor.answer(None, batch, route, Shed(("overloaded",), ("score",)))
    assert (found.scores, found.degraded, model.calls) == ([0.125], [["overloaded"]], 0)
    with MemoryStore().reader() as reader:
        found = predictor.answer(reader, batch, route, Shed(("overloaded",), ("previous", "score")))
    assert (found.arms, found.scores, model.calls) == (["previous"], [0.375], 0)


def test_the_answer_has_an_id_where_the_request_has_none(bench: MakesBench) -> None:
    route = Route(champion=arm(0.5))
    found = bench(route).predictor().predict(None, [request(tap_id=None)], NOON, route, ["p9"])
    assert found.request_ids == ["p9"]


def test_warming_says_which_arms_answer(bench: MakesBench) -> None:
    route = Route(champion=arm(0.5), challenger=arm(Drill("x")), previous=None)
    assert bench(route).predictor().warm(route) == {"champion": True, "challenger": False}


SERVABLES = st.sampled_from([0.75, Drill("boom"), lambda f: np.full(len(f.matrix), np.inf)])
ARM = st.none() | SERVABLES
STORE = st.sampled_from(["fine", "absent", "broken"])


@given(ARM, ARM, ARM, STORE, st.booleans(), st.sampled_from([0.0, 0.5, 1.0]), st.data())
def test_whatever_fails_every_request_is_answered_alone_as_in_company(
    champion: Any, challenger: Any, previous: Any, store: str, shadow: bool, share: float,
    data: st.DataObject,
) -> None:  # fmt: skip
    route = Route(
        champion=None if champion is None else arm(champion, 3),
        challenger=None if challenger is None else arm(challenger, 4),
        previous=None if previous is None else arm(previous, 2),
        share=share,
        shadow=shadow,
    )
    predictor = Bench(payments(), route).predictor()
    names = data.draw(st.lists(st.text(max_size=3), min_size=1, max_size=6))
    items = data.draw(st.lists(st.sampled_from([0, 1, None]), min_size=6, max_size=6))
    requests = [request(name, items=i) for name, i in zip(names, items, strict=False)]
    ids = [f"p{i}" for i in range(len(requests))]
    reader: Any = {"fine": _Empty(), "absent": None, "broken": BrokenStore(opens=True)}[store]
    found = predictor.predict(reader, requests, NOON, route, ids)
    assert len(found) == len(requests)
    assert np.isfinite(found.scores).all()
    assert set(found.arms) <= set(ARMS)
    for score, role, causes in zip(found.scores, found.arms, found.degraded, strict=True):
        assert score == {"score": 0.125}.get(role, 0.75)
        assert role == "champion" or role == "challenger" or causes
        assert ("store_down" in causes) == (store != "fine")
    alone = [
        predictor.predict(reader, [r], NOON, route, [i]) for r, i in zip(requests, ids, strict=True)
    ]
    together = found.frame().drop("^latency.*$")
    assert frame_of(alone, ["taps"]).drop("^latency.*$").equals(together, null_equal=True)


class _Empty:
    def get(self, key: bytes) -> bytes | None:
        return None


def test_no_predictions_make_an_empty_frame_of_the_same_columns() -> None:
    assert frame_of([], ["taps"]).equals(pl.DataFrame(schema=prediction_schema(["taps"])))
