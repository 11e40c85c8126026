"""What sound declarations hold: schemas, expressions, features, equality and hashes."""

from __future__ import annotations

import operator
import runpy
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Annotated, Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.durations import parse_duration
from homeostat.core.hashing import content_hash
from homeostat.declare.expressions import Expression
from homeostat.declare.schema import Field
from homeostat.declare.system import model_inputs

HOUR = parse_duration("1h")


class Wide(hs.Event):
    """Every kind of field."""

    text: str
    number: int
    real: float
    flag: bool
    instant: hs.Timestamp
    maybe: float | None
    old: Optional[int]  # noqa: UP045
    person: Annotated[str, hs.Personal]
    maybe_person: Annotated[str | None, hs.Personal]
    inside: Annotated[str, hs.Personal] | None


class Wider(Wide):
    more: str


def test_annotations_are_the_schema() -> None:
    personal = frozenset({"personal"})
    assert Wide.schema.fields == (
        Field("text", "string"),
        Field("number", "integer"),
        Field("real", "float"),
        Field("flag", "boolean"),
        Field("instant", "timestamp"),
        Field("maybe", "float", nullable=True),
        Field("old", "integer", nullable=True),
        Field("person", "string", tags=personal),
        Field("maybe_person", "string", nullable=True, tags=personal),
        Field("inside", "string", nullable=True, tags=personal),
    )
    assert Wide.schema.name == "Wide"
    assert Wide.schema.doc == "Every kind of field."


def test_an_event_inherits_fields() -> None:
    assert Wider.schema.names() == (*Wide.schema.names(), "more")
    assert not Wider.schema.doc


def test_fields_know_what_they_are() -> None:
    assert [f.name for f in Wide.schema.fields if f.is_personal] == [
        "person",
        "maybe_person",
        "inside",
    ]
    assert [f.name for f in Wide.schema.fields if f.is_number] == [
        "number",
        "real",
        "maybe",
        "old",
    ]


literals = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3)
leaves: st.SearchStrategy[Any] = st.sampled_from(["a", "b"]).map(hs.col)
SYMBOLS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge, "&": operator.and_, "|": operator.or_,
}  # fmt: skip


@given(
    st.recursive(
        leaves,
        lambda inner: st.builds(
            lambda symbol, left, right: SYMBOLS[symbol](left, right),
            st.sampled_from(sorted(SYMBOLS)),
            inner,
            inner | literals,
        ),
        max_leaves=6,
    )
)
def test_an_expression_prints_as_the_code_that_builds_it(built: Any) -> None:
    text = str(built.expression)
    names = {"a": hs.col("a"), "b": hs.col("b")}
    assert eval(text, names).expression == built.expression
    assert hash(eval(text, names).expression) == hash(built.expression)


@pytest.mark.parametrize(
    ("built", "text"),
    [
        (100 - hs.col("a"), "(100 - a)"),
        (1 / hs.col("a"), "(1 / a)"),
        (2 * hs.col("a") + 1, "((2 * a) + 1)"),
        (hs.col("a") > 15, "(a > 15)"),
        (~hs.col("a").is_null(), "a.is_null().not()"),
        (hs.col("a").is_in("x", "y"), "a.is_in('x', 'y')"),
    ],
)
def test_expressions_read_like_code(built: Any, text: str) -> None:
    assert str(built.expression) == text
    assert built.expression.columns() == {"a"}


def test_features_are_named_by_column_operation_and_window() -> None:
    assert [s.name for s in hs.mean("delay").over("1h", "7d").features()] == [
        "delay_mean_1h",
        "delay_mean_7d",
    ]
    assert [s.name for s in hs.last("delay").features()] == ["delay_last"]
    assert [s.name for s in hs.count(hs.col("x") > 1).over("90m").features()] == ["count_1h30m"]
    assert [s.name for s in hs.share(hs.col("x") > 1).named("big").over("1d").features()] == [
        "big_1d"
    ]
    spec = hs.sum_("delay").over("1d", hop="1h").features()[0]
    assert (spec.window, spec.hop) == (24 * HOUR, HOUR)


def test_a_view_lists_its_features(world: Any) -> None:
    view = world.by_card
    assert [ref.name for ref in view.all()] == [
        "by_card__count_1h",
        "by_card__count_1d",
        "by_card__amount_mean_7d",
    ]
    assert view["count_1h"] == hs.FeatureRef("by_card", "count_1h")
    assert view.longest_window == 7 * 24 * HOUR + HOUR


def test_durations_are_held_in_microseconds(world: Any) -> None:
    assert (world.taps.delay_us, world.taps.lateness_us) == (10**6, 24 * HOUR)
    assert world.label.delay_us == 30 * 24 * HOUR
    assert world.model.split.spans_us == (7 * 24 * HOUR, 7 * 24 * HOUR, None)
    assert world.deployment.deadline_us == 100_000


def test_declarations_are_frozen_and_hashable(world: Any) -> None:
    for value in world:
        assert hash(value) == hash(value)
    with pytest.raises(FrozenInstanceError):
        world.system.name = "other"


def test_lists_and_single_things_become_tuples(world: Any) -> None:
    loose: Any = hs
    system = loose.System("cards", sources=[world.taps, world.verdicts], views=world.by_card)
    assert system.views == (world.by_card,)
    assert hash(system) == hash(replace(system))
    costs = {"false_positive_cost": 1.0, "false_negative_cost": 1.0}
    assert loose.Requirements(**costs, slices="shop").slices == ("shop",)
    assert loose.Gate("auc", at_least=0.6, slices=["shop"]).slices == ("shop",)
    assert loose.Entity("card", key=["card"]).key == ("card",)
    assert hs.Estimator("a:B", {"x": [1, 2]}).parameters == (("x", (1, 2)),)


