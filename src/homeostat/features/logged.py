"""Predictions as they were logged, and their features computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Bools, Floats, Ints
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.features.assemble import FeaturePlan
from homeostat.features.definitions import Definitions
from homeostat.features.requests import requests_of
from homeostat.features.table import features_of

__all__ = ["DefinitionsOf", "EventsOf", "LoggedFeatures", "differ"]

EventsOf = Callable[[str], pl.DataFrame]
"""Returns the events frame of a source."""

DefinitionsOf = Callable[[str], Definitions | None]
"""Returns the definitions that have a digest, None if they were not kept."""


def differ(left: Floats, right: Floats) -> Bools:
    """Return where two arrays of one shape are not the same bits."""
    unlike: Bools = _bits(left) != _bits(right)
    return unlike


def _bits(values: Floats) -> Ints:
    return np.ascontiguousarray(values).view(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class LoggedFeatures:
    """The predictions of one model that have all their features, and those features.

    `recorded` are the definitions that each was made under, None where they are not known. `values`
    is float64 (rows, features) in the present order of the model; `present` says which of the
    model's present features a prediction had.
    """

    system: System
    model: Model
    rows: pl.DataFrame
    spine: pl.DataFrame
    recorded: list[Definitions | None]
    values: Floats
    present: Bools

    @classmethod
    def of(
        cls, system: System, model: Model, predictions: pl.DataFrame, definitions: DefinitionsOf
    ) -> LoggedFeatures:
        """Read rows of the prediction log; those without their stored features are left out."""
        names = FeaturePlan(system, model).names
        recorded = _recorded(predictions, definitions)
        had = [names if known is None else tuple(known.features) for known in recorded]
        whole = predictions["features"].list.len().fill_null(0) == pl.Series(map(len, had))
        stored = ~predictions["degraded"].fill_null("").str.contains("store_down")
        kept = np.flatnonzero((whole & stored).to_numpy()).tolist()
        rows = predictions[kept]
        request = requests_of(model.label.predicts.schema, rows["request"])
        spine = request.with_columns(at=rows["at"].cast(pl.Datetime("us", "UTC")))
        values, present = _aligned(rows["features"], [had[row] for row in kept], names)
        return cls(system, model, rows, spine, [recorded[row] for row in kept], values, present)

    @property
    def names(self) -> tuple[str, ...]:
        """The model's features, in its order."""
        return self.model.feature_names()

    def made_under(self) -> list[tuple[Definitions | None, list[int]]]:
        """Return the different definitions, each with the rows that were made under it."""
        groups: dict[str | None, tuple[Definitions | None, list[int]]] = {}
        for row, known in enumerate(self.recorded):
            key = None if known is None else known.digest
            groups.setdefault(key, (known, []))[1].append(row)
        return list(groups.values())

    def again(self, events_of: EventsOf, rows: Ints | None = None) -> Floats:
        """Return the features of some rows (None: all) at their offsets, made of these events."""
        spine = self.spine if rows is None else self.spine[rows]

        def offsets(source: str) -> Ints:
            found = self.offsets(source)
            return found if rows is None else found[rows]

        return features_of(self.system, self.model, spine, events_of, offsets=offsets).matrix

    def not_yet_known(self, events_of: EventsOf) -> dict[str, Ints]:
        """Return per source which records a snapshot held that it must not have: int64[n].

        It is the offset of the first record known at the prediction's instant or later, -1 where
        the snapshot held none. Sources without any are left out.
        """
        at = self.spine["at"].to_physical().to_numpy()
        found: dict[str, Ints] = {}
        for source in sorted({view.source.name for view in self.system.views_of(self.model)}):
            events = events_of(source)
            offsets = events["_offset"].to_numpy().astype(np.int64)
            place = np.searchsorted(events["_known_time"].to_physical().to_numpy(), at, "left")
            first = np.append(offsets, np.iinfo(np.int64).max)[place]
            early = np.where(first <= self.offsets(source), first, -1)
            if (early >= 0).any():
                found[source] = early
        return found

    def strictly(self, events_of: EventsOf, early: Mapping[str, Ints], rows: Ints) -> Floats:
        """Return the features of some rows by both rules: at their offsets, and known before."""

        def offsets(source: str) -> Ints:
            recorded = self.offsets(source)[rows]
            if source not in early:
                return recorded
            first = early[source][rows]
            return np.where(first >= 0, first - 1, recorded)

        spine = self.spine[rows]
        return features_of(self.system, self.model, spine, events_of, offsets=offsets).matrix

    def timely(self, events_of: EventsOf) -> Floats:
        """Return the features had each prediction seen every event known before its instant."""
        return features_of(self.system, self.model, self.spine, events_of).matrix

    def offsets(self, source: str) -> Ints:
        """Return the offset of a source that each prediction's snapshot contained."""
        return self.rows[f"offset_{source}"].cast(pl.Int64).to_numpy()


def _recorded(predictions: pl.DataFrame, definitions: DefinitionsOf) -> list[Definitions | None]:
    if "definitions" not in predictions.columns:
        return [None] * predictions.height
    digests = predictions["definitions"].to_list()
    known = {digest: None if digest is None else definitions(digest) for digest in set(digests)}
    return [known[digest] for digest in digests]


def _aligned(
    logged: pl.Series, had: list[tuple[str, ...]], names: tuple[str, ...]
) -> tuple[Floats, Bools]:
    """Return logged values in the order of `names`, and which of them there were."""
    values = np.full((len(logged), len(names)), np.nan)
    present = np.zeros(values.shape, np.bool_)
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, found in enumerate(had):
        groups.setdefault(found, []).append(row)
    for found, rows in groups.items():
        flat = logged[rows].explode(empty_as_null=False).cast(pl.Float64).to_numpy()
        shared = [name for name in names if name in found]
        here = np.array([names.index(name) for name in shared], np.int64)
        there = [found.index(name) for name in shared]
        cells = np.ix_(np.array(rows, np.int64), here)
        values[cells] = flat.reshape(len(rows), len(found))[:, there]
        present[cells] = True
    return values, present
