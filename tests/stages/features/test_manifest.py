"""What computes a package's features comes back from JSON as it was, or is refused by name."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat import col, count
from homeostat.core.hashing import canonical_json, content_hash, former_source_hash
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.declare.views import FeatureRef
from homeostat.features.definitions import Definitions
from homeostat.features.keys import view_stem
from homeostat.features.manifest import Lost, NotKept, as_manifest, bind
from homeostat.runtime.in_service import bound_package
from homeostat.testing.generated_aggregations import CONDITIONS, aggregations
from homeostat.testing.generators import readings
from homeostat.testing.toy import toy_system
from homeostat.testing.toy_training import toy_package
from homeostat.testing.toy_training import toy_system as trained_system


class Judged(hs.Event):
    id: str
    at: hs.Timestamp
    is_bad: bool


def asked_of(views: tuple[hs.FeatureView, ...], features: tuple[Any, ...]) -> System:
    """Return a system with one model of some features of readings."""
    judged = hs.EventSource("judged", Judged, event_id="id", event_time="at")
    model = hs.Model(
        "bad",
        features=features,
        label=hs.Label(
            "bad", predicts=readings, outcome=judged, join_on="id", value=col("is_bad"),
            delay="1h", when_absent=False,
        ),
        estimator=hs.Estimator("lightgbm:LGBMClassifier"),
        split=hs.Split(validation="1d", test="1d"),
        requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=2),
    )  # fmt: skip
    return System("bads", sources=(readings, judged), views=views, models=(model,))


@st.composite
def systems(draw: st.DrawFn) -> System:
    """Systems with views of any aggregations, conditions and keys, features in any order."""
    views = []
    for number in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from((("site",), ("site", "place"))))
        entity = hs.Entity(f"thing{number}", key=key)
        where = draw(st.sampled_from(CONDITIONS))
        specs = draw(aggregations(True))
        views.append(hs.FeatureView(f"view{number}", entity, readings, specs, where=where))
    refs: list[FeatureRef | str] = [ref for view in views for ref in view.all()]
    features = draw(st.permutations([*refs, "amount", "place"]))
    return asked_of(tuple(views), tuple(features))


@settings(max_examples=60, deadline=None)
@given(systems(), st.data())
def test_a_manifest_comes_back_with_its_hashes_whatever_is_declared_then(
    old: System, data: st.DataObject
) -> None:
    model = old.model("bad")
    manifest = json.loads(canonical_json(as_manifest(old, model)))
    assert bind(manifest, old, model).system is old
    today = data.draw(systems())
    bound = bind(manifest, today, today.model("bad"))
    assert [view_stem(v) for v in bound.views] == [view_stem(v) for v in old.views_of(model)]
    assert content_hash(bound.views) == content_hash(old.views_of(model))
    assert bound.model.features == model.features
    assert Definitions.of(bound.system, bound.model) == Definitions.of(old, model)
    assert canonical_json(as_manifest(bound.system, bound.model)) == canonical_json(manifest)


@dataclass(frozen=True)
class Longest:
    """The longest text; a summary of one's own with a parameter."""

    least: int = 0
    parts = ("",)
    reads = "code"
    most = None

    def state(self, values: Any, events: Any) -> Any:
        return values

    def merge(self, left: Any, right: Any) -> Any:
        return left

    def value(self, state: Any, at: int) -> tuple[float]:
        return (float(self.least),)


def with_own_summary(least: int, *, kept: bool = False) -> System:
    site = hs.Entity("site", key="site")
    own = hs.custom(Longest(least), "place").over("1h")
    view = hs.FeatureView("own", site, readings, (own,))
    return asked_of((view,), (view["place_longest_1h"],))


def test_a_summary_of_ones_own_comes_back_with_its_parameters_or_is_named() -> None:
    old = with_own_summary(3)
    manifest = as_manifest(old, old.model("bad"))
    other = with_own_summary(4)
    bound = bind(manifest, other, other.model("bad"))
    assert content_hash(bound.views) == content_hash(old.views)
    site = hs.Entity("site", key="site")
    view = hs.FeatureView("own", site, readings, (count().over("1h"),))
    without = asked_of((view,), (view["count_1h"],))
    with pytest.raises(NotKept, match="own__place_longest_1h"):
        bind(manifest, without, without.model("bad"))
    keeping = replace(without, kept=(hs.custom(Longest(9), "place"),))
    bound = bind(manifest, keeping, keeping.model("bad"))
    assert content_hash(bound.views) == content_hash(old.views)


SCALES = [1.5]


