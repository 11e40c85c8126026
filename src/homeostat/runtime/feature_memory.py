"""Features of earlier trainings, kept: a value as of an instant never changes afterwards.

A row at `t` uses only what was known strictly before `t` (DESIGN, two clocks), so a retraining
computes the rows that have matured since the last one and takes the others as they were. The
numbers are the same bits as when all are computed again; a test compares them. A row is computed
again where its instant is another one: its answer may be durable only after a training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.features.assemble import Features
from homeostat.features.table import Events, EventsFrom, ReadFrom, features_of

__all__ = ["FeatureMemory"]


@dataclass(frozen=True, slots=True)
class _Kept:
    """Rows in the order of their offsets, each with its instant."""

    offsets: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    features: Features

    def has(
        self, offsets: npt.NDArray[np.int64], at: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Return which rows are here, as of the same instant."""
        if not len(self.offsets):
            return np.zeros(len(offsets), np.bool_)
        places = np.minimum(np.searchsorted(self.offsets, offsets), len(self.offsets) - 1)
        found: npt.NDArray[np.bool_] = (self.offsets[places] == offsets) & (self.at[places] == at)
        return found


class FeatureMemory:
    """Computes the features of a model's rows, each row once; rows are told by their log offset."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._kept: dict[str, _Kept] = {}

    def features(self, model: Model, spine: pl.DataFrame, read: ReadFrom[Events]) -> Features:
        """Return the features of every row of `spine`, which has `_offset` and `at`.

        Args:
            model: whose features are computed.
            spine: labelled requests.
            read: gives the events that the new rows can see.
        """
        offsets, at = spine["_offset"].to_numpy(), spine["at"].dt.epoch("us").to_numpy()
        kept = self._kept.get(model.name)
        is_new = np.ones(len(offsets), np.bool_) if kept is None else ~kept.has(offsets, at)
        if is_new.any():
            fresh = spine.filter(is_new)
            events = EventsFrom(self._system, model, int(at[is_new].min()), read)
            computed = features_of(self._system, model, fresh, events, alone=True)
            kept = _merged(kept, _Kept(offsets[is_new], at[is_new], computed))
            self._kept[model.name] = kept
        if kept is None:  # no row at all
            return features_of(self._system, model, spine, EventsFrom(self._system, model, 0, read))
        places = np.searchsorted(kept.offsets, offsets)
        return _take(kept.features, places)


def _merged(kept: _Kept | None, new: _Kept) -> _Kept:
    """Return what is kept, with the new rows in place of those that they are, in order."""
    offsets, at, features = new.offsets, new.at, new.features
    if kept is not None:
        stays = np.flatnonzero(~np.isin(kept.offsets, new.offsets))
        old = _take(kept.features, stays)
        offsets = np.concatenate([kept.offsets[stays], offsets])
        at = np.concatenate([kept.at[stays], at])
        features = Features(
            np.concatenate([old.matrix, features.matrix]),
            {
                name: [*old.categories[name], *values]
                for name, values in features.categories.items()
            },
        )
    order = np.argsort(offsets, kind="stable")
    return _Kept(offsets[order], at[order], _take(features, order))


def _take(features: Features, rows: npt.NDArray[np.int64]) -> Features:
    places = rows.tolist()
    return Features(
        features.matrix[rows],
        {name: [values[i] for i in places] for name, values in features.categories.items()},
    )
