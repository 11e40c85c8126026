"""A whole system small enough for a test: card payments, and which of them were fraud."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

import homeostat as hs
from homeostat import col, count, mean, share, sum_

__all__ = ["TOY_START", "toy_events", "toy_system"]

TOY_START = datetime(2024, 3, 1, tzinfo=UTC)


class Payment(hs.Event):
    """Somebody asks to pay."""

    payment_id: str
    card: str
    merchant: str
    amount: float
    asked_at: hs.Timestamp


class Verdict(hs.Event):
    """Hours later it is known whether the payment was fraud."""

    payment_id: str
    merchant: str
    judged_at: hs.Timestamp
    fraud: bool


def toy_system(*, trees: int = 8) -> hs.System:
    """Return the system: two sources, two views, one deployed model, monitors and retraining."""
    payments = hs.EventSource(
        "payments", Payment, event_id="payment_id", event_time="asked_at", lateness="1h"
    )
    verdicts = hs.EventSource(
        "verdicts", Verdict, event_id="payment_id", event_time="judged_at", lateness="1d"
    )
    cards = hs.FeatureView(
        "cards",
        hs.Entity("card", key="card"),
        payments,
        (count().over("1h", "1d"), sum_("amount").over("1d"), mean("amount").over("1d")),
    )
    merchants = hs.FeatureView(
        "merchants",
        hs.Entity("merchant", key="merchant"),
        verdicts,
        (share(col("fraud") == True).named("fraud_share").over("2d"),),  # noqa: E712
    )

    @hs.on_demand("amount", cards["amount_mean_1d"])
    def times_usual(amount: object, usual: object) -> object:
        return np.asarray(amount) / np.asarray(usual)

    fraud = hs.Label(
        "fraud",
        predicts=payments,
        outcome=verdicts,
        join_on="payment_id",
        value=col("fraud") == True,  # noqa: E712
        delay="6h",
        when_absent=False,
    )
    model = hs.Model(
        "fraud",
        features=(*cards.all(), *merchants.all(), times_usual, "amount", "merchant"),
        label=fraud,
        estimator=hs.Estimator(
            "lightgbm:LGBMClassifier",
            {"n_estimators": trees, "num_leaves": 7, "min_child_samples": 5},
        ),
        split=hs.Split(validation="1d", test="1d"),
        requirements=hs.Requirements(
            false_positive_cost=1,
            false_negative_cost=5,
            gates=(hs.Gate("auc", at_least=0.5),),
            slices=("merchant",),
        ),
    )
    plain = hs.Model(
        "fraud_plain",
        features=("amount", "merchant"),
        label=fraud,
        estimator=model.estimator,
        split=model.split,
        requirements=model.requirements,
    )
    return hs.System(
        "toy",
        sources=(payments, verdicts),
        views=(cards, merchants),
        models=(model, plain),
        deployments=(
            hs.Deployment(
                model=model,
                rollout=(hs.Shadow("1d"), hs.Canary((0.3,), every="1d")),
                guards=(hs.Guard("cost", within=0.5, rows=20),),
                degradation=hs.Degradation(score=0.1),
            ),
        ),
        monitors=(
            hs.Freshness(payments, "1d"),
            hs.Drift(model, psi=0.3, window="2d"),
            hs.Skew(model),
            hs.Quality(model, "auc", worse_by=0.3, window="2d", rows=50),
        ),
        retraining=(hs.Retrain(model, every="4d", cooldown="2d", companions=(plain,)),),
    )


def toy_events(*, days: int = 12, per_day: int = 150, seed: int = 7) -> dict[str, pl.DataFrame]:
    """Return events by source, each with `known_at`; some are late, repeated or from the future.

    Fraud is likelier for large amounts and for one merchant, from the middle of the span on also
    for another: the world changes.
    """
    draw = np.random.default_rng(seed)
    n = days * per_day
    seconds = np.sort(draw.uniform(0, days * 86_400, n)).round(3)
    asked = [TOY_START + timedelta(seconds=float(s)) for s in seconds]
    merchant = draw.choice(["bakery", "casino", "kiosk", "ジム"], n)
    amount = draw.lognormal(3, 1, n).round(2)
    risky = np.where(seconds < days * 43_200, merchant == "casino", merchant == "kiosk")
    chance = 1 / (1 + np.exp(-(np.log(amount) - 4 + 2.5 * risky)))
    fraud = draw.uniform(size=n) < chance
    judged = [
        a + timedelta(minutes=float(m)) for a, m in zip(asked, draw.uniform(5, 300, n), strict=True)
    ]
    ids = [f"p{i:06d}" for i in range(n)]
    payments = pl.DataFrame(
        {
            "payment_id": ids,
            "card": [f"card-{c}" for c in draw.integers(0, 40, n)],
            "merchant": merchant,
            "amount": amount,
            "asked_at": asked,
            "known_at": asked,
        }
    )
    verdicts = pl.DataFrame(
        {
            "payment_id": ids,
            "merchant": merchant,
            "judged_at": judged,
            "fraud": fraud,
            "known_at": judged,
        }
    )
    again = payments[:: max(n // 20, 1)].with_columns(pl.col("known_at").dt.offset_by("10m"))
    early = payments[5 :: max(n // 10, 1)].with_columns(
        payment_id=pl.col("payment_id") + "-early", asked_at=pl.col("asked_at").dt.offset_by("2h")
    )
    late = payments[9 :: max(n // 10, 1)].with_columns(
        payment_id=pl.col("payment_id") + "-late", known_at=pl.col("known_at").dt.offset_by("3h")
    )
    slow = payments[11 :: max(n // 10, 1)].with_columns(
        payment_id=pl.col("payment_id") + "-slow", known_at=pl.col("known_at").dt.offset_by("30m")
    )
    return {
        "payments": pl.concat([payments, again, early, late, slow]).sort("known_at", "payment_id"),
        "verdicts": verdicts.sort("known_at", "payment_id"),
    }
