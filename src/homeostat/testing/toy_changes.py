"""The toy system with declarations drawn anew: what may be applied around its champion."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np

import homeostat as hs
from homeostat import col, count, maximum, mean, share, sum_
from homeostat.declare.system import System
from homeostat.testing.toy_home import patient_toy

__all__ = ["changed_toy", "toy_renamed", "toy_without_code"]


def changed_toy(seed: int) -> System:
    """Return the toy with anything about its model changed, the same for the same seed.

    Views with their windows, conditions and names; the model's features and their order, its
    transforms, code, label and estimator; the deployment's rollout.
    """
    draw, also, old = random.Random(seed), random.Random(f"also {seed}"), patient_toy()
    payments, verdicts = old.sources
    model = old.model("fraud")
    if draw.random() < 0.3:
        payments = replace(payments, lateness=draw.choice(("10m", "3h")))
    cards, merchants = old.views
    pool = [
        count().over("1h", "1d"), count().over("1h", "1d", "2d"), sum_("amount").over("1d"),
        mean("amount").over("1d"), count(col("amount") > 20).named("large").over("6h"),
        maximum("amount").over("1d", hop="1h"), sum_("amount").named("ever"),
    ]  # fmt: skip
    own = draw.sample(pool[2:], draw.randint(1, 4))
    own.insert(draw.randint(0, len(own)), pool[draw.randint(0, 1)])
    where = draw.choice((None, None, col("amount") > 9, col("merchant") != "casino"))
    name = also.choice(("cards", "cards", "by_card"))
    counts_own = {"exclude_own": False} if also.random() < 0.3 else {}
    cards = hs.FeatureView(name, cards.entity, payments, tuple(own), where=where, **counts_own)
    spans = draw.choice((("2d",), ("2d", "3d"), ("1d",)))
    fraudulent = share(col("fraud") == True).named("fraud_share")  # noqa: E712
    merchants = hs.FeatureView("merchants", merchants.entity, verdicts, (fraudulent.over(*spans),))
    busy = hs.FeatureView("busy", merchants.entity, payments, (count().over("1h"),))
    both = (cards, merchants)
    views = draw.choice((both, both[::-1], both[:1], (*both, busy)))
    features: list[Any] = [ref for view in views for ref in view.all()]
    features += ["amount", "merchant"]
    code, kept = _code(draw, model, cards)
    features += code
    draw.shuffle(features)
    features = features[: draw.randint(max(1, len(features) - 2), len(features))]
    names = [f if isinstance(f, str) else f.name for f in features]
    transforms = (hs.Impute(["amount"]),) if "amount" in names and draw.random() < 0.5 else ()
    parameters = {"n_estimators": draw.randint(2, 9), "num_leaves": 5}
    changed = replace(
        model,
        features=tuple(features),
        label=replace(model.label, predicts=payments, delay=also.choice(("6h", "6h", "9h"))),
        transforms=transforms,
        estimator=hs.Estimator("lightgbm:LGBMClassifier", parameters),
    )
    deployment = replace(old.deployments[0], model=changed)
    if also.random() < 0.3:
        deployment = replace(deployment, rollout=(hs.Canary((0.5,), every="1d"),))
    return System(
        "toy", sources=(payments, verdicts), views=views, models=(changed,),
        deployments=(deployment,), kept=kept,
    )  # fmt: skip


def _code(
    draw: random.Random, model: hs.Model, cards: hs.FeatureView
) -> tuple[list[hs.OnDemand], tuple[hs.OnDemand, ...]]:
    """Return the on-demand features of the model, and those that only packages still need."""
    times_usual = next(f for f in model.features if isinstance(f, hs.OnDemand))
    has_mean = "amount_mean_1d" in [spec.name for spec in cards.features()]
    features, kept = list[hs.OnDemand](), tuple[hs.OnDemand, ...]()
    code = draw.choice(("same", "other", "gone", "kept", "kept"))
    if code == "same" and has_mean and cards.name == "cards":
        features.append(times_usual)
    elif code in ("same", "kept"):
        kept = (times_usual,)
    if code in ("other", "kept") and has_mean:

        def twice_usual(amount: Any, usual: Any) -> Any:
            return 2 * np.asarray(amount) / np.asarray(usual)

        name = "times_usual" if code == "other" else "twice_usual"
        features.append(hs.OnDemand(name, ("amount", cards["amount_mean_1d"]), twice_usual))
    return features, kept


def toy_without_code(*, is_kept: bool) -> System:
    """Return the toy whose model has no on-demand feature; `is_kept` keeps it for packages."""
    old = patient_toy()
    was = old.model("fraud")
    code = next(f for f in was.features if isinstance(f, hs.OnDemand))
    model = replace(was, features=tuple(f for f in was.features if f is not code))
    return System(
        "toy", sources=old.sources, views=old.views, models=(model,),
        deployments=(replace(old.deployments[0], model=model),), kept=(code,) if is_kept else (),
    )  # fmt: skip


def toy_renamed(*, is_beside: bool) -> System:
    """Return the toy with its model under another name; `is_beside` deploys the former, too."""
    old = patient_toy()
    deployed = old.deployments[0]
    other = replace(deployed.model, name="fraud_new")
    kept = (deployed,) if is_beside else ()
    return System(
        "toy", sources=old.sources, views=old.views,
        models=(other, *(one.model for one in kept)),
        deployments=(replace(deployed, model=other), *kept),
    )  # fmt: skip
