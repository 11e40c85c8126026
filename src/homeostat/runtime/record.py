"""What a deployed model has done and what came of it, as far as the loop has seen.

All of it is read back from the logs after a restart, so it is a cache and never the truth.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import polars as pl

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.declare.models import Model
from homeostat.monitor.labels import matured
from homeostat.serve.predictions import prediction_schema
from homeostat.train.outcomes import outcome_columns, outcomes_known

__all__ = ["ModelRecord"]


class ModelRecord:
    """Predictions of one model and the outcomes that judge them, in order of their instants."""

    def __init__(self, model: Model, sources: Sequence[str]) -> None:
        self.model = model
        self._nothing = pl.DataFrame(schema=prediction_schema(sources))
        self._starts: list[Micros] = []
        self._predictions: list[pl.DataFrame] = []
        self._outcomes: list[pl.DataFrame] = []
        self._outcome_ends: list[Micros] = []
        self._last: tuple[tuple[int, ...], pl.DataFrame | None] | None = None
        self._outcome_columns = outcome_columns(model.label)

    def add_predictions(self, start: Micros, frame: pl.DataFrame) -> None:
        """Add predictions asked at `start` or later, after all that were added before."""
        self._starts.append(start)
        self._predictions.append(frame)

    def add_outcomes(self, frame: pl.DataFrame) -> None:
        """Add accepted events of the label's outcome source, in log order."""
        if frame.height:
            end = frame["_known_time"].dt.epoch("us")[-1]
            self._outcome_ends.append(int(end))
            self._outcomes.append(frame.select(self._outcome_columns))

    def reaches(self, instant: Micros) -> bool:
        """Return whether predictions were made since `instant` or before."""
        return bool(self._starts) and self._starts[0] <= instant

    def since(self, instant: Micros) -> pl.DataFrame | None:
        """Return the predictions asked at `instant` or later; None if there are none."""
        found = self.predictions_since(instant)
        return found if found.height else None

    def predictions_since(self, instant: Micros) -> pl.DataFrame:
        """Return the predictions asked at `instant` or later, which may be none."""
        first = max(bisect_left(self._starts, instant) - 1, 0)
        frames = self._predictions[first:] or [self._nothing]
        return pl.concat(frames).filter(pl.col("at") >= from_micros(instant))

    def labelled_since(self, instant: Micros, now: Micros) -> pl.DataFrame | None:
        """Return the predictions asked at `instant` or later whose label is final at `now`.

        Several monitors ask for the same span, so the last answer is kept.
        """
        asked_for = (instant, now, len(self._predictions), len(self._outcomes))
        if self._last is None or self._last[0] != asked_for:
            self._last = (asked_for, self._labelled_since(instant, now))
        return self._last[1]

    def _labelled_since(self, instant: Micros, now: Micros) -> pl.DataFrame | None:
        asked = self.since(instant)
        if asked is None:
            return None
        known_from, _ = outcomes_known(self.model.label, instant, now)
        first = bisect_left(self._outcome_ends, known_from)
        outcomes = self._outcomes[first:]
        if not outcomes:
            return None
        return matured(asked, pl.concat(outcomes), self.model.label, now)
