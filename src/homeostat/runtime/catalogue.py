"""The catalogue of features as data: what is declared, what models made of it, how it is now."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns

import numpy as np
import polars as pl

from homeostat.core.durations import Micros
from homeostat.declare.system import System
from homeostat.declare.views import FeatureView
from homeostat.deploy.state import RolloutState, replayed
from homeostat.features.folded import folded_offset
from homeostat.features.keys import view_prefix, view_stem
from homeostat.features.read import ViewReader
from homeostat.monitor.logged import logged_features
from homeostat.monitor.sketch import Sketch
from homeostat.runtime.home import Home
from homeostat.runtime.lineage import Definition, definition_of, definitions
from homeostat.runtime.plan import applied, plan
from homeostat.train.package import Package

__all__ = ["Catalogue", "Cost", "Entry", "Former", "Use"]

RECENT = 5_000
"""Predictions in which missing values are counted, the newest."""

SAMPLE = 200
"""Entities that are read to measure a read."""


@dataclass(frozen=True, slots=True)
class Use:
    """What one version of a model makes of a feature.

    `version` is the champion's, or else the newest. `importance` is the feature's share of the
    gain in training, `rank` its place among the model's `features` (1 is the most important); None
    where the estimator does not say. A feature that only goes into an on-demand one has neither.
    `missing_then` is the share of its training rows without a value, `missing_now` that of the
    `predictions` it answered last; None where there are none.
    """

    model: str
    version: int
    stands: str
    importance: float | None
    rank: int | None
    features: int
    missing_then: float | None
    missing_now: float | None
    predictions: int


@dataclass(frozen=True, slots=True)
class Former:
    """A definition of the feature, and the versions that were trained with it.

    `first` and `last` are when the first and the last of them were registered.
    """

    hash: str
    versions: tuple[str, ...]
    first: Micros
    last: Micros
    is_declared: bool


@dataclass(frozen=True, slots=True)
class Cost:
    """What the view of a feature costs, which its `features` share.

    `records` of the online store take `bytes`, keys included. `read_us` is the median of reading
    each of `measured` entities of the newest events, measured when the catalogue was asked; None
    if there was none.
    """

    view: str
    features: int
    records: int
    bytes: int
    read_us: float | None
    measured: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One feature. `last_known` is when the newest event of its source became known, `age_us` how
    long ago that is; None on demand, or before the first event. `is_applied` says that its view is
    kept up as declared. `history` and `cost` are told of one feature at a time.
    """

    definition: Definition
    is_applied: bool
    last_known: Micros | None
    age_us: Micros | None
    uses: tuple[Use, ...]
    history: tuple[Former, ...] = ()
    cost: Cost | None = None


