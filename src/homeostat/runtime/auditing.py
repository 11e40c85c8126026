"""The skew audit of a home's predictions, with everything the home can say about the causes.

Each feature of a prediction is computed again by the definition it was made under, as long as the
home has its manifest. One whose code has changed since is computed by that of today, and what
differs for that reason is said to. What the present declarations cannot compute is left out and
named; those that are not applied explain no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from functools import cache

import polars as pl

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import plain
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.features.audit import SkewAudit, audit
from homeostat.features.lateness import marked_late
from homeostat.features.logged import EventsOf
from homeostat.features.manifest import (
    Bound,
    Manifest,
    NotKept,
    bind,
    manifest_of,
    names_of,
    without,
)
from homeostat.features.table import EventsFrom
from homeostat.runtime.evidence import HomeEvidence
from homeostat.runtime.home import Home
from homeostat.runtime.plan import applied, plan

__all__ = ["Auditor"]

NAMED = 4
"""At most this many changes are named in a note."""

PART = 50_000
"""Predictions audited at once, to bound the memory."""


class Auditor:
    """Audits predictions of one home; nothing in it is changed."""

    def __init__(self, system: System, home: Home) -> None:
        self._system, self._home = system, home
        self._bounds: dict[tuple[str, str], Bound | None] = {}
        before = applied(home.folder)
        changes = () if before is None else plan(before, system)
        self._applied = before if changes else None
        self._notes = dict[str, None]()
        if changes:
            named = ", ".join(f"{change.subject} {change.kind}" for change in changes[:NAMED])
            more = f" and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
            self._note(
                f"the declarations have changes that are not applied ({named}{more}); predictions "
                "are computed by the definitions they were made under"
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person must know to read what was found."""
        return tuple(self._notes)

    def _note(self, words: str) -> None:
        self._notes[words] = None

    def audit(
        self,
        model: Model,
        predictions: pl.DataFrame,
        events_of: EventsOf,
        told: Callable[[int], None] = lambda done: None,
    ) -> SkewAudit:
        """Return what differs, and why.

        Args:
            model: whose predictions these are.
            predictions: rows of its prediction log.
            events_of: returns the events of a source, from as far back as the features look.
            told: hears after each part how many predictions are done.
        """
        evidence = HomeEvidence(self._system, self._home)
        found, done = SkewAudit(), 0
        for part in predictions.iter_slices(PART):
            for bound, rows in self.by_definition(model, part):
                if bound is None:
                    found += SkewAudit(skipped=rows.height)
                    continue
                events = events_of if bound.system is self._system else _as_of(bound, events_of)
                found += audit(bound.system, bound.model, rows, events, evidence)
            done += part.height
            told(done)
        return found

    def sampled(self, model: Model, sample: pl.DataFrame) -> SkewAudit:
        """Audit predictions, in the order of their instants, against what the lake has."""
        first, found = int(sample["at"].dt.epoch("us")[0]), SkewAudit()

        def events(source: str, begin: Micros | None) -> pl.DataFrame:
            return self._home.lake.read(source, known_from=begin)

        for bound, rows in self.by_definition(model, sample):
            if bound is None:
                found += SkewAudit(skipped=rows.height)
                continue
            read = EventsFrom(bound.system, bound.model, first, events)
            found += self.audit(model, rows, read)
        return found

    def reads(self, model: Model, sample: pl.DataFrame) -> int:
        """Return how many events there are, about, in the days that an audit looks at."""
        first, total = int(sample["at"].dt.epoch("us")[0]), 0
        for view in self._system.views_of(model):
            whole = any(spec.window is None for spec in view.features())
            begin = date.min if whole else from_micros(first - view.longest_window).date()
            days = self._home.lake.rows_by_day(view.source.name)
            total += sum(rows for day, rows in days.items() if day >= begin)
        return total

    def by_definition(
        self, model: Model, predictions: pl.DataFrame
    ) -> Iterator[tuple[Bound | None, pl.DataFrame]]:
        """Yield predictions with the declarations to compute them by, in their order.

        None where declarations that are not applied can compute no feature of them.
        """
        if "definitions" not in predictions.columns:
            yield self._bound(model, None), predictions
            return
        for part in predictions.partition_by("definitions", maintain_order=True):
            yield self._bound(model, part["definitions"][0]), part

    def _bound(self, model: Model, digest: str | None) -> Bound | None:
        manifest = None if digest is None else self._home.definitions.manifest(digest)
        if manifest is None and self._applied is not None:
            manifest = manifest_of(self._applied, model.name)
        if manifest is None:
            return Bound(self._system, model)
        key = (model.name, digest or "")
        if key not in self._bounds:
            try:
                self._bounds[key] = bind(manifest, self._system, model)
            except NotKept as lacking:
                self._bounds[key] = self._left(manifest, model, lacking)
            except HomeostatError:
                self._bounds[key] = Bound(self._system, model)
        return self._bounds[key]

    def _left(self, manifest: Manifest, model: Model, lacking: NotKept) -> Bound | None:
        """Bind the features that the declarations of today can compute; name the rest."""
        if self._applied is None:
            with suppress(HomeostatError):  # a feature of today may be made of another view
                return bind(_today(manifest, model, lacking), self._system, model)
        for lost in lacking.lost:
            self._note(f"feature {lost.feature!r} is not compared: {lost.why}")
        left = without(manifest, {lost.feature for lost in lacking.lost})
        if not 0 < len(left["features"]) < len(manifest["features"]):
            return None
        try:
            return bind(left, self._system, model)
        except NotKept as more:  # of fields, which are looked at where all code is there
            return self._left(left, model, more)


def _today(manifest: Manifest, model: Model, lacking: NotKept) -> Manifest:
    """Return a manifest whose lost features are those of that name today, which are then blamed."""
    lost = {one.feature for one in lacking.lost}
    now = {
        name: plain(one) for name, one in zip(model.feature_names(), model.features, strict=True)
    }
    features = [
        now[name] if name in lost & now.keys() else body
        for name, body in zip(names_of(manifest), manifest["features"], strict=True)
    ]
    return {**manifest, "features": features}


def _as_of(bound: Bound, events_of: EventsOf) -> EventsOf:
    """Return events as they were taken under older declarations: too late by the lateness then."""
    return cache(lambda source: marked_late(events_of(source), bound.system.source(source)))
