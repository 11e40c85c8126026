"""Trains a model from the lake: rows, features, fit, judgement, package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.durations import Micros
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.evaluate.challenger import Origin, Trial, train_challenger
from homeostat.evaluate.gates import Judgement
from homeostat.features.assemble import Features
from homeostat.features.table import features_of
from homeostat.lake.tables import Lake
from homeostat.monitor.sketch import sketch_of
from homeostat.train.dataset import Sample, describe_span, labelled, split
from homeostat.train.lineage import Lineage, definition_hashes
from homeostat.train.package import Package
from homeostat.train.registry import Registry
from homeostat.train.servable import Servable

__all__ = ["Alteration", "Trained", "Trainer"]

Alteration = Callable[[Features, NDArray[np.bool_]], Features]
"""Changes the features of a training set, given the labels; the demonstration's saboteur."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A registered version with what its gates found."""

    version: int
    package: Package
    judgement: Judgement


class Trainer:
    """Trains the models of a system from its lake, and registers what comes out."""

    def __init__(self, system: System, lake: Lake, registry: Registry) -> None:
        self._system, self._lake, self._registry = system, lake, registry

    def rows(self, model: Model, until: Micros) -> pl.DataFrame:
        """Return the labelled requests of a model as of `until`, oldest first."""
        requests = self._lake.read(model.label.predicts.name, known_before=until)
        outcomes = self._lake.read(model.label.outcome.name, known_before=until)
        return labelled(model.label, requests, outcomes, until)

    def features(self, model: Model, spine: pl.DataFrame, until: Micros) -> Features:
        """Return the point-in-time features of labelled requests, one row per row."""
        events: dict[str, pl.DataFrame] = {}

        def read_once(source: str) -> pl.DataFrame:
            if source not in events:
                events[source] = self._lake.read(source, known_before=until)
            return events[source]

        return features_of(self._system, model, spine, read_once)

    def train(
        self,
        model: Model,
        until: Micros,
        champion: Package | None = None,
        alteration: Alteration | None = None,
    ) -> Trained:
        """Train, judge and register a model as of an instant.

        Args:
            model: what to train.
            until: nothing known at this instant or later is used.
            champion: the serving package, for gates that compare with it.
            alteration: applied to the features before fitting (the demonstration only).
        """
        rows = split(model, self.rows(model, until), until)
        parts = {"train": rows.train, "validation": rows.validation, "test": rows.test}
        whole = pl.concat(parts.values())
        labels = whole["label"].to_numpy().astype(np.bool_)
        features = self.features(model, whole, until)
        if alteration is not None:
            features = alteration(features, labels)
        cuts = np.cumsum([0, *(frame.height for frame in parts.values())])
        train, validation, test = (
            Sample(_slice(features, begin, end), labels[begin:end])
            for begin, end in pairwise(cuts.tolist())
        )
        origin = Origin(
            definitions=definition_hashes(self._system, model),
            reference=sketch_of(
                train.features.matrix, model.feature_names(), train.features.categories
            ).as_json(),
            lineage=Lineage.of(
                self._system,
                model,
                until,
                {name: self._lake.version(name) for name in self._tables(model)},
                {name: describe_span(frame) for name, frame in parts.items()},
            ),
        )
        slices = {name: rows.test[name].to_list() for name in _slices(model)}
        trial = Trial(train, validation, test, slices)
        comparable = champion is not None and champion.features == model.feature_names()
        rival = Servable(champion) if champion is not None and comparable else None
        challenger = train_challenger(model, trial, origin, rival)
        return Trained(
            self._registry.register(challenger.package, until),
            challenger.package,
            challenger.judgement,
        )

    def _tables(self, model: Model) -> list[str]:
        label = model.label
        views = (view.source.name for view in self._system.views_of(model))
        return sorted({label.predicts.name, label.outcome.name, *views})


def _slices(model: Model) -> set[str]:
    return {*model.requirements.slices, *(s for gate in model.gates for s in gate.slices)}


def _slice(features: Features, begin: int, end: int) -> Features:
    return Features(
        features.matrix[begin:end],
        {name: values[begin:end] for name, values in features.categories.items()},
    )
