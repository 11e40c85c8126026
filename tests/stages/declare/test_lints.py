"""Each rule warns of its mistake, says what to do, and leaves sound systems alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import homeostat as hs
from homeostat.declare.lints import Lint, lints


def rules(system: hs.System) -> list[str]:
    return [lint.rule for lint in lints(system)]


def quiet(world: Any, **changes: Any) -> hs.System:
    """Return the world without the one thing it is warned of: a personal key."""
    by_shop = replace(world.by_card, name="by_shop", entity=world.shop)
    required = replace(world.model.requirements, gates=(hs.Gate("auc", at_least=0.5),))
    model = replace(world.model, features=(*by_shop.all(), "amount"), requirements=required)
    arguments: dict[str, Any] = {
        "sources": (world.taps, world.verdicts),
        "views": (by_shop,),
        "models": (model,),
        "deployments": (replace(world.deployment, model=model),),
        "monitors": (
            hs.Freshness(world.taps, "1h"),
            hs.Drift(model),
            hs.Quality(model, "auc", worse_by=0.05),
        ),
        "retraining": (hs.Retrain(model),),
    }
    given = {name: c(model) if callable(c) else c for name, c in changes.items()}
    return hs.System("cards", **{**arguments, **given})


def with_features(world: Any, view: Any, *more: Any, **requirements: Any) -> hs.System:
    """Return a quiet system whose model reads `view` and `more`."""
    sound = quiet(world)
    model = replace(
        sound.models[0],
        features=(*view.all(), *more),
        requirements=replace(sound.models[0].requirements, **requirements),
    )
    sources = tuple({s.name: s for s in (world.taps, world.verdicts, view.source)}.values())
    return quiet(
        world,
        sources=sources,
        views=(view,),
        models=(model,),
        deployments=(replace(world.deployment, model=model),),
        monitors=(
            *(hs.Freshness(source, "1h") for source in sources),
            hs.Drift(model),
            hs.Quality(model, "auc", worse_by=0.05),
        ),
        retraining=(hs.Retrain(model),),
    )


def losses(world: Any, **changes: Any) -> Any:
    given = {"source": world.verdicts, **changes}
    return hs.FeatureView(
        "losses", entity=world.shop, aggregations=(hs.mean("loss").over("1d"),), **given
    )


class Left(hs.Event):
    """The card was taken away."""

    tap_id: str
    shop: str
    at: hs.Timestamp


class Note(hs.Event):
    """Something else about a shop."""

    note_id: str
    shop: str
    at: hs.Timestamp
    stars: int


def about_shop(event: type[hs.Event], event_id: str, **changes: Any) -> hs.FeatureView:
    source = hs.EventSource("others", event, event_id=event_id, event_time="at", delay="1m")
    return hs.FeatureView(
        "others_view",
        entity=hs.Entity("shop", key="shop"),
        source=source,
        aggregations=(hs.count().over("1h"),),
        **changes,
    )


def test_a_sound_system_is_left_alone(world: Any) -> None:
    assert lints(quiet(world)) == ()


def test_lints_are_values_in_a_fixed_order(world: Any) -> None:
    assert lints(world.system) == lints(world.system)
    found = [lint.rule for lint in lints(world.system)]
    assert found == ["personal-key", "no-gate", "not-enforced"]


def test_the_outcome_as_a_feature(world: Any) -> None:
    assert rules(with_features(world, losses(world, exclude_own=False))) == ["own-outcome"]
    assert rules(with_features(world, losses(world))) == []


def test_the_own_event_as_a_feature(world: Any) -> None:
    assert rules(with_features(world, about_shop(Left, "tap_id", exclude_own=False))) == [
        "own-event"
    ]
    assert rules(with_features(world, about_shop(Left, "tap_id"))) == []
    assert rules(with_features(world, about_shop(Note, "note_id"))) == []


def test_an_outcome_whose_id_the_request_lacks(world: Any) -> None:
    class Told(hs.Event):
        verdict_id: str
        tap_id: str
        shop: str
        at: hs.Timestamp
        fraud: bool
        loss: float

    told = hs.EventSource("verdicts", Told, event_id="verdict_id", event_time="at", delay="1h")
    bent = world._replace(
        verdicts=told, model=replace(world.model, label=replace(world.label, outcome=told))
    )
    sound = quiet(bent)
    model = replace(sound.models[0], features=losses(bent).all())
    system = hs.System("cards", sources=(world.taps, told), views=(losses(bent),), models=(model,))
    own = next(lint for lint in lints(system) if lint.rule == "own-outcome")
    assert "add the field 'verdict_id' to the request 'taps'" in own.advice


def test_personal_fields(world: Any) -> None:
    by_shop = quiet(world).views[0]
    assert rules(with_features(world, by_shop, "card")) == ["personal-feature"]
    assert rules(with_features(world, by_shop, slices=("card",))) == ["personal-slice"]
    gated = with_features(world, by_shop, gates=(hs.Gate("auc", at_least=0.5, slices=("card",)),))
    assert rules(gated) == ["personal-slice"]


CHANGES: list[tuple[dict[str, Any], list[str]]] = [
    ({"monitors": lambda m: (hs.Drift(m), hs.Freshness(m.label.predicts, "1h"))},
     ["no-quality-monitor", "dead-trigger"]),
    ({"monitors": lambda m: (hs.Quality(m, "auc", worse_by=0.1),
                             hs.Freshness(m.label.predicts, "1h"))},
     ["no-drift-monitor", "dead-trigger"]),
    ({"monitors": lambda m: (hs.Drift(m), hs.Quality(m, "auc", worse_by=0.1))},
     ["no-freshness-monitor"]),
    ({"retraining": ()}, ["no-retraining"]),
    ({"deployments": (), "monitors": lambda m: (hs.Drift(m),),
      "retraining": lambda m: (hs.Retrain(m, on=("drift",)),)}, ["no-deployment"]),
    ({"deployments": lambda m: (deployed(m, guards=()),)}, ["no-guard"]),
    ({"deployments": lambda m: (deployed(m, guards=(hs.Guard("error_rate", at_most=0.1),)),)},
     ["no-labelled-guard"]),
    ({"deployments": lambda m: (deployed(m, rollout=hs.Shadow("1d"), guards=(
        hs.Guard("error_rate", at_most=0.1),)),)}, []),
    ({"deployments": lambda m: (deployed(m, rollout=hs.Canary((0.1,), every="30d")),)},
     ["canary-before-labels"]),
]  # fmt: skip


def deployed(model: hs.Model, **changes: Any) -> hs.Deployment:
    given: dict[str, Any] = {
        "rollout": (hs.Canary((0.1,), every="31d"),),
        "guards": (hs.Guard("cost", within=0.1),),
        **changes,
    }
    return hs.Deployment(model=model, degradation=hs.Degradation(score=0.1), **given)


@pytest.mark.parametrize(("changes", "found"), CHANGES, ids=[str(c[1]) for c in CHANGES])
def test_models_that_are_not_cared_for(
    world: Any, changes: dict[str, Callable[[Any], Any]], found: list[str]
) -> None:
    assert rules(quiet(world, **changes)) == found


def test_a_deployed_model_without_gates(world: Any) -> None:
    sound = quiet(world)
    model = replace(sound.models[0], requirements=replace(sound.models[0].requirements, gates=()))
    system = quiet(
        world,
        models=(model,),
        deployments=(replace(world.deployment, model=model),),
        monitors=(
            hs.Freshness(world.taps, "1h"),
            hs.Drift(model),
            hs.Quality(model, "auc", worse_by=0.05),
        ),
        retraining=(hs.Retrain(model),),
    )
    assert rules(system) == ["no-gate"]


def labelled_by(world: Any, outcome: Any, **given: Any) -> hs.System:
    """Return a system whose only model has another label and is not deployed."""
    label = replace(world.label, outcome=outcome, value=hs.col("note_id") != "", **given)
    model = replace(quiet(world).models[0], label=label)
    return hs.System(
        "cards", sources=(world.taps, outcome), views=quiet(world).views, models=(model,)
    )


def test_a_label_that_several_outcomes_can_tell(world: Any) -> None:
    notes = about_shop(Note, "note_id").source
    found = labelled_by(world, notes, join_on="shop")
    assert rules(found) == ["several-outcomes", "no-deployment"]
    for which in ("first", "last", "any"):
        assert rules(labelled_by(world, notes, join_on="shop", which=which)) == ["no-deployment"]
    assert "several-outcomes" not in rules(world.system)


def test_companions_need_no_deployment(world: Any) -> None:
    sound = quiet(world)
    plain = replace(sound.models[0], name="plain", features=("amount",))
    system = replace(
        sound,
        models=(*sound.models, plain),
        retraining=(hs.Retrain(sound.models[0], companions=(plain,)),),
    )
    assert rules(system) == []


def test_what_nobody_uses(world: Any) -> None:
    sound = quiet(world)
    unused = about_shop(Note, "note_id")
    system = replace(sound, sources=(*sound.sources, unused.source), views=(*sound.views, unused))
    assert rules(system) == ["unused-view"]
    assert rules(replace(sound, sources=system.sources)) == ["unused-source"]


def test_clocks_that_keep_every_event_out(world: Any) -> None:
    late = replace(about_shop(Note, "note_id").source, delay="2d", lateness="1d")
    instant = replace(late, delay="0s")
    at_the_edge = replace(late, delay="1d", lateness="1d")
    view = about_shop(Note, "note_id")
    assert rules(with_features(world, replace(view, source=late))) == ["always-too-late"]
    assert rules(with_features(world, replace(view, source=instant))) == ["instant-history"]
    assert rules(with_features(world, replace(view, source=at_the_edge))) == []


def test_ids_that_are_forgotten_while_their_events_count(world: Any) -> None:
    view = about_shop(Note, "note_id")
    source = replace(view.source, delay="1s", lateness="1d", clock_skew="5s")
    for dedup, found in (("1d4s", ["short-memory"]), ("1d5s", []), (None, [])):
        forgetful = replace(view, source=replace(source, dedup=dedup))
        assert rules(with_features(world, forgetful)) == found


def test_a_warning_is_one_sentence_that_ends_in_advice(world: Any) -> None:
    systems = [
        world.system,
        with_features(world, losses(world)),
        quiet(world, deployments=(), monitors=()),
    ]
    for lint in (lint for system in systems for lint in lints(system)):
        assert isinstance(lint, Lint)
        assert str(lint) == f"{lint.rule}: {lint.where}: {lint.found}; {lint.advice}."
        assert all((lint.where, lint.found, lint.advice))
