"""The skew audit: logged features, computed again from the lake, must be the same bits.

Where they are not, `features/blame.py` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.features.blame import Blame
from homeostat.features.causes import CAUSES, Cause
from homeostat.features.confidence import upper_bound
from homeostat.features.evidence import Evidence, NoEvidence
from homeostat.features.logged import EventsOf, LoggedFeatures, differ

__all__ = ["Difference", "SkewAudit", "audit"]

LISTED = 20
"""At most this many differences of each cause are listed; all are counted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One feature that came out differently, its cause, and what proves that."""

    prediction_id: str
    feature: str
    logged: float
    recomputed: float
    cause: Cause
    evidence: str


@dataclass(frozen=True, slots=True)
class SkewAudit:
    """What an audit found.

    `compared` and `different` count feature values of `predictions`, `affected` the predictions
    with a value that differs. `causes` counts the differences by cause, and `differing` lists the
    first of each. A value is compared by both rules: made again at the recorded offsets it must be
    the same bits, and so must it be without what was known only at the prediction's instant or
    later (`not_yet_known`). `lagging` counts the values that would differ had each prediction seen
    every event known before its instant: that is processing lag, not error. `skipped` predictions
    were answered without their stored features, or without any. Audits of different predictions
    add up.
    """

    predictions: int = 0
    compared: int = 0
    different: int = 0
    affected: int = 0
    differing: tuple[Difference, ...] = ()
    causes: Mapping[Cause, int] = field(default_factory=dict, hash=False)
    lagging: int = 0
    skipped: int = 0

    @property
    def bound(self) -> float:
        """The share of predictions with a difference that is ruled out with 95 % confidence.

        For predictions drawn at random. Values of one prediction share their entity and their
        snapshot, so the prediction is what is drawn, not the value.
        """
        return upper_bound(self.affected, self.predictions)

    @property
    def told(self) -> str:
        """The counts and the bound in words.

        >>> SkewAudit(predictions=600, compared=4800).told
        '0 of 4,800 values differ, in 0 of 600 predictions: below 0.5 % with 95 % confidence'
        """
        found = (
            f"{self.different:,} of {self.compared:,} values differ, in {self.affected:,} of "
            f"{self.predictions:,} predictions"
        )
        if not self.predictions:
            return found
        percent = 100 * self.bound
        said = f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"
        return f"{found}: below {said} % with 95 % confidence"

    def __add__(self, other: SkewAudit) -> SkewAudit:
        counts = Counter(self.causes) + Counter(other.causes)
        return SkewAudit(
            self.predictions + other.predictions,
            self.compared + other.compared,
            self.different + other.different,
            self.affected + other.affected,
            _first_of_each((*self.differing, *other.differing)),
            {cause: counts[cause] for cause in CAUSES if counts[cause]},
            self.lagging + other.lagging,
            self.skipped + other.skipped,
        )


def audit(
    system: System,
    model: Model,
    predictions: pl.DataFrame,
    events_of: EventsOf,
    evidence: Evidence | None = None,
) -> SkewAudit:
    """Compute the features of logged predictions again, at their recorded offsets.

    Args:
        system: the declarations.
        model: whose predictions these are.
        predictions: rows of its prediction log.
        events_of: returns the events of a source, from as far back as the features look.
        evidence: asked for the causes of differences; without, most are unexplained.

    Returns:
        What differs by a single bit, and why.
    """
    asked = evidence or NoEvidence()
    logged = LoggedFeatures.of(system, model, predictions, asked.definitions)
    skipped = predictions.height - logged.rows.height
    if not logged.rows.height:
        return SkewAudit(skipped=skipped)
    again = logged.again(events_of)
    unlike = logged.present & differ(logged.values, again)
    early = logged.not_yet_known(events_of)
    strict = _strictly(logged, again, events_of, early)
    not_yet = logged.present & ~unlike & differ(again, strict)
    differing: tuple[Difference, ...] = ()
    causes: dict[Cause, Ints] = {}
    if unlike.any():
        blame = Blame(logged, again, events_of, asked)
        causes = blame.causes(unlike)
        differing = tuple(
            Difference(
                str(logged.rows["prediction_id"][row]),
                logged.names[column],
                float(logged.values[row, column]),
                float(again[row, column]),
                cause,
                blame.evidence(row, column),
            )
            for cause, places in causes.items()
            for row, column in places[:LISTED].tolist()
        )
    if not_yet.any():
        causes["not_yet_known"] = np.argwhere(not_yet)
        differing += tuple(
            Difference(
                str(logged.rows["prediction_id"][row]),
                logged.names[column],
                float(logged.values[row, column]),
                float(strict[row, column]),
                "not_yet_known",
                _what_came_early(early, row),
            )
            for row, column in causes["not_yet_known"][:LISTED].tolist()
        )
    wrong = unlike | not_yet
    return SkewAudit(
        logged.rows.height,
        int(logged.present.sum()),
        int(wrong.sum()),
        int(wrong.any(axis=1).sum()),
        _first_of_each(differing),
        {cause: len(causes[cause]) for cause in CAUSES if cause in causes},
        int(differ(strict, logged.timely(events_of)).sum()),
        skipped,
    )


def _strictly(
    logged: LoggedFeatures, again: Floats, events_of: EventsOf, early: Mapping[str, Ints]
) -> Floats:
    """Return the features by both rules: from what the snapshot held and was known before.

    They are those at the recorded offsets wherever no snapshot held more than it may.
    """
    if not early:
        return again
    rows = np.flatnonzero(np.any([first >= 0 for first in early.values()], axis=0))
    strict = again.copy()
    strict[rows] = logged.strictly(events_of, early, rows)
    return strict


def _what_came_early(early: Mapping[str, Ints], row: int) -> str:
    told = [f"offset {first[row]} of {s!r}" for s, first in early.items() if first[row] >= 0]
    return (
        f"the snapshot held {' and '.join(told)}, known at the prediction's instant or later: "
        "training does not see it"
    )


def _first_of_each(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """Return the first differences of each cause, by cause."""
    listed: dict[Cause, list[Difference]] = {cause: [] for cause in CAUSES}
    for difference in differences:
        if len(listed[difference.cause]) < LISTED:
            listed[difference.cause].append(difference)
    return tuple(difference for found in listed.values() for difference in found)