def test_the_system_finds_its_parts(world: Any) -> None:
    system, model = world.system, world.model
    assert system.source("taps") is world.taps
    assert system.view("by_card") is world.by_card
    assert system.model("fraud_model") is model
    assert system.deployment("fraud_model") is world.deployment
    assert system.retrain("fraud_model").model == model
    assert system.views_of(model) == (world.by_card,)
    for find in (system.source, system.view, system.model, system.deployment):
        with pytest.raises(LookupError, match="nothing"):
            find("nothing")


def test_the_needs_of_on_demand_features_are_found_once(world: Any) -> None:
    @hs.on_demand("amount", world.by_card["count_1h"])
    def per_tap(amount: Any, count: Any) -> Any:
        return amount / count

    @hs.on_demand(per_tap, "retries")
    def deeper(value: Any, retries: Any) -> Any:
        return value + retries

    model = replace(world.model, features=(deeper, per_tap, "amount"))
    assert list(model_inputs(model)) == ["amount", world.by_card["count_1h"], "retries"]
    assert world.system.views_of(model) == (world.by_card,)
    assert per_tap(6.0, 3.0) == 2.0


def test_an_on_demand_feature_is_its_code() -> None:
    def declare(constant: float) -> hs.OnDemand:
        @hs.on_demand("amount")
        def scaled(amount: Any) -> Any:
            return amount * constant

        return scaled

    assert declare(2.0) == declare(2.0)
    assert declare(2.0) != declare(3.0)


SYSTEM = """
from __future__ import annotations
import homeostat as hs
from homeostat import col, count, mean

SCALE = 2.0

class Tap(hs.Event):
    tap_id: str
    shop: str
    at: hs.Timestamp
    amount: float

taps = hs.EventSource("taps", Tap, event_id="tap_id", event_time="at")
shop = hs.Entity("shop", key="shop")
by_shop = hs.FeatureView("by_shop", entity=shop, source=taps, aggregations=(
    mean("amount").over("1h"), count(where=col("amount") > 15).over("3h")))

@hs.on_demand("amount")
def scaled(amount):
    return amount * SCALE

label = hs.Label("big", predicts=taps, outcome=taps, join_on="tap_id",
                 value=col("amount") > 100, delay="1d", when_absent=None)
model = hs.Model("big_model", features=(*by_shop.all(), scaled), label=label,
                 estimator=hs.Estimator("lightgbm:LGBMClassifier"),
                 split=hs.Split(validation="1d", test="1d"),
                 requirements=hs.Requirements(false_positive_cost=1.0, false_negative_cost=2.0))
system = hs.System("shops", sources=(taps,), views=(by_shop,), models=(model,))
"""


def load(folder: Path, text: str) -> hs.System:
    (folder / "system.py").write_text(text)
    system: hs.System = runpy.run_path(str(folder / "system.py"), run_name="system")["system"]
    return system


def test_the_same_file_gives_the_same_system(tmp_path: Path) -> None:
    first, second = load(tmp_path, SYSTEM), load(tmp_path, SYSTEM)
    assert first == second
    assert hash(first) == hash(second)
    assert first.hash == second.hash
    (tmp_path / "elsewhere").mkdir()
    assert load(tmp_path / "elsewhere", SYSTEM).hash == first.hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('over("1h")', 'over("2h")'),
        ("mean(", "hs.maximum("),
        ("> 15", ">= 15"),
        ("amount * SCALE", "amount / SCALE"),
        ("SCALE = 2.0", "SCALE = 3.0"),
        ("when_absent=None", "when_absent=False"),
        ("false_positive_cost=1.0", "false_positive_cost=1.5"),
        ("amount: float\n", "amount: float | None\n"),
        ('event_time="at")', 'event_time="at", lateness="2d")'),
        ('event_time="at")', 'event_time="at", dedup="2d")'),
        ('System("shops"', 'System("stores"'),
        ('"lightgbm:LGBMClassifier"', '"lightgbm:LGBMClassifier", {"num_leaves": 7}'),
    ],
)
def test_a_change_of_meaning_changes_the_system(tmp_path: Path, old: str, new: str) -> None:
    assert old in SYSTEM
    first, second = load(tmp_path, SYSTEM), load(tmp_path, SYSTEM.replace(old, new, 1))
    assert first != second
    assert first.hash != second.hash


def test_how_long_ids_are_remembered_is_said_of_the_source_alone(tmp_path: Path) -> None:
    forgetful = SYSTEM.replace('event_time="at")', 'event_time="at", dedup="30d")')
    first, second = load(tmp_path, SYSTEM), load(tmp_path, forgetful)
    assert (first.sources[0].dedup_us, second.sources[0].dedup_us) == (None, 30 * 24 * HOUR)
    assert content_hash(first.sources[0]) != content_hash(second.sources[0])
    for one, other in ((first.views[0], second.views[0]), (first.models[0], second.models[0])):
        assert content_hash(one) == content_hash(other)
        assert one != other


def test_an_expression_is_a_value() -> None:
    left, right = (hs.col("a") > 1).expression, (hs.col("a") > 1).expression
    assert isinstance(left, Expression)
    assert left == right
    assert left != (hs.col("a") > 2).expression
