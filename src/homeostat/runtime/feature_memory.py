"""Features of earlier trainings, kept: a value as of an instant never changes afterwards.

A row at `t` uses only what was known strictly before `t` (DESIGN, two clocks), so a retraining
computes the rows that have matured since the last one and takes the others as they were. The
numbers are the same bits as when all are computed again; a test compares them.
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
    offsets: npt.NDArray[np.int64]
    features: Features


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
        offsets = spine["_offset"].to_numpy()
        kept = self._kept.get(model.name)
        known = np.zeros(0, np.int64) if kept is None else kept.offsets
        is_new = ~np.isin(offsets, known)
        if is_new.any():
            fresh = spine.filter(is_new)
            begin = int(fresh["at"].dt.epoch("us").to_numpy().min())
            events = EventsFrom(self._system, model, begin, read)
            computed = features_of(self._system, model, fresh, events, alone=True)
            kept = _merged(kept, offsets[is_new], computed)
            self._kept[model.name] = kept
        if kept is None:  # no row at all
            return features_of(self._system, model, spine, EventsFrom(self._system, model, 0, read))
        places = np.searchsorted(kept.offsets, offsets)
        return _take(kept.features, places)


def _merged(kept: _Kept | None, offsets: npt.NDArray[np.int64], computed: Features) -> _Kept:
    """Return what is kept, with the new rows, in order of their offsets."""
    if kept is None:
        whole, all_offsets = computed, offsets
    else:
        all_offsets = np.concatenate([kept.offsets, offsets])
        whole = Features(
            np.concatenate([kept.features.matrix, computed.matrix]),
            {
                name: [*kept.features.categories[name], *values]
                for name, values in computed.categories.items()
            },
        )
    order = np.argsort(all_offsets, kind="stable")
    return _Kept(all_offsets[order], _take(whole, order))


def _take(features: Features, rows: npt.NDArray[np.int64]) -> Features:
    places = rows.tolist()
    return Features(
        features.matrix[rows],
        {name: [values[i] for i in places] for name, values in features.categories.items()},
    )
