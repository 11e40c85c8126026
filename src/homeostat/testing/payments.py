"""A small system of card payments, with every part of its service replaceable: for drills."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import homeostat as hs
from homeostat import col, count, mean
from homeostat.core.clock import ManualClock
from homeostat.serve.http import Application, Limits
from homeostat.serve.metrics import Metrics
from homeostat.serve.ports import Stopwatch
from homeostat.serve.predictor import Predictor
from homeostat.serve.routing import Arm, Route
from homeostat.serve.service import LocalService, ServiceParts
from homeostat.testing.drills import FixedScores, KeptLog
from homeostat.testing.memory_store import MemoryStore

__all__ = ["NOON", "Bench", "arm", "payments", "tap"]

NOON = 1_372_680_000_000_000  # 2013-07-01T12:00:00Z


class Tap(hs.Event):
    """A card was held to a reader."""

    tap_id: str
    card: Annotated[str, hs.Personal]
    shop: str
    tapped_at: hs.Timestamp
    amount: float
    items: int | None
    online: bool
    note: str | None


class Claim(hs.Event):
    """The holder says that it was somebody else."""

    tap_id: str
    claimed_at: hs.Timestamp
    fraud: bool


def per_item(amount: Any, items: Any) -> Any:
    """Return the price of an item."""
    return amount / items


def payments(**degradation: Any) -> hs.System:
    """Return the system; `degradation` changes what a failure answers, or the two limits.

    `on_demand` is computed from amount and items.

    The deadline is a minute, so that no test meets it on a busy machine unless it means to.
    """
    limits = {
        name: degradation.pop(name, default)
        for name, default in (("deadline", "1m"), ("max_in_flight", 256))
    }
    computed = degradation.pop("on_demand", per_item)
    taps = hs.EventSource("taps", Tap, event_id="tap_id", event_time="tapped_at")
    claims = hs.EventSource("claims", Claim, event_id="tap_id", event_time="claimed_at")
    card = hs.Entity("card", key="card")
    view = hs.FeatureView(
        "card_taps", card, taps, aggregations=(count().over("1h"), mean("amount").over("1h"))
    )
    label = hs.Label(
        "fraud", predicts=taps, outcome=claims, join_on="tap_id", value=col("fraud"),
        delay="30d", when_absent=False,
    )  # fmt: skip
    ratio = hs.on_demand("amount", "items")(computed)
    model = hs.Model(
        "fraud",
        features=(*view.all(), "amount", "shop", "online", "items", ratio),
        label=label,
        estimator=hs.Estimator("lightgbm:LGBMClassifier"),
        split=hs.Split(validation="7d", test="7d"),
        requirements=hs.Requirements(false_positive_cost=1.0, false_negative_cost=3.0),
    )
    deployment = hs.Deployment(
        model=model,
        rollout=(hs.Shadow("1d"), hs.Canary((0.1,), every="1d")),
        degradation=hs.Degradation(**{"score": 0.125, **degradation}),
        **limits,
    )
    return hs.System(
        "payments", sources=(taps, claims), views=(view,), models=(model,),
        deployments=(deployment,),
    )  # fmt: skip


def tap(**changes: Any) -> dict[str, Any]:
    """Return a request as JSON types."""
    base = {
        "tap_id": "t1", "card": "c1", "shop": "bakery", "tapped_at": "2013-07-01T12:00:00Z",
        "amount": 12.5, "items": 2, "online": False,
    }  # fmt: skip
    return {k: v for k, v in {**base, **changes}.items() if v is not ...}


def arm(score: Any, version: int = 1, threshold: float = 0.5) -> Arm:
    """Return an arm with a fixed score, or with any servable."""
    servable = score if hasattr(score, "score") else FixedScores(score)
    return Arm(version, servable, threshold)


@dataclass
class Bench:
    """A service with every part at hand."""

    system: hs.System
    route: Route
    store: Any = field(default_factory=MemoryStore)
    log: KeptLog = field(default_factory=KeptLog)
    metrics: Metrics = field(default_factory=Metrics)
    stopwatch: Stopwatch = lambda: 0
    made: int = 0

    def new_id(self) -> str:
        """Return p1, p2 and so on."""
        self.made += 1
        return f"p{self.made}"

    def predictor(self) -> Predictor:
        """Return the predictor of the one deployed model."""
        return Predictor(
            self.system,
            self.system.deployments[0],
            stopwatch=self.stopwatch,
            faults=self.metrics.fault,
        )

    def service(self, **parts: Any) -> LocalService:
        """Return a service; `parts` replaces any of its parts."""
        given: dict[str, Any] = {
            "system": self.system,
            "predictors": {"fraud": self.predictor()},
            "routes": lambda model: self.route,
            "store": self.store,
            "clock": ManualClock(NOON),
            "ids": self.new_id,
            "log": self.log,
            "answers": self.log,
            "metrics": self.metrics,
        }
        return LocalService(ServiceParts(**{**given, **parts}))

    def application(self, limits: Limits | None = None) -> Application:
        """Return the HTTP application in front of a new service."""
        return Application(
            self.system,
            self.service(),
            self.metrics,
            lambda model: self.route,
            Limits() if limits is None else limits,
        )
