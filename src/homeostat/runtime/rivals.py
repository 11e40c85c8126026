"""What other models would have answered to the logged requests, from the features as logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.features.assemble import Features
from homeostat.train.registry import Registry
from homeostat.train.servable import Servable

__all__ = ["FROZEN", "WITHOUT_STREAMING", "Rivals", "threshold_of"]

FROZEN, WITHOUT_STREAMING = "frozen", "without_streaming"

ALWAYS: Micros = -(2**63)


def threshold_of(rival: str) -> str:
    """Return the column that holds a rival's thresholds."""
    return f"{rival}_threshold"


@dataclass(frozen=True, slots=True)
class _Term:
    """From training occasion `since` on, a rival is this version."""

    since: Micros
    model: str
    version: int


class Rivals:
    """Models that never served, each with the version it had when the serving one was trained.

    "frozen" is the first version that was promoted, for ever. A companion of the model's
    `Retrain` is called "without_streaming" if it reads fewer views than the model, else by its own
    name; its version is the one trained on the occasion on which the serving version was, or on
    the last occasion before.

    Args:
        system: the declarations.
        model: the deployed model whose predictions are looked at.
        registry: holds all versions.
        decisions: the journal.
    """

    def __init__(
        self, system: System, model: Model, registry: Registry, decisions: Sequence[Decision]
    ) -> None:
        self._registry = registry
        self._features = model.feature_names()
        self._trained = {r.version: r.at for r in registry.list(model.name)}
        self._servables: dict[tuple[str, int], Servable] = {}
        self._terms: dict[str, tuple[_Term, ...]] = {}
        first = _first_promoted(model.name, decisions)
        if first is not None:
            self._terms[FROZEN] = (_Term(ALWAYS, model.name, first),)
        views = set(system.views_of(model))
        retrain = system.retrain(model.name)
        for companion in () if retrain is None else retrain.companions:
            fewer = set(system.views_of(companion)) < views
            name = WITHOUT_STREAMING if fewer else companion.name
            if name in self._terms:
                name = companion.name
            terms = [_Term(r.at, r.model, r.version) for r in registry.list(companion.name)]
            self._terms[name] = tuple(sorted(terms, key=lambda term: (term.since, term.version)))

    @property
    def names(self) -> tuple[str, ...]:
        """The rivals, in the order of the report."""
        return tuple(self._terms)

    def answer(self, versions: pl.Series, features: Features) -> dict[str, NDArray[np.float64]]:
        """Return each rival's scores and thresholds, float64 (n,) each, NaN where it has none.

        Args:
            versions: the version that answered each request; missing where a fallback did, which
                then counts to the version before it.
            features: the logged features of the n requests, in the model's order.
        """
        occasions = self._occasions(versions)
        found: dict[str, NDArray[np.float64]] = {}
        for name, terms in self._terms.items():
            scores, thresholds = np.full((2, len(occasions)), np.nan)
            since = [term.since for term in terms]
            places = np.searchsorted(since, occasions, side="right") - 1
            for place in np.unique(places[places >= 0]).tolist():
                servable = self._servable(terms[place])
                if not set(servable.names) <= set(self._features):
                    continue
                rows = np.flatnonzero(places == place)
                scores[rows] = servable.score(self._part(features, servable.names, rows))
                thresholds[rows] = servable.package.threshold
            found |= {name: scores, threshold_of(name): thresholds}
        return found

    def _occasions(self, versions: pl.Series) -> NDArray[np.int64]:
        known = versions.cast(pl.Int64).forward_fill().backward_fill().fill_null(-1)
        return np.array([self._trained.get(v, ALWAYS) for v in known.to_list()], np.int64)

    def _part(self, features: Features, names: Sequence[str], rows: NDArray[np.int64]) -> Features:
        columns = np.array([self._features.index(name) for name in names])
        picked = rows.tolist()
        return Features(
            features.matrix[np.ix_(rows, columns)],
            {
                name: [values[row] for row in picked]
                for name, values in features.categories.items()
                if name in names
            },
        )

    def _servable(self, term: _Term) -> Servable:
        key = (term.model, term.version)
        if key not in self._servables:
            self._servables[key] = Servable(self._registry.load(*key))
        return self._servables[key]


def _first_promoted(model: str, decisions: Sequence[Decision]) -> int | None:
    for decision in decisions:
        if decision.model == model and decision.action == "promote":
            return decision.version
    return None
