"""Features of requests: values of views from one snapshot, put together with the request."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from homeostat.core.durations import Micros
from homeostat.declare.models import Model
from homeostat.declare.system import System, model_inputs
from homeostat.features.assemble import FeaturePlan, Features
from homeostat.features.definitions import Definitions
from homeostat.features.folded import folded_offset
from homeostat.features.read import NotExact, ViewReader
from homeostat.serve.draft import Draft
from homeostat.serve.needs import lacking, needs_of
from homeostat.serve.ports import Faults, Floats, PlansFeatures, ReadsView

if TYPE_CHECKING:
    from homeostat.core.store import Reader, Snapshot

__all__ = ["FeatureParts", "Lookup", "Offsets", "Read"]

Row = Mapping[str, Any]
Offsets = Mapping[str, int | None]
"""By source, the offset in its log that the snapshot contained; -1 for none, None without one."""


@dataclass(frozen=True, slots=True)
class Read:
    """What one snapshot holds for requests: columns of views, None without a working store.

    `lacking` names, by row, a field that the request does not bring: the row was not read.
    """

    views: Mapping[str, Floats] | None
    offsets: Offsets
    lacking: Mapping[int, str] = field(default_factory=dict)

    def row(self, row: int) -> Read:
        """Return what it holds for one of the requests."""
        lacking = {0: self.lacking[row]} if row in self.lacking else {}
        if self.views is None:
            return Read(None, self.offsets, lacking)
        views = {name: values[row : row + 1] for name, values in self.views.items()}
        return Read(views, self.offsets, lacking)


@dataclass(frozen=True, slots=True)
class FeatureParts:
    """What computes features: the plan, and a reader per view by name."""

    plan: PlansFeatures
    readers: Mapping[str, ReadsView]

    @classmethod
    def of(cls, system: System, model: Model, faults: Faults) -> FeatureParts:
        """Return the parts for a model; `faults` are told of values that cannot be exact."""
        readers = {
            view.name: ViewReader(view, partial(_tell, faults, view.name))
            for view in system.views_of(model)
        }
        return cls(FeaturePlan(system, model), readers)


def _tell(faults: Faults, view: str, feature: str) -> None:
    faults(f"not_exact:{view}.{feature}", NotExact(f"view {view!r}, feature {feature!r}"))


class Lookup:
    """Finds the features of requests to one model, and marks what failed on the way.

    `names` are the features in the model's order, `definitions` the digest of what they mean,
    `needs` the fields that a request must bring for them.
    """

    def __init__(
        self, system: System, model: Model, parts: FeatureParts | None, faults: Faults
    ) -> None:
        self._parts = FeatureParts.of(system, model, faults) if parts is None else parts
        self._faults = faults
        self.names = model.feature_names()
        self.needs = needs_of(system, model)
        self.definitions = Definitions.of(system, model).digest
        self._views = system.views_of(model)
        self._own = {view.name: view.own_field(model.label.predicts) for view in self._views}
        self._widths = {view.name: len(view.features()) for view in self._views}
        self.sources = tuple(sorted({view.source.name for view in self._views}))
        self._inputs = tuple(n for n in model_inputs(model) if isinstance(n, str))

    def read(self, reader: Reader | None, rows: Sequence[Row], at: Micros) -> Read:
        """Return what a snapshot holds for requests; what fails is told, and never raised."""
        lacking = self.lacking(rows)
        nothing = Read(None if self._views else {}, dict.fromkeys(self.sources), lacking)
        if reader is None or not self._views:
            return nothing
        brought = _others(len(rows), lacking)
        try:
            asked = [rows[row] for row in brought]
            found = self._read(reader, asked, at) if asked else self._missing(0)
            offsets = {s: folded_offset(reader, s) for s in self.sources}
        except Exception as broken:  # noqa: BLE001 - a store may fail in any way; one answer
            self._faults("store", broken)
            return nothing
        if lacking:
            found = {name: _spread(values, brought, len(rows)) for name, values in found.items()}
        return Read(found, offsets, lacking)

    def lacking(self, rows: Sequence[Row]) -> dict[int, str]:
        """Return the rows that do not bring what is needed, each with a field it lacks."""
        found = ((place, lacking(self.needs, row)) for place, row in enumerate(rows))
        return {place: name for place, name in found if name is not None}

    def features(self, read: Read, rows: Sequence[Row], draft: Draft) -> Features | None:
        """Return the features of requests, None where they cannot be put together.

        Without a working store the values of views are missing (NaN, counts too). A row that lacks
        a field has no features: all are missing, and no code of the user's sees it.
        """
        brought, views = _others(len(rows), read.lacking), read.views
        if views is None:
            draft.mark(brought, "store_down")
            views = self._missing(len(rows))
        if read.lacking:
            views = {name: values[brought] for name, values in views.items()}
        features = self._assemble([rows[row] for row in brought], views) if brought else _NONE
        if features is None:
            draft.mark(brought, "features_broken")
            return None
        if not read.lacking:
            return features
        n, texts = len(rows), features.categories
        matrix = features.matrix if brought else np.empty((0, len(self.names)))
        columns = {name: dict(zip(brought, texts[name], strict=True)) for name in texts}
        return Features(
            _spread(matrix, brought, n),
            {name: [column.get(row) for row in range(n)] for name, column in columns.items()},
        )

    def warm(self, reader: Snapshot, at: Micros) -> None:
        """Read every view once, so that nothing is loaded with the first request."""
        for view in self._views:
            self._parts.readers[view.name].warm(reader, at)

    def absent(self, fields: Sequence[str]) -> Features | None:
        """Return the features of one request that has nothing, from a store without events."""
        return self._assemble([dict.fromkeys(fields)], self._missing(1))

    def _read(self, reader: Reader, rows: Sequence[Row], at: Micros) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        for view in self._views:
            keys = [tuple([row.get(key) for key in view.entity.keys]) for row in rows]
            own = None
            field = self._own[view.name]
            if field is not None:
                given = [row.get(field) for row in rows]
                own = [None if name is None else str(name) for name in given]
            found[view.name] = self._parts.readers[view.name].read(reader, keys, at, own)
        return found

    def _missing(self, n: int) -> dict[str, Floats]:
        return {name: np.full((n, width), np.nan) for name, width in self._widths.items()}

    def _assemble(self, rows: Sequence[Row], views: Mapping[str, Floats]) -> Features | None:
        request = {name: [row.get(name) for row in rows] for name in self._inputs}
        try:
            return self._parts.plan.assemble(request, views)
        except Exception as broken:  # noqa: BLE001 - on-demand features are the user's code
            self._faults("features", broken)
            return None


_NONE = Features(np.empty((0, 0)), {})


def _others(n: int, rows: Collection[int]) -> list[int]:
    """Return which of n rows are not among these."""
    return [row for row in range(n) if row not in rows]


def _spread(values: Floats, rows: Sequence[int], n: int) -> Floats:
    """Return n rows, of which `rows` have these values, and the others none."""
    found = np.full((n, values.shape[1]), np.nan)
    found[rows] = values
    return found