class Catalogue:
    """Reads the catalogue of a system from its home, which it does not change."""

    def __init__(self, system: System, home: Home, now: Micros) -> None:
        self._system, self._home, self._now = system, home, now
        self._states = replayed(home.journal.decisions())
        self._changed = {
            change.name for change in plan(applied(home.folder), system) if change.part == "views"
        }
        self._packages: dict[str, tuple[int, Package, dict[str, float], int]] = {}

    def entries(self) -> tuple[Entry, ...]:
        """Return every feature, with neither history nor cost."""
        return tuple(self._entry(found) for found in definitions(self._system))

    def entry(self, feature: str) -> Entry:
        """Return all about one feature; raise `UnknownName` if there is none."""
        found = definition_of(self._system, feature)
        known = self._entry(found)
        cost = self.cost(self._system.view(found.view)) if found.view else None
        return Entry(
            known.definition, known.is_applied, known.last_known, known.age_us, known.uses,
            self.history(found), cost,
        )  # fmt: skip

    def history(self, feature: Definition) -> tuple[Former, ...]:
        """Return the definitions under which versions were trained, oldest first."""
        found: dict[str, list[tuple[str, Micros]]] = {}
        for version in sorted(self._home.registry.list(), key=lambda version: version.at):
            package = self._home.registry.load(version.model, version.version)
            known = package.definitions.get(feature.feature)
            if known is not None:
                name = f"{version.model}@{version.version}"
                found.setdefault(known[: len(feature.hash)], []).append((name, version.at))
        return tuple(
            Former(
                known, tuple(name for name, _ in versions), versions[0][1], versions[-1][1],
                known == feature.hash,
            )
            for known, versions in found.items()
        )  # fmt: skip

    def cost(self, view: FeatureView) -> Cost:
        """Return what a view takes in the online store, and how long a read of it takes now."""
        with self._home.store.reader() as reader:
            records = sum(1 for _ in reader.scan(view_prefix(view)))
            size = sum(len(key) + len(value) for key, value in reader.scan(view_stem(view)))
            taken, reads = [], ViewReader(view)
            entities = self._newest(view)
            for entity in (*entities[:1], *entities):  # the first read warms up
                begin = perf_counter_ns()
                reads.read(reader, [entity], self._now)
                taken.append((perf_counter_ns() - begin) / 1000)
        return Cost(
            view=view.name,
            features=len(view.features()),
            records=records,
            bytes=size,
            read_us=median(taken[1:]) if entities else None,
            measured=len(entities),
        )

    def _newest(self, view: FeatureView) -> list[tuple[object, ...]]:
        """Return some entities of the newest events of a view's source."""
        if self._home.lake.version(view.source.name) < 0:
            return []
        events = self._home.lake.events(view.source.name)
        keys = events.read(events.parts[-1], view.entity.keys).drop_nulls()
        found = keys.unique(keep="last", maintain_order=True).tail(SAMPLE)
        return list(found.iter_rows())

    def _entry(self, definition: Definition) -> Entry:
        last = None
        if definition.view:
            with self._home.store.reader() as reader:
                folded = folded_offset(reader, definition.source)
            if folded >= 0:
                last = int(self._home.log.read(definition.source, folded - 1, 1).known[-1])
        return Entry(
            definition=definition,
            is_applied=definition.view not in self._changed,
            last_known=last,
            age_us=None if last is None else max(self._now - last, 0),
            uses=tuple(
                use
                for use in (self._use(model, definition.feature) for model in definition.models)
                if use is not None
            ),
        )

    def _use(self, model: str, feature: str) -> Use | None:
        if model not in self._packages:
            versions = [found.version for found in self._home.registry.list(model)]
            if not versions:
                return None
            state = self._states.get(model, RolloutState())
            version = versions[-1] if state.champion is None else state.champion
            package = self._home.registry.load(model, version)
            self._packages[model] = (version, package, *self._missing(package, version))
        version, package, missing, rows = self._packages[model]
        champion = self._states.get(model, RolloutState()).champion
        order = sorted(package.importance, key=lambda name: -package.importance[name])
        reference = {one.name: one for one in Sketch.from_json(package.reference).histograms}
        then = reference.get(feature)
        return Use(
            model=model,
            version=version,
            stands="champion" if version == champion else "",
            importance=package.importance.get(feature),
            rank=order.index(feature) + 1 if feature in order else None,
            features=len(package.features),
            missing_then=then.missing / then.rows if then is not None and then.rows else None,
            missing_now=missing.get(feature),
            predictions=rows,
        )

    def _missing(self, package: Package, version: int) -> tuple[dict[str, float], int]:
        """Return the shares of missing values in the newest predictions of a version, and how many
        predictions those are."""
        frames: list[pl.DataFrame] = []
        for frame in self._home.predictions.newest_first(package.name):
            frames.append(frame.filter(pl.col("version") == version).tail(RECENT))
            if sum(one.height for one in frames) >= RECENT:
                break
        if not frames:
            return {}, 0
        texts = tuple(package.encodings)
        matrix, found = logged_features(pl.concat(frames).head(RECENT), package.features, texts)
        if not len(matrix):
            return {}, 0
        shares = dict(zip(package.features, np.isnan(matrix).mean(axis=0).tolist(), strict=True))
        shares |= {
            name: sum(value is None for value in values) / len(matrix)
            for name, values in found.items()
        }
        return shares, len(matrix)
