"""Mistakes between declarations: each piece is sound, together they are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import homeostat as hs
from homeostat.core.errors import HomeostatError, SystemInvalid
from homeostat.declare.mistakes import collecting


class Numbered(hs.Event):
    """Like a tap, with numbers where a tap has texts."""

    tap_id: int
    card: int
    at: hs.Timestamp
    amount: float


def with_model(world: Any, **changes: Any) -> dict[str, Any]:
    """Return arguments for a system with a changed model and nothing that hangs on it."""
    model = replace(world.model, **changes)
    return {
        "models": (model,), "deployments": (), "monitors": (), "retraining": (), "policies": ()
    }  # fmt: skip


def numbered_view(world: Any, **changes: Any) -> dict[str, Any]:
    numbered = hs.EventSource("numbered", Numbered, event_id="tap_id", event_time="at")
    view = hs.FeatureView(
        "numbered_view",
        entity=world.card,
        source=numbered,
        aggregations=(hs.count().over("1h"),),
        **changes,
    )
    return {
        **with_model(world, features=view.all()),
        "sources": (world.taps, world.verdicts, numbered),
        "views": (view,),
    }


def own_view(world: Any, *made: Any, **changes: Any) -> dict[str, Any]:
    view = hs.FeatureView("own", changes.pop("entity", world.card), world.taps, made, **changes)
    return {**with_model(world, features=view.all()), "views": (world.by_card, view)}


@hs.on_demand("shop")
def of_a_string(shop: Any) -> Any:
    return shop


@hs.on_demand("amuont")
def of_a_typo(amount: Any) -> Any:
    return amount


CROSS: list[tuple[Callable[[Any], dict[str, Any]], list[str]]] = [
    (lambda w: {"sources": (w.taps, w.taps, w.verdicts)}, ["'taps': declared twice"]),
    (lambda w: {"views": (w.by_card, w.by_card)}, ["view 'by_card': declared twice"]),
    (lambda w: {"deployments": (w.deployment,) * 2}, ["'fraud_model': declared twice"]),
    (lambda w: {"retraining": (hs.Retrain(w.model),) * 2}, ["retraining of model 'fraud_model'"]),
    (
        lambda w: {"sources": (w.verdicts,), "policies": ()},
        [
            "view 'by_card': no event source named 'taps'",
            "model 'fraud_model': no event source named 'taps'",
            "freshness monitor: no event source named 'taps'",
        ],
    ),
    (lambda w: {"views": ()}, ["model 'fraud_model': no view named 'by_card'"] * 3),
    (
        lambda w: {"models": ()},
        [
            "deployment of 'fraud_model': no model",
            "drift monitor: no model",
            "quality monitor: no model",
            "retraining of 'fraud_model': no model",
        ],
    ),
    (
        lambda w: {"deployments": (replace(w.deployment, model=replace(w.model, seed=7)),)},
        ["model 'fraud_model' differs from the one in the system"],
    ),
    (
        lambda w: with_model(w, features=(hs.FeatureRef("by_card", "count_2h"),)),
        ["no feature named 'count_2h'. Did you mean 'count_1h'"],
    ),
    (lambda w: with_model(w, features=(of_a_typo,)), ["no request field named 'amuont'"]),
    (lambda w: with_model(w, features=(of_a_string,)), ["input 'shop' is a string"]),
    (
        numbered_view,
        ["'card' is a string in the request 'taps' and a integer in 'numbered'"],
    ),
    (
        lambda w: own_view(w, hs.distinct_count("shop"), hs.count()),
        ["view 'own' summarizes the whole history (shop_distinct_count), out of which"],
    ),
    (
        lambda w: own_view(w, hs.count().over("1h"), entity=hs.Entity("tap", key="tap_id")),
        ["view 'own' is keyed by 'tap_id', the id of the request 'taps' itself"],
    ),
    (
        lambda w: {"policies": (hs.Access("analyst", (replace(w.taps, lateness="9d"),)),)},
        ["access policy: event source 'taps' differs"],
    ),
]


@pytest.mark.parametrize(("changes", "messages"), CROSS, ids=[m[1][0][:40] for m in CROSS])
def test_mistakes_between_declarations(
    world: Any, changes: Callable[[Any], dict[str, Any]], messages: list[str]
) -> None:
    with pytest.raises(SystemInvalid) as raised:
        replace(world.system, **changes(world))
    said = [str(mistake) for mistake in raised.value.mistakes]
    assert len(said) == len(messages), said
    for text, message in zip(said, messages, strict=True):
        assert message in text


def test_a_request_must_carry_the_keys_of_its_views(world: Any) -> None:
    class Anonymous(hs.Event):
        tap_id: str
        at: hs.Timestamp

    anonymous = hs.EventSource("anonymous", Anonymous, event_id="tap_id", event_time="at")
    label = replace(world.label, predicts=anonymous)
    own = replace(world.by_card, source=replace(world.taps, event_id="shop"), name="own")
    model = replace(world.model, label=label, features=(*world.by_card.all(), *own.all()))
    with pytest.raises(SystemInvalid) as raised:
        hs.System(
            "cards",
            sources=(anonymous, world.taps, world.verdicts),
            views=(world.by_card, own),
            models=(model,),
        )
    said = str(raised.value)
    assert "view 'by_card' is keyed by card, which the request 'anonymous' does not carry" in said
    assert "view 'own' is keyed by card, which the request 'anonymous' does not carry" in said


@pytest.mark.parametrize("merged", [False, True])
def test_a_view_may_count_the_own_event_if_it_says_so(world: Any, merged: bool) -> None:
    made = (hs.distinct_count("shop"),) if merged else (hs.count().over("1h"),)
    entity = world.card if merged else hs.Entity("tap", key="tap_id")
    replace(world.system, **own_view(world, *made, entity=entity, exclude_own=False))


def test_an_own_event_is_one_whose_id_the_request_carries(world: Any) -> None:
    assert world.by_card.own_field(world.taps) == "tap_id"
    assert replace(world.by_card, exclude_own=False).own_field(world.taps) is None
    by_tap = replace(world.by_card, entity=hs.Entity("tap", key="tap_id"))
    assert by_tap.own_field(world.taps) is None  # it looks the event itself up
    renamed = replace(world.by_card, source=replace(world.taps, event_id="shop"))
    assert renamed.own_field(world.taps) == "shop"


def test_a_system_reports_into_a_surrounding_check(world: Any) -> None:
    with collecting() as found:
        hs.Entity("a b", key="x")
        system = replace(world.system, views=())
    assert [type(mistake) for mistake in found][1:] == [SystemInvalid]
    assert isinstance(found[1], HomeostatError)
    assert system.views == ()
