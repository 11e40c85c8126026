"""What a deployed model has answered and what came of it, read from the logs a span at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import polars as pl

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.declare.models import Label, Model
from homeostat.monitor.labels import matured
from homeostat.runtime.prediction_history import PredictionHistory
from homeostat.train.outcomes import outcomes_known

__all__ = ["JUDGED", "FoldedTo", "ModelRecord", "OutcomesOf"]

OutcomesOf = Callable[[Label, Micros, Micros], pl.DataFrame]
"""Returns the outcomes of a label that became known in [begin, end)."""

FoldedTo = Callable[[Label, Micros], Micros]
"""Returns up to when all outcomes of a label are folded, at most the instant that is given."""

DAY = 24 * 3_600_000_000

LATE = 60_000_000
"""What was answered, or received, so many microseconds ago is in its log: a label that nothing
later can change is joined once."""

JUDGED = (
    "prediction_id", "at", "request_id", "version", "arm", "score", "threshold", "degraded",
    "request",
)  # fmt: skip
"""What a label is joined on, and what is judged by it."""

KEPT = ("at", "version", "degraded", "score", "threshold", "label", "label_known_time")
"""Of a prediction whose label is final, this is kept for as long as a monitor looks at it."""


class ModelRecord:
    """Predictions of one model and the outcomes that judge them, in order of instant and id.

    Nothing here but what the logs say, so an answer is the same in a process that has run for long
    and in one that has just begun. A label is final when its delay is over and all that became
    known until then is folded: an outcome that still waits for the fold counts as well.

    Args:
        model: the deployed model.
        history: its predictions.
        outcomes: returns what became known of its label.
        begin_of: returns the beginning of the step that an instant lies in.
        folded_to: returns up to when the outcomes of its label are folded.
    """

    def __init__(
        self,
        model: Model,
        history: PredictionHistory,
        outcomes: OutcomesOf,
        begin_of: Callable[[Micros], Micros],
        folded_to: FoldedTo,
    ) -> None:
        self.model = model
        self._history, self._outcomes, self._begin_of = history, outcomes, begin_of
        self._folded_to = folded_to
        self._final: list[pl.DataFrame] = []
        self._span: tuple[Micros, Micros] | None = None
        self._widest = 0

    def reaches(self, instant: Micros) -> bool:
        """Return whether predictions were made in the step of `instant` or before."""
        first = self._history.first(self.model.name)
        return first is not None and self._begin_of(first) <= instant

    def parts_since(
        self, instant: Micros, columns: Sequence[str] | None = None
    ) -> Iterator[pl.DataFrame]:
        """Yield the predictions asked at `instant` or later, in parts."""
        return self._history.frames(self.model.name, instant, None, columns)

    def predictions_since(
        self, instant: Micros, columns: Sequence[str] | None = None
    ) -> pl.DataFrame | None:
        """Return the predictions asked at `instant` or later, None if there are none."""
        found = list(self.parts_since(instant, columns))
        return _ordered(pl.concat(found, how="diagonal")) if found else None

    def some_since(self, instant: Micros, ids: pl.DataFrame) -> pl.DataFrame:
        """Return what was asked at `instant` or later and `ids` names, with all columns."""
        found = [
            part.join(ids, on="prediction_id", how="semi", maintain_order="left")
            for part in self.parts_since(instant)
        ]
        return _ordered(pl.concat(found, how="diagonal"))

    def answered_since(self, instant: Micros) -> bool:
        """Return whether any prediction was asked at `instant` or later."""
        return next(self.parts_since(instant, ["at"]), None) is not None

    def labels(self, predictions: pl.DataFrame, now: Micros) -> pl.DataFrame:
        """Return `prediction_id` and `label` of those predictions whose label is final at `now`."""
        label, now = self.model.label, self._folded_to(self.model.label, now)
        final = predictions.filter(pl.col("at") < from_micros(now - label.delay_us))
        if not final.height:
            return pl.DataFrame(schema={"prediction_id": pl.String, "label": pl.Boolean})
        instants = final["at"].dt.epoch("us").to_numpy()
        found = self._joined(final, int(instants.min()), int(instants.max()), now)
        return found.select("prediction_id", "label")

    def labelled_since(self, instant: Micros, now: Micros) -> pl.DataFrame | None:
        """Return the predictions asked at `instant` or later whose label is final at `now`.

        A final label never changes, so each is joined once: what is asked for again is kept, in the
        columns of `KEPT`, for the widest span that is asked for.
        """
        self._widest = max(self._widest, now - instant)
        if self._span is None or instant < self._span[0]:
            self._final, self._span = [], (instant, instant)
        begin, end = self._span
        folded = self._folded_to(self.model.label, now)
        final = folded - self.model.label.delay_us
        settled = final - LATE
        if settled > end:
            self._final += self._judged(end, settled, folded)
            end = settled
        begin = max(begin, now - self._widest)
        self._final = [f for f in self._final if f["at"][-1] >= from_micros(begin)]
        self._span = (begin, end)
        found = [*self._final, *self._judged(max(end, instant), final, folded)]
        if not found:
            return None
        return pl.concat(found).filter(pl.col("at") >= from_micros(instant)).sort(KEPT)

    def _judged(self, begin: Micros, end: Micros, now: Micros) -> list[pl.DataFrame]:
        """Return the labelled predictions asked in [begin, end), a day at most in each frame."""
        found = []
        while begin < end:
            until = min(end, begin - begin % DAY + DAY)
            for rows in self._history.frames(self.model.name, begin, until, JUDGED):
                judged = self._joined(rows, begin, until, now)
                if judged.height:
                    found.append(judged.select(KEPT).sort("at"))
            begin = until
        return found

    def _joined(self, rows: pl.DataFrame, begin: Micros, end: Micros, now: Micros) -> pl.DataFrame:
        label = self.model.label
        known_from, known_to = outcomes_known(label, begin, end)
        outcomes = self._outcomes(label, known_from, known_to + 1)
        return matured(rows, outcomes, label, now)


def _ordered(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("at", "prediction_id") if "prediction_id" in rows.columns else rows.sort("at")
