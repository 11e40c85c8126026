"""Builds features as they were at the instants of a spine, from the lake, within bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import polars as pl

from homeostat.aggregate.arrays import Floats
from homeostat.core.clock import from_micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.models import Model
from homeostat.declare.system import System, model_inputs
from homeostat.declare.views import FeatureView
from homeostat.features.assemble import FeaturePlan
from homeostat.features.offline import point_in_time
from homeostat.features.seen import SEEN, seen_in
from homeostat.features.spine import SpineInvalid, spine_of
from homeostat.lake.events import LakeEvents, Span
from homeostat.lake.tables import Lake
from homeostat.runtime.answers import Answers
from homeostat.runtime.build_plan import BuildPlan, bounds, span_of, view_plan
from homeostat.runtime.memory import memory_to_use
from homeostat.train.asked import ASKED

__all__ = ["Builder", "Told", "nobody", "requests_of"]

Told = Callable[[str, int, int], None]
"""Told a view, how many of its events were read in this pass, and how many there are."""


def nobody(view: str, done: int, of: int) -> None:
    """Tell nobody."""


class Builder:
    """Builds the features of views and models of a system.

    Args:
        system: the declarations.
        events: opens the events of a source within a span of known times.
        memory: bytes that events may take at once; None for a quarter of the machine's.
        told: is told how far the reading is.

    Attributes:
        not_exact: how many values of each feature built so far, as "view.feature", are missing
            because they cannot be computed exactly.
    """

    def __init__(
        self,
        system: System,
        events: Callable[[str, Span], LakeEvents],
        memory: int | None = None,
        told: Told = nobody,
    ) -> None:
        self._system, self._events, self._told = system, events, told
        self._memory = memory_to_use() if memory is None else memory
        self.not_exact: dict[str, int] = {}

    def views(self, views: Sequence[str], spine: object) -> pl.DataFrame:
        """Return a spine with the features of views at its instants: the same rows, in order."""
        declared = [self._system.view(name) for name in views]
        rows = self._spine(spine, declared, None)
        columns = [
            pl.Series(ref.name, values[:, place])
            for view, values in zip(declared, self._each(declared, rows), strict=True)
            for place, ref in enumerate(view.all())
        ]
        return rows.with_columns(columns)

    def model(self, model: Model, spine: object) -> pl.DataFrame:
        """Return a spine with the features of a model, on-demand ones included.

        The spine has the request fields that the model needs. Columns that are features themselves
        come last, in the model's order.
        """
        declared = self._system.views_of(model)
        rows = self._spine(spine, declared, model)
        plan = FeaturePlan(self._system, model)
        values = dict(zip((v.name for v in declared), self._each(declared, rows), strict=True))
        found = plan.assemble({name: rows[name] for name in plan.fields}, values)
        columns = [
            pl.Series(name, found.categories.get(name, found.matrix[:, place]))
            for place, name in enumerate(model.feature_names())
        ]
        kept = [name for name in rows.columns if not name.startswith(SEEN)]
        return rows.select(kept).drop(model.feature_names(), strict=False).with_columns(columns)

    def plan(self, of: Sequence[str] | Model, spine: object, lake: Lake) -> BuildPlan:
        """Return what building the features of views, or of a model, would read."""
        model = of if isinstance(of, Model) else None
        if isinstance(of, Model):
            views, names = self._system.views_of(of), of.feature_names()
        else:
            views = tuple(self._system.view(name) for name in of)
            names = tuple(ref.name for view in views for ref in view.all())
        rows = self._spine(spine, views, model)
        first, last = bounds(rows)
        plans = tuple(
            view_plan(
                view,
                rows,
                self._events(view.source.name, span_of(view, first, last)[0]),
                len(lake.files(view.source.name)),
                self._memory,
            )
            for view in views
        )
        answers = 8 * rows.height * len(names)
        return BuildPlan(
            rows=rows.height,
            first=from_micros(first).isoformat(),
            last=from_micros(last).isoformat(),
            views=plans,
            features=tuple(names),
            memory=answers + max((plan.memory for plan in plans), default=0),
        )

    def _spine(
        self, given: object, views: Sequence[FeatureView], model: Model | None
    ) -> pl.DataFrame:
        needs: dict[str, str] = {}
        own: dict[str, str] = {}
        for view in views:
            schema, where = view.source.schema, f"view {view.name!r}"
            for name in view.entity.keys:
                needs[name] = schema.field(name, where).kind
            if view.own_id is not None:
                own[view.own_id] = schema.field(view.own_id, where).kind
        if model is not None:
            request = model.label.predicts.schema
            for need in model_inputs(model):
                if isinstance(need, str):
                    needs[need] = request.field(need, f"model {model.name!r}").kind
        rows = spine_of(given, needs, own)
        taken = [ref.name for view in views for ref in view.all() if ref.name in rows.columns]
        if taken:
            raise SpineInvalid(
                f"column {taken[0]!r} is there already",
                "columns that are no feature's name",
                "drop it, it is computed again",
            )
        return rows

    def _each(self, views: Sequence[FeatureView], rows: pl.DataFrame) -> list[Floats]:
        first, last = bounds(rows)
        found = []
        for view in views:
            events = self._events(view.source.name, span_of(view, first, last)[0])
            watched = _Watched(events, partial(self._told, view.name))
            told = partial(self._left_out, view.name)
            seen = seen_in(rows, view.source.name)
            found.append(
                point_in_time(view, watched, rows, offsets=seen, memory=self._memory, told=told)
            )
        return found

    def _left_out(self, view: str, feature: str, values: int) -> None:
        self.not_exact[f"{view}.{feature}"] = values


class _Watched:
    """Events, and somebody who is told how many were read."""

    def __init__(self, events: LakeEvents, told: Callable[[int, int], None]) -> None:
        self._events, self._told = events, told
        self.schema, self.parts, self.gaps = events.schema, events.parts, events.gaps
        self.is_log, self.bounds = events.is_log, events.bounds

    def read(self, part: slice, columns: Sequence[str]) -> pl.DataFrame:
        """Read a part, and tell."""
        found = self._events.read(part, columns)
        self._told(part.stop, self.parts[-1].stop)
        return found


def requests_of(model: Model, lake: Lake, answers: Answers) -> pl.DataFrame:
    """Return every request that a model's source holds, as a spine: its fields, and `at`.

    A request is asked at the instant of its answer, else at the one at which it became known.
    """
    source, label = model.label.predicts, model.label
    names = [field.name for field in source.schema.fields if field.name != "at"]
    found = lake.read(source.name, [*names, "_known_time"])
    if not found.height:
        raise HomeostatError(
            f"model {model.name!r}: no request of {source.name!r} is in the lake; allowed: one or "
            "more; ingest events first, or give a spine"
        )
    found = answers.asked(found, label, answers.own(label, model.name))
    clocks = [name for name in (ASKED, "_known_time") if name in found.columns]
    return found.with_columns(pl.coalesce(clocks).alias("at")).drop(clocks)
