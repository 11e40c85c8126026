"""Columns that know too much: the label, or what happened after the prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Bools, Floats, Ints

__all__ = [
    "Knowledge",
    "Leak",
    "knowledge_of",
    "later_than_asked",
    "telling_by_absence",
    "too_knowing",
]

BINS = 64
"""Numbers are cut into so many bins of equal weight; missing is a bin of its own."""

SMOOTHING = 20.0
"""The overall rate weighs as many rows in the rate of a value."""

KNOWS = 0.95
"""An area under the curve that one honest column hardly reaches."""

LEAST = 0.75
"""Below this, a column is no suspect however far it is ahead of the others."""

GAP = 2.0
"""A suspect's error (1 - area) is so many times smaller than that of the next column."""


CERTAIN = 0.005
"""Missing rows of which all but this share have one label tell it."""

BY_CHANCE = 1e-6
"""The likelihood below which that is no accident of few rows."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What one column says about the label.

    `auc` ranks rows by the rate of positives of their value, learned on the other half of the
    rows. `rows_missing` have no value; `rate_missing` and `rate_present` are the shares of
    positives without and with one.
    """

    auc: float
    rows_missing: int
    rate_missing: float | None
    rate_present: float | None


@dataclass(frozen=True, slots=True)
class Leak:
    """A column that should not be a feature, and why."""

    column: str
    kind: str
    reason: str


def knowledge_of(column: pl.Series, labels: Floats) -> Knowledge | None:
    """Return what a column knows, or None if the rows have one class only.

    Args:
        column: the values; NaN must be null already.
        labels: 1, 0 or NaN where unknown, float64 (n,).
    """
    known = ~np.isnan(labels)
    truth = labels[known] == 1.0
    if truth.all() or not truth.any():
        return None
    codes = _codes(column)[known]
    is_missing = codes == 0
    return Knowledge(
        auc=_auc(_rates_of_the_other_half(codes, truth), truth),
        rows_missing=int(is_missing.sum()),
        rate_missing=float(truth[is_missing].mean()) if is_missing.any() else None,
        rate_present=float(truth[~is_missing].mean()) if not is_missing.all() else None,
    )


def _codes(column: pl.Series) -> Ints:
    """Return one code per value, int64 (n,): 0 is missing, numbers of many values are binned."""
    if column.dtype.is_numeric() and column.n_unique() > BINS:
        ranks = column.rank("average").to_numpy()
        count = len(column) - column.null_count()
        bins = np.ceil(ranks / count * BINS)
        return np.where(np.isnan(bins), 0, bins).astype(np.int64)
    return column.rank("dense").fill_null(0).to_numpy().astype(np.int64)


def _rates_of_the_other_half(codes: Ints, truth: Bools) -> Floats:
    half = np.arange(len(codes)) % 2
    scores = np.empty(len(codes))
    size = int(codes.max()) + 1
    for mine in (0, 1):
        others = half != mine
        overall = truth[others].mean() if others.any() else 0.5
        rows = np.bincount(codes[others], minlength=size)
        positives = np.bincount(codes[others], weights=truth[others], minlength=size)
        rates = (positives + SMOOTHING * overall) / (rows + SMOOTHING)
        # The halves differ in their overall rate; what is compared is a value against its half.
        scores[~others] = rates[codes[~others]] - overall
    return scores


def _auc(scores: Floats, truth: Bools) -> float:
    """Return the chance that a positive's score is above a negative's, ties half."""
    ranks = pl.Series(scores).rank("average").to_numpy()
    positives = int(truth.sum())
    wins = float(ranks[truth].sum()) - positives * (positives + 1) / 2
    return wins / (positives * (len(truth) - positives))


def too_knowing(knowledge: Mapping[str, Knowledge]) -> list[Leak]:
    """Return the columns that know the label too well, best first.

    Either they know it nearly for sure, or they are ahead of all others by a wide gap.
    """
    order = sorted(knowledge, key=lambda name: (-knowledge[name].auc, name))
    errors = [1.0 - knowledge[name].auc for name in order]
    ahead = 0
    for place in range(len(order) - 1):
        if errors[place] <= 1.0 - LEAST and errors[place + 1] >= GAP * errors[place]:
            ahead = place + 1
    found = []
    for place, name in enumerate(order):
        auc = knowledge[name].auc
        if auc >= KNOWS:
            reason = f"alone it ranks the label with an area of {auc:.3f}"
        elif place < ahead:
            rest = knowledge[order[ahead]].auc
            reason = f"alone it ranks the label with an area of {auc:.3f}, the others {rest:.3f}"
        else:
            break
        found.append(Leak(name, "knows_the_label", f"{reason}; is it known before the prediction?"))
    return found


def telling_by_absence(knowledge: Mapping[str, Knowledge], overall: float) -> list[Leak]:
    """Return the columns that tell the label where they are missing.

    Args:
        knowledge: of each column.
        overall: the share of positives.
    """
    found = []
    for name, known in knowledge.items():
        rate = known.rate_missing
        if rate is None or CERTAIN < rate < 1.0 - CERTAIN:
            continue
        chance = (overall if rate > 0.5 else 1.0 - overall) ** known.rows_missing
        if chance < BY_CHANCE:
            reason = (
                f"{rate:.1%} of the {known.rows_missing} rows without it are positive, "
                f"{overall:.1%} of all; is it filled in when the outcome is known?"
            )
            found.append(Leak(name, "missing_knows_the_label", reason))
    return found


def later_than_asked(
    frame: pl.DataFrame, at: pl.Series, known: pl.Series | None, key: str
) -> list[Leak]:
    """Return the columns that hold, or change to, what was not known at the prediction.

    Args:
        frame: the columns, and maybe `key`, which tells versions of one event from other events.
        at: the instant of each row's prediction.
        known: the instant at which each row became known; None if it is not told.
        key: the name of the column of the event's id.
    """
    found: list[Leak] = []
    for name, dtype in frame.schema.items():
        if dtype == pl.Datetime:
            later = (frame[name] > at).mean()
            if isinstance(later, float) and later > 0.01:
                reason = f"in {later:.1%} of the rows it is an instant after the prediction"
                found.append(Leak(name, "after_the_prediction", reason))
    if known is None or key not in frame.columns:
        return found
    versions = frame.with_columns(at.alias("_at"), known.alias("_known")).filter(
        pl.col(key).is_duplicated()
    )
    return [*found, *_changed(versions.sort("_known", maintain_order=True), key)]


def _changed(versions: pl.DataFrame, key: str) -> list[Leak]:
    """Find columns whose last version known before the prediction is not the last of all."""
    names = [n for n in versions.columns if n not in (key, "_at", "_known")]
    before = pl.col("_known") < pl.col("_at").first()
    ends = versions.group_by(key).agg(
        before.any().alias("_asked"),
        *(pl.col(n).filter(before).last().ne_missing(pl.col(n).last()).alias(n) for n in names),
    )
    asked = ends.filter("_asked")
    if not asked.height:
        return []
    found = []
    for name in names:
        share = asked[name].mean()
        if isinstance(share, float) and share > 0:
            reason = f"in {share:.1%} of the events it changes after the prediction"
            found.append(Leak(name, "changes_later", reason))
    return found
