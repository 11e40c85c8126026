"""A small model and its samples: enough to train, judge and package in a tenth of a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from homeostat.core.durations import Micros
from homeostat.declare.expressions import col
from homeostat.declare.models import Estimator, Gate, Label, Model, Requirements, Split
from homeostat.declare.schema import Event, Timestamp
from homeostat.declare.sources import EventSource
from homeostat.declare.system import System
from homeostat.declare.transforms import Transform
from homeostat.features.assemble import Features
from homeostat.train.dataset import Sample
from homeostat.train.fit import fit
from homeostat.train.lineage import Lineage, definition_hashes
from homeostat.train.package import Origin, Package

__all__ = ["CARRIERS", "TOY_LABEL", "toy_model", "toy_package", "toy_sample", "toy_system"]

CARRIERS: tuple[str | None, ...] = ("AA", "DL", "UA", None)


class ToyRequest(Event):
    """A flight is due."""

    flight: str
    due_at: Timestamp
    carrier: str | None
    distance: float | None
    hour: int


class ToyOutcome(Event):
    """A flight has landed."""

    flight: str
    landed_at: Timestamp
    delay: float | None


REQUESTS = EventSource("requests", ToyRequest, event_id="flight", event_time="due_at")
OUTCOMES = EventSource("outcomes", ToyOutcome, event_id="flight", event_time="landed_at")

TOY_LABEL = Label(
    "late",
    predicts=REQUESTS,
    outcome=OUTCOMES,
    join_on="flight",
    value=col("delay") >= 15,
    delay="2h",
    when_absent=True,
)

SMALL: Mapping[str, object] = {"n_estimators": 12, "num_leaves": 7, "min_child_samples": 5}


def toy_model(
    estimator: Estimator | None = None,
    gates: tuple[Gate, ...] = (),
    seed: int = 0,
    transforms: tuple[Transform, ...] = (),
) -> Model:
    """Return a model of three request fields, one of them a category.

    >>> toy_model().feature_names()
    ('distance', 'carrier', 'hour')
    """
    return Model(
        "late_arrival",
        features=("distance", "carrier", "hour"),
        label=TOY_LABEL,
        estimator=estimator or Estimator("lightgbm:LGBMClassifier", SMALL),
        split=Split(validation="2d", test="1d", history="30d"),
        requirements=Requirements(
            false_positive_cost=1.0, false_negative_cost=4.0, gates=gates, slices=("carrier",)
        ),
        seed=seed,
        transforms=transforms,
    )


def toy_system(**parts: Any) -> System:
    """Return the system that declares `toy_model(**parts)`."""
    return System("toy", sources=(REQUESTS, OUTCOMES), models=(toy_model(**parts),))


def toy_sample(rows: int = 300, seed: int = 0) -> Sample:
    """Return rows whose label depends on the hour and the carrier, with some values missing."""
    random = np.random.default_rng(seed)
    carrier = random.integers(0, len(CARRIERS), rows)
    hour = random.integers(0, 24, rows).astype(np.float64)
    distance = np.where(random.random(rows) < 0.1, np.nan, random.normal(1000.0, 300.0, rows))
    matrix = np.column_stack([distance, np.full(rows, np.nan), hour])
    odds = 0.15 * (hour - 12) + 0.8 * (carrier == 1) + random.normal(0.0, 1.0, rows)
    categories = {"carrier": [CARRIERS[c] for c in carrier]}
    return Sample(Features(matrix, categories), odds > 0.5)


def toy_package(at: Micros = 0, **parts: Any) -> Package:
    """Return the trained package of `toy_model(**parts)`, its lineage as of `at`."""
    model, system = toy_model(**parts), toy_system(**parts)
    fitted = fit(model, toy_sample(300, seed=1), toy_sample(100, seed=2), threads=1)
    origin = Origin(
        definitions=definition_hashes(system, model),
        reference={"hour": {"edges": (0.0, 12.0), "counts": [1, 2]}},
        lineage=Lineage.of(system, model, at, {"requests": 3}, {"train": {"rows": 300}}),
    )
    metrics = {"test": {"auc": 0.75, "precision": None}}
    return Package.of(fitted, model.name, 0.3, origin, metrics)
