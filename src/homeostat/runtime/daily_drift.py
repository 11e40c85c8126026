"""The drift of a model's features day by day, against the champion of the day."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.declare.models import Model
from homeostat.declare.monitors import Drift
from homeostat.declare.system import System
from homeostat.deploy.state import RolloutState, advance
from homeostat.features.assemble import Features
from homeostat.monitor.drift import drift_report
from homeostat.monitor.sketch import Sketch, merge_sketches, sketch_like
from homeostat.train.registry import Registry

__all__ = ["DailyDrift"]

DAY: Micros = 86_400_000_000

Row = tuple[str, int, str, float]
"""A day, how many features drifted, the one that drifted most, and its PSI."""


@dataclass
class _Day:
    features: Features
    sketches: dict[int, Sketch] = field(default_factory=dict)


class DailyDrift:
    """Sketches each day's features, and compares the last days with the champion's training set.

    Bound and window are those of the model's first drift monitor, or the defaults.
    """

    def __init__(
        self, system: System, model: Model, registry: Registry, decisions: Sequence[Decision]
    ) -> None:
        declared = [m for m in system.monitors if isinstance(m, Drift) and m.model == model]
        self._monitor = declared[0] if declared else Drift(model)
        self._model, self._registry = model, registry
        self._since, self._champions = _champions(model.name, decisions)
        self._references: dict[int, Sketch] = {}
        self._days: deque[_Day] = deque(maxlen=max(1, self._monitor.window_us // DAY))
        self.rows: list[Row] = []

    def add(self, day: date, until: Micros, features: Features) -> None:
        """Add the logged features of the next day, the last of them asked at `until`."""
        self._days.append(_Day(features))
        champion = self._champion(until)
        if champion is None or not len(features.matrix):
            return
        reference = self._reference(champion)
        current = merge_sketches(*(self._sketch(held, champion) for held in self._days))
        report = [
            feature
            for feature in drift_report(reference, current)
            if feature.noise <= self._monitor.psi
        ]
        if report:
            moved = sum(feature.psi > self._monitor.psi for feature in report)
            self.rows.append((day.isoformat(), moved, report[0].name, report[0].psi))

    def _champion(self, at: Micros) -> int | None:
        place = bisect_right(self._since, at)
        return self._champions[place - 1] if place else None

    def _reference(self, version: int) -> Sketch:
        if version not in self._references:
            package = self._registry.load(self._model.name, version)
            self._references[version] = Sketch.from_json(package.reference)
        return self._references[version]

    def _sketch(self, day: _Day, version: int) -> Sketch:
        if version not in day.sketches:
            features = day.features
            day.sketches[version] = sketch_like(
                self._reference(version), features.matrix, features.categories
            )
        return day.sketches[version]


def _champions(model: str, decisions: Sequence[Decision]) -> tuple[list[Micros], list[int | None]]:
    """Return since when which version was the champion."""
    state, since, champions = RolloutState(), list[Micros](), list[int | None]()
    for decision in decisions:
        if decision.model == model:
            state = advance(state, decision)
            if not champions or state.champion != champions[-1]:
                since.append(decision.at)
                champions.append(state.champion)
    return since, champions
