"""Trains a model from the lake: rows, features, fit, judgement, package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.durations import Micros
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.evaluate.challenger import Challenger, Origin, Rival, Trial, train_challenger
from homeostat.evaluate.gates import Judgement
from homeostat.features.assemble import Features
from homeostat.features.lateness import marked_late
from homeostat.features.manifest import NotKept, as_manifest
from homeostat.features.table import EventsFrom, features_of
from homeostat.lake.events import LakeEvents, Span
from homeostat.lake.tables import Lake
from homeostat.monitor.sketch import sketch_of
from homeostat.runtime.answers import Answers
from homeostat.runtime.building import Builder, Told, nobody
from homeostat.runtime.feature_memory import FeatureMemory
from homeostat.runtime.in_service import bound_package
from homeostat.runtime.prediction_history import PredictionHistory
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
    """Trains the models of a system from its lake, and registers what comes out.

    Args:
        system: the declarations.
        lake: holds the events, and the predictions that trainings look at.
        registry: keeps the packages.
        predictions: has predictions that the lake has not taken over yet, for `rows` and `table`.
    """

    def __init__(
        self,
        system: System,
        lake: Lake,
        registry: Registry,
        predictions: PredictionHistory | None = None,
    ) -> None:
        self._system, self._lake, self._registry = system, lake, registry
        self._answers = Answers(system, lake, predictions)
        self._memory = FeatureMemory(system)
        self._last_rows: tuple[object, pl.DataFrame] | None = None

    def rows(
        self, model: Model, until: Micros, tables: Mapping[str, int] | None = None
    ) -> pl.DataFrame:
        """Return the labelled requests of a model as of `until`, oldest first.

        `tables` are the versions of the lake's tables to read, None for the present ones.
        """
        label = model.label
        sources, own = self._sources(model), self._answers.own(label, model.name)
        logs = None if tables is None else {t: v for t, v in tables.items() if t not in sources}
        read_of = {label.predicts.name, label.outcome.name, *(logs or ())}
        versions = None if tables is None else {name: tables[name] for name in read_of}
        key = (label, own, until, versions)
        if self._last_rows is None or self._last_rows[0] != key:  # companions share the rows
            read = self._reader(until, tables)
            requests = self._answers.asked(read(label.predicts.name), label, own, until, logs)
            found = labelled(label, requests, read(label.outcome.name), until)
            self._last_rows = (key, found)
        return self._last_rows[1]

    def table(self, model: Model, until: Micros, told: Told = nobody) -> pl.DataFrame:
        """Return the training set of a model as of `until`: event id, `at`, `label`, features.

        Rows are in the order of the requests' log. `told` is told how far the reading is.
        """
        rows = self.rows(model, until)
        names = model.feature_names()
        heads = [model.label.predicts.event_id, "at", "label"]
        kept = [name for name in heads if name not in names]
        if not rows.height:
            return rows.select(kept).with_columns(pl.lit(None).alias(name) for name in names)
        builder = Builder(self._system, self._lake.events, told=told)
        return builder.model(model, rows).select(*kept, *names)

    def _reader(
        self, until: Micros, tables: Mapping[str, int] | None
    ) -> Callable[[str], pl.DataFrame]:
        """Return what reads the events known before `until`, each table once."""
        events: dict[str, pl.DataFrame] = {}

        def read(source: str) -> pl.DataFrame:
            if source not in events:
                version = None if tables is None else tables[source]
                if version is not None and version < 0:  # there was no table yet
                    events[source] = self._lake.read(source).clear()
                else:
                    events[source] = self._lake.read(source, known_before=until, version=version)
            return events[source]

        return read

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
        tables = {name: self._lake.version(name) for name in self._tables(model)}

        def features(spine: pl.DataFrame) -> Features:
            return self._memory.features(
                model,
                spine,
                lambda source, begin: self._lake.events(source, Span(begin, until)),
            )

        lineage = Lineage.of(self._system, model, until, tables, {})
        challenger = self._challenger(model, lineage, features, champion, alteration)
        return Trained(
            self._registry.register(challenger.package, until),
            challenger.package,
            challenger.judgement,
        )

    def again(self, model: Model, lineage: Lineage) -> Package:
        """Train a model as it was trained then, from the same table versions; keep nothing."""

        def events(source: str) -> pl.DataFrame | LakeEvents:
            version = lineage.tables[source]
            if version < 0:  # there was no table yet
                return self._lake.read(source).clear()
            return self._lake.events(source, Span(None, lineage.at), version)

        def features(spine: pl.DataFrame) -> Features:
            return features_of(self._system, model, spine, events)

        return self._challenger(model, lineage, features, None, None).package

    def _challenger(
        self,
        model: Model,
        lineage: Lineage,
        features_at: Callable[[pl.DataFrame], Features],
        champion: Package | None,
        alteration: Alteration | None,
    ) -> Challenger:
        """Train and judge on what the lake's tables held at the lineage's versions and instant."""
        until = lineage.at
        rows = split(model, self.rows(model, until, lineage.tables), until)
        parts = {"train": rows.train, "validation": rows.validation, "test": rows.test}
        whole = pl.concat(parts.values())
        labels = whole["label"].to_numpy().astype(np.bool_)
        features = features_at(whole)
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
            lineage=replace(
                lineage,
                parts={
                    name: describe_span(frame)
                    for name, frame in {**parts, "embargo": rows.embargo}.items()
                },
            ),
            declared=as_manifest(self._system, model),
        )
        slices = {name: rows.test[name].to_list() for name in _slices(model)}
        trial = Trial(train, validation, test, slices)
        rival = None if champion is None else self._rival(champion, rows.test, test, until)
        return train_challenger(model, trial, origin, rival)

    def _rival(
        self, champion: Package, rows: pl.DataFrame, test: Sample, until: Micros
    ) -> Rival | None:
        """Return the champion with its own features of the test rows; None if it has none."""
        try:
            bound = bound_package(self._system, champion)
        except NotKept:
            return None
        if bound.system is not self._system:
            begin = int(rows["at"].dt.epoch("us").min() or 0)  # type: ignore[arg-type]
            events = EventsFrom(
                bound.system,
                bound.model,
                begin,
                lambda source, since: self._lake.read(source, known_before=until, known_from=since),
            )
            as_then = {}
            for source in {view.source.name for view in bound.views}:
                as_then[source] = marked_late(events(source), bound.system.source(source))
            own = features_of(bound.system, bound.model, rows, as_then.__getitem__)
            test = Sample(own, test.labels)
        return Rival(Servable(champion), test)

    def _tables(self, model: Model) -> list[str]:
        return sorted({*self._sources(model), *self._answers.tables(model.label)})

    def _sources(self, model: Model) -> set[str]:
        views = (view.source.name for view in self._system.views_of(model))
        return {model.label.predicts.name, model.label.outcome.name, *views}


def _slices(model: Model) -> set[str]:
    return {*model.requirements.slices, *(s for gate in model.gates for s in gate.slices)}


def _slice(features: Features, begin: int, end: int) -> Features:
    return Features(
        features.matrix[begin:end],
        {name: values[begin:end] for name, values in features.categories.items()},
    )
