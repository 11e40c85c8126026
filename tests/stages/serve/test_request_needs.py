"""What requests must bring, while versions of other declarations are in service."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

import homeostat as hs
from homeostat.core.hashing import plain
from homeostat.declare.system import System
from homeostat.features.manifest import as_manifest, bind
from homeostat.serve.lookup import Lookup
from homeostat.serve.needs import needs_of
from homeostat.serve.openapi import describe
from homeostat.serve.ports import Broken
from homeostat.serve.requests import RequestInvalid, RequestReader
from homeostat.serve.routing import Arm, Route

FIELDS: dict[str, Any] = {"a": 1.5, "b": 2, "c": "x", "d": True, "k": "one", "m": "two"}


class Outcome(hs.Event):
    """What became of it."""

    id: str
    k: str
    at: hs.Timestamp
    bad: bool


def drawn(draw: random.Random) -> tuple[System, dict[str, bool]]:
    """Return declarations, and by field that the model reads whether it may be null, as drawn."""
    nullable = {name: name not in "km" and draw.random() < 0.4 for name in FIELDS}
    kinds = {n: type(v) | None if nullable[n] else type(v) for n, v in FIELDS.items()}
    body = {"__annotations__": {"id": str, **kinds, "at": hs.Timestamp}, "__module__": __name__}
    event = type("Asked", (hs.Event,), {"__doc__": "Somebody asks.", **body})
    asked = hs.EventSource("asked", event, event_id="id", event_time="at")
    outcomes = hs.EventSource("outcomes", Outcome, event_id="id", event_time="at")
    key = draw.choice("km")
    view = hs.FeatureView(f"by_{key}", hs.Entity(key, key=key), asked, (hs.count().over("1h"),))
    features: list[Any] = draw.sample("abcd", draw.randint(1, 4))
    reads = {name: nullable[name] for name in features}
    if draw.random() < 0.6:
        features += view.all()
        reads[key] = False
    made = hs.OnDemand("twice", ("a",), twice)
    if draw.random() < 0.5:
        features.append(made)
        reads["a"] = nullable["a"]
    label = hs.Label("bad", predicts=asked, outcome=outcomes, join_on="id",
                     value=hs.col("bad") == True, delay="1h", when_absent=False)  # noqa: E712  # fmt: skip
    model = hs.Model(
        "m", features=tuple(features), label=label, split=hs.Split(validation="1d", test="1d"),
        estimator=hs.Estimator("sklearn.linear_model:LogisticRegression", {}),
        requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=5),
    )  # fmt: skip
    deployment = hs.Deployment(
        model=model, rollout=(hs.Shadow("1h"),), degradation=hs.Degradation(score=0.1)
    )
    system = System(
        "s", sources=(asked, outcomes), views=(view,), models=(model,),
        deployments=(deployment,), kept=() if made in features else (made,),
    )  # fmt: skip
    return system, reads


def twice(a: Any) -> Any:
    return a


def takes(reads: dict[str, bool], request: dict[str, Any]) -> bool:
    """Return whether a version can be asked so: the rule, read plainly."""
    for name, nullable in reads.items():
        if name not in request or (request[name] is None and not nullable):
            return False
    return True


@pytest.mark.parametrize("seed", range(40))
def test_a_request_brings_what_versions_in_service_and_the_model_of_today_need(seed: int) -> None:
    draw = random.Random(seed)
    now, today = drawn(draw)
    model = now.models[0]
    versions: list[tuple[Arm, dict[str, bool]]] = []
    for number in range(3):
        then, reads = drawn(draw)
        bound = bind(plain(as_manifest(then, then.models[0])), now, model)
        lookup = Lookup(bound.system, bound.model, None, lambda part, error: None)
        versions.append((Arm(number, Broken("none"), 0.5, lookup), reads))
    routes = [  # a version comes into service, and others leave it
        Route(),
        Route(champion=versions[0][0]),
        Route(champion=versions[1][0], challenger=versions[2][0], previous=versions[0][0]),
        Route(champion=Arm(9, Broken("none"), 0.5), previous=versions[2][0]),
    ]
    served = [[], [0], [1, 2, 0], [2]]
    at, ours = SimpleNamespace(route=Route()), needs_of(now, model)
    reader = RequestReader(now, model, lambda: at.route.needs(ours))
    for at.route, numbers in zip(routes, served, strict=True):
        need = [today, *(versions[number][1] for number in numbers)]
        for _ in range(30):
            request = {n: v for n, v in FIELDS.items() if draw.random() < 0.85}
            request |= {n: None for n in request if draw.random() < 0.1}
            taken = all(takes(reads, request) for reads in need)
            try:
                reader.rows([request])
            except RequestInvalid as refused:
                named = {problem.field.removeprefix("requests[0].") for problem in refused.problems}
                assert not taken
                assert named <= set().union(*need)
            else:
                assert taken, request
        page = describe(now, lambda name: at.route.needs(ours))
        assert set(page["components"]["schemas"]["m_request"]["required"]) == set().union(*need)