def readings_scaled(values: Any, by: float) -> Any:
    return values * by * SCALES[0]


def lost_by(today: System) -> tuple[Lost, ...]:
    old = toy_system()
    with pytest.raises(NotKept) as refused:
        bind(as_manifest(old, old.model("fraud")), today, today.model("fraud"))
    return refused.value.lost


def test_changed_code_is_named_and_kept_code_is_run() -> None:
    old = toy_system()
    model = old.model("fraud")
    before = next(f for f in model.features if isinstance(f, hs.OnDemand))

    def times_usual(amount: Any, usual: Any) -> Any:
        return np.asarray(amount) - np.asarray(usual)

    new = hs.OnDemand("times_usual", before.inputs, times_usual)
    features = tuple(new if f is before else f for f in model.features)
    changed = replace(model, features=features)
    today = System("toy", sources=old.sources, views=old.views, models=(changed,))
    [lost] = lost_by(today)
    assert lost.feature == "times_usual"
    assert before.code[:12] in lost.why
    assert "kept=" in lost.advice
    bound = bind(as_manifest(old, model), replace(today, kept=(before,)), changed)
    assert bound.model.features == model.features


def test_code_is_found_by_the_hash_that_an_earlier_release_gave_it() -> None:
    """That saw no lists, and no functions of other modules; the function is as it was."""
    old = toy_system()
    before = next(f for f in old.model("fraud").features if isinstance(f, hs.OnDemand))

    def scaled(amount: Any, usual: Any, by: float = 2.0) -> Any:
        return readings_scaled(np.asarray(amount), by) - np.asarray(usual)

    own = hs.OnDemand("times_usual", before.inputs, scaled)
    features = tuple(own if f is before else f for f in old.model("fraud").features)
    model = replace(old.model("fraud"), features=features)
    today = replace(old, models=(model,), deployments=(), monitors=(), retraining=())
    then = former_source_hash(scaled)
    assert then != own.code
    text, helper = inspect.getsource(scaled), inspect.getsource(readings_scaled)
    around = {"readings_scaled": {"text": helper, "around": {}}}
    assert then == content_hash({"text": text, "around": around})
    manifest = json.loads(canonical_json(as_manifest(today, model)).replace(own.code, then))
    bound = bind(manifest, today, model)
    found = next(f for f in bound.model.features if isinstance(f, hs.OnDemand))
    assert (found.code, found.function) == (then, scaled)
    with pytest.raises(NotKept):
        bind(manifest, old, old.model("fraud"))


def moved(source: hs.EventSource, fields: dict[str, Any]) -> hs.EventSource:
    """Return a source of another class of events."""
    annotations = {
        f.name: {"string": str, "float": float, "timestamp": hs.Timestamp}[f.kind]
        for f in source.schema.fields
    } | fields
    there = {name: kind for name, kind in annotations.items() if kind is not None}
    return replace(source, event=type("Payment", (hs.Event,), {"__annotations__": there}))


@pytest.mark.parametrize(
    ("fields", "lost", "why"),
    [
        ({"amount": int}, "amount", "was a float"),
        ({"amount": None}, "amount", "is gone"),
        ({"note": str}, "", ""),
    ],
)
def test_a_field_that_is_gone_or_another_kind_is_named(
    fields: dict[str, Any], lost: str, why: str
) -> None:
    old = toy_system()
    payments = moved(old.source("payments"), fields)
    verdicts = old.source("verdicts")
    cards = hs.FeatureView("cards", hs.Entity("card", key="card"), payments, (count().over("1h"),))
    model: Model = replace(
        old.model("fraud"),
        features=(cards["count_1h"], "merchant"),
        label=replace(old.model("fraud").label, predicts=payments),
    )
    today = System("toy", sources=(payments, verdicts), views=(cards,), models=(model,))
    if not lost:
        bind(as_manifest(old, old.model("fraud")), replace(
            today, kept=tuple(f for f in old.model("fraud").features if isinstance(f, hs.OnDemand))
        ), model)  # fmt: skip
        return
    found = {one.feature: one.why for one in lost_by(today)}
    assert why in found["cards__amount_sum_1d"]


def test_a_package_without_a_manifest_is_served_while_all_is_as_it_was() -> None:
    older = replace(toy_package(), declared={})
    system = trained_system()
    assert bound_package(system, older).system is system
    model = system.models[0]
    other = replace(model, features=model.features[::-1])
    today = replace(system, models=(other,))
    with pytest.raises(NotKept, match="in another order") as refused:
        bound_package(today, older)
    assert "give the model the features that it had" in str(refused.value)
