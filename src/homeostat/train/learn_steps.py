"""Learns what a transform needs to know about one column of numbers, from the training rows."""

from __future__ import annotations

from collections.abc import Callable
from sys import float_info
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostat.declare.encodings import FrequencyEncoding, OneHot, TargetEncoding
from homeostat.declare.transforms import Bins, Clip, Impute, Log, Scale, Transform
from homeostat.train.steps import (
    Binned,
    Clipped,
    Coded,
    Floats,
    Imputed,
    Logged,
    Marked,
    Scaled,
    Step,
    prepare,
)
from homeostat.train.target_rates import target_rates

__all__ = ["learn_step"]

MISSING = -1.0
"""Stands for missing where values are numbered from 0."""


def learn_step(
    transform: Transform, values: Floats, labels: NDArray[np.bool_], seed: int
) -> tuple[Step, Floats, Floats | None]:
    """Learn one step of one column.

    Args:
        transform: what is declared.
        values: the training rows' numbers so far, float64 (n,); infinities teach nothing.
        labels: the training rows' labels, for TargetEncoding.
        seed: of everything random.

    Returns:
        The step; the training rows' numbers after it, float64 (n,), no row encoded from its own
        label; and their marks, float64 (n, marks), or None.
    """
    if isinstance(transform, TargetEncoding):
        coded, column = _target(transform, values, labels, seed)
        return coded, column, None
    step = _LEARN[type(transform)](transform, values[np.isfinite(values)], len(values))
    changed, marks = prepare([step])(values[:, None])
    return step, changed[:, 0], marks


def _impute(transform: Impute, known: Floats, rows: int) -> Step:
    if transform.constant is not None:
        return Imputed(float(transform.constant), transform.indicator)
    if not len(known):
        return Imputed(0.0, transform.indicator)
    from sklearn.impute import SimpleImputer

    with np.errstate(over="ignore"):
        imputer = SimpleImputer(strategy=transform.by).fit(known[:, None])
    return Imputed(float(np.nan_to_num(imputer.statistics_[0])), transform.indicator)


def _scale(transform: Scale, known: Floats, rows: int) -> Step:
    if not len(known):
        return Scaled(0.0, 1.0)
    from sklearn import preprocessing

    column = known[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        if transform.by == "standard":
            standard = preprocessing.StandardScaler().fit(column)
            center, spread = standard.mean_[0], standard.scale_[0]
        elif transform.by == "robust":
            robust = preprocessing.RobustScaler().fit(column)
            center, spread = robust.center_[0], robust.scale_[0]
        else:
            ranged = preprocessing.MinMaxScaler().fit(column)
            center, spread = ranged.data_min_[0], ranged.data_range_[0] or 1.0
    if not np.isfinite([center, spread]).all():
        return Scaled(0.0, 1.0)  # numbers too large for their own spread
    return Scaled(float(center), float(spread))


def _clip(transform: Clip, known: Floats, rows: int) -> Step:
    if not len(known):
        return Clipped(-float_info.max, float_info.max, transform.flag)
    shares = [transform.low, transform.high]
    low, high = np.quantile(known, shares, method="inverted_cdf").tolist()
    return Clipped(low, high, transform.flag)


def _log(transform: Log, known: Floats, rows: int) -> Step:
    return Logged()


def _bins(transform: Bins, known: Floats, rows: int) -> Step:
    if transform.count is None:
        return Binned(transform.edges, transform.marks)
    shares = np.linspace(0.0, 1.0, transform.count + 1)
    if not len(known):
        return Binned((), transform.marks)
    with np.errstate(over="ignore"):
        edges = np.unique(np.quantile(known, shares, method="averaged_inverted_cdf"))[1:-1]
    return Binned(tuple(edges[np.isfinite(edges)].tolist()), transform.marks)


def _one_hot(transform: OneHot, known: Floats, rows: int) -> Step:
    values, counts = np.unique(known, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")[: transform.at_most]]
    return Marked(tuple(np.sort(frequent).tolist()))


def _frequency(transform: FrequencyEncoding, known: Floats, rows: int) -> Step:
    values, counts = np.unique(known, return_counts=True)
    missing = (rows - len(known)) / rows
    return Coded(tuple(values.tolist()), tuple((counts / rows).tolist()), missing, unseen=0.0)


def _target(
    transform: TargetEncoding, values: Floats, labels: NDArray[np.bool_], seed: int
) -> tuple[Step, Floats]:
    is_known = np.isfinite(values)
    known, places = np.unique(values[is_known], return_inverse=True)
    ordinals = np.full(len(values), MISSING)
    ordinals[is_known] = places
    rates = target_rates(ordinals, labels, transform.smooth, seed)
    codes = tuple(rates.by_value[float(number)] for number in range(len(known)))
    missing = rates.by_value.get(MISSING, rates.overall)
    return Coded(tuple(known.tolist()), codes, missing, rates.overall), rates.column


_LEARN: dict[type, Callable[[Any, Floats, int], Step]] = {
    Impute: _impute,
    Scale: _scale,
    Clip: _clip,
    Log: _log,
    Bins: _bins,
    OneHot: _one_hot,
    FrequencyEncoding: _frequency,
}
