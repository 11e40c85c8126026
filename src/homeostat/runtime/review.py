"""Goes through the logged predictions month by month: skew, drift, rivals and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import polars as pl

from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.declare.models import Label, Model
from homeostat.declare.system import System
from homeostat.features.assemble import FeaturePlan, Features
from homeostat.features.audit import SkewAudit
from homeostat.features.manifest import Bound
from homeostat.monitor.labels import matured
from homeostat.monitor.logged import UNREAD, logged_features
from homeostat.runtime.auditing import Auditor
from homeostat.runtime.daily_drift import DailyDrift
from homeostat.runtime.home import Home
from homeostat.runtime.rivals import Rivals
from homeostat.runtime.service_health import made_from
from homeostat.train.outcomes import outcome_columns

__all__ = ["Review", "months"]

SLACK: Micros = 86_400_000_000
"""Events are read this much beyond what a month's features can be made of, on both sides."""

KEPT = (
    "prediction_id", "at", "version", "arm", "score", "threshold", "degraded",
    "latency_features_us", "latency_model_us", "latency_total_us",
)  # fmt: skip


class Review:
    """What a model's logged predictions show; a month is in memory at a time.

    `skew` is the audit of all of them.

    Args:
        system: the declarations.
        home: holds logs, lake and registry; nothing in it is changed.
        model: the deployed model.
        decisions: the journal.
        end: labels are those final at this instant.
    """

    def __init__(
        self, system: System, home: Home, model: Model, decisions: Sequence[Decision], end: Micros
    ) -> None:
        self._system, self._home, self._model, self._end = system, home, model, end
        self._texts = FeaturePlan(system, model).categorical
        self._outcomes = _outcomes(home, model.label)
        self.rivals = Rivals(system, model, home.registry, decisions)
        self.drift = DailyDrift(system, model, home.registry, decisions)
        self.skew = SkewAudit()
        self._auditor = Auditor(system, home)
        self._answers: list[pl.DataFrame] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Look at the predictions of the next month; `at` is in the zone of the report."""
        stored = rows.with_columns(pl.col("at").dt.convert_time_zone("UTC"))
        self._audit(stored)
        numbered = rows.with_row_index("_row")
        today = Bound(self._system, self._model)
        mine = made_from(numbered, today, self._home.definitions)
        readable = mine.filter(_is_readable(len(self._model.feature_names())))
        features = Features(*logged_features(readable, self._model.feature_names(), self._texts))
        self._add_drift(readable["at"], features)
        rivals = readable.select("_row").with_columns(
            pl.Series(name, values)
            for name, values in self.rivals.answer(readable["version"], features).items()
        )
        self._answers.append(
            numbered.select("_row", *KEPT)
            .join(rivals, on="_row", how="left", maintain_order="left")
            .with_columns(pl.col(rivals.columns[1:]).fill_null(float("nan")))
            .join(self._labels(stored), on="prediction_id", how="left", maintain_order="left")
            .drop("_row")
        )

    def answers(self) -> pl.DataFrame | None:
        """Return who answered what, the rivals' scores and thresholds, and `label` if final.

        One row per prediction, in their order; None if there was none.
        """
        return pl.concat(self._answers) if self._answers else None

    def _audit(self, rows: pl.DataFrame) -> None:
        for bound, part in self._auditor.by_definition(self._model, rows):
            reach = {} if bound is None else _reach(bound.system, bound.model)
            self.skew += self._auditor.audit(self._model, part, self._events(part["at"], reach))

    def _events(
        self, at: pl.Series, reaches: Mapping[str, Micros | None]
    ) -> Callable[[str], pl.DataFrame]:
        """Return what reads the events that features at these instants may be made of."""
        instants = at.dt.epoch("us").to_numpy()
        first, last = int(instants.min()), int(instants.max())
        read: dict[str, pl.DataFrame] = {}

        def events(source: str) -> pl.DataFrame:
            if source not in read:
                reach = reaches[source]
                read[source] = self._home.lake.read(
                    source,
                    known_from=None if reach is None else first - reach - SLACK,
                    known_before=last + SLACK,
                )
            return read[source]

        return events

    def _labels(self, rows: pl.DataFrame) -> pl.DataFrame:
        label = self._model.label
        needed = ["prediction_id", "request_id", "at", "request"]
        found = matured(rows.select(needed), self._outcomes, label, self._end)
        return found.select("prediction_id", "label")

    def _add_drift(self, at: pl.Series, features: Features) -> None:
        days, instants = at.dt.date(), at.dt.epoch("us")
        cuts = [0, *((days != days.shift(1)).arg_true().to_list()), len(days)]
        for begin, end in pairwise(cuts):
            if begin < end:
                texts = {name: values[begin:end] for name, values in features.categories.items()}
                part = Features(features.matrix[begin:end], texts)
                self.drift.add(days[begin], int(instants[end - 1]), part)


def months(frames: Iterable[pl.DataFrame], zone: str) -> Iterator[pl.DataFrame]:
    """Yield the predictions of each month by the zone's calendar, `at` in that zone.

    Args:
        frames: rows of the prediction log, oldest first.
        zone: such as "America/New_York".
    """
    held: list[pl.DataFrame] = []
    for frame in frames:
        local = frame.with_columns(pl.col("at").dt.convert_time_zone(zone))
        named = local.with_columns(_month=pl.col("at").dt.strftime("%Y-%m"))
        for part in named.partition_by("_month", maintain_order=True):
            if held and held[-1]["_month"][0] != part["_month"][0]:
                yield pl.concat(held, how="diagonal").drop("_month")
                held = []
            held.append(part)
    if held:
        yield pl.concat(held, how="diagonal").drop("_month")


def _is_readable(features: int) -> pl.Expr:
    """Return which predictions `logged_features` reads: those that had all their features."""
    unread = (pl.col("degraded").str.contains(cause, literal=True) for cause in UNREAD)
    return (pl.col("features").list.len() == features) & ~pl.any_horizontal(unread)


def _outcomes(home: Home, label: Label) -> pl.DataFrame:
    """Return the label's outcomes, in the columns that tell it."""
    return home.lake.read(label.outcome.name, outcome_columns(label))


def _reach(system: System, model: Model) -> dict[str, Micros | None]:
    """Return how far back a model's features look, by source; None: as far as there is."""
    reach: dict[str, Micros | None] = {}
    for view in system.views_of(model):
        whole = any(spec.window is None for spec in view.features())
        before = reach.get(view.source.name, 0)
        longest = None if whole or before is None else max(before, view.longest_window)
        reach[view.source.name] = longest
    return reach
