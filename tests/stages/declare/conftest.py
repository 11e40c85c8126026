"""A small declared world: taps of cards, their refunds, and the question whether one is fraud."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import pytest

import homeostat as hs


class Tap(hs.Event):
    """A card was held to a reader."""

    tap_id: str
    card: Annotated[str, hs.Personal]
    shop: str
    contactless: bool
    retries: int
    at: hs.Timestamp
    amount: float | None


class Verdict(hs.Event):
    """The bank has decided."""

    tap_id: str
    shop: str
    decided_at: hs.Timestamp
    fraud: bool
    loss: float


class World(NamedTuple):
    """The pieces of one sound system, to be bent by a test."""

    taps: hs.EventSource
    verdicts: hs.EventSource
    card: hs.Entity
    shop: hs.Entity
    by_card: hs.FeatureView
    label: hs.Label
    model: hs.Model
    deployment: hs.Deployment
    system: hs.System


def build(**changes: Any) -> World:
    """Return the world; `changes` replace arguments of the system."""
    taps = hs.EventSource("taps", Tap, event_id="tap_id", event_time="at", delay="1s")
    verdicts = hs.EventSource(
        "verdicts", Verdict, event_id="tap_id", event_time="decided_at", delay="1h"
    )
    card, shop = hs.Entity("card", key="card"), hs.Entity("shop", key="shop")
    by_card = hs.FeatureView(
        "by_card",
        entity=card,
        source=taps,
        aggregations=(hs.count().over("1h", "1d"), hs.mean("amount").over("7d", hop="1h")),
    )
    label = hs.Label(
        "fraud",
        predicts=taps,
        outcome=verdicts,
        join_on="tap_id",
        value=hs.col("fraud"),
        delay="30d",
        when_absent=False,
    )
    model = hs.Model(
        "fraud_model",
        features=(*by_card.all(), "amount"),
        label=label,
        estimator=hs.Estimator("lightgbm:LGBMClassifier", {"n_estimators": 10}),
        split=hs.Split(validation="7d", test="7d"),
        requirements=hs.Requirements(false_positive_cost=1.0, false_negative_cost=10.0),
    )
    deployment = hs.Deployment(
        model=model,
        rollout=(hs.Shadow("2d"), hs.Canary((0.1, 0.5), every="31d")),
        degradation=hs.Degradation(score=0.1),
        guards=(hs.Guard("cost", within=0.1),),
    )
    arguments: dict[str, Any] = {
        "sources": (taps, verdicts),
        "views": (by_card,),
        "models": (model,),
        "deployments": (deployment,),
        "monitors": (
            hs.Freshness(taps, "1h"),
            hs.Drift(model),
            hs.Quality(model, "auc", worse_by=0.05),
        ),
        "retraining": (hs.Retrain(model),),
        "policies": (hs.Erasure(taps, "card"), hs.Retention(taps, "365d")),
    }
    system = hs.System("cards", **{**arguments, **changes})
    return World(taps, verdicts, card, shop, by_card, label, model, deployment, system)


@pytest.fixture(scope="session")
def world() -> World:
    return build()
