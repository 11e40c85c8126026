"""Values far from the others: mistakes of the data, or its genuine long tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from homeostat.aggregate.arrays import Bools, Floats, Ints

__all__ = ["Outliers", "outliers_of"]

REACH = 3.0
"""Fences stand this many interquartile ranges outside the quartiles."""

LEAST_DISTINCT = 20
"""Fewer different values are codes or small counts: nothing is far out."""

CODES = frozenset({9.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0, 9999999.0, 1.0, 88.0, 888.0})
"""Magnitudes that stand for "not known" in old files."""

FAR = 5.0
"""An extreme this many times as far from the median as the value before it stands alone."""


@dataclass(frozen=True, slots=True)
class Outliers:
    """The values outside two fences.

    `verdict` is `quality` (they look like mistakes), `genuine` (the tail of a skewed column) or
    `unclear`. `robust_z` is how many scaled median deviations the farthest is from the median
    (None if more than half of the values are equal).
    """

    rows: int
    share: float
    low_fence: float
    high_fence: float
    robust_z: float | None
    verdict: str
    reasons: tuple[str, ...]
    examples: tuple[float, ...]


def outliers_of(values: Floats) -> Outliers | None:
    """Return the outliers of finite numbers, or None if there are none.

    >>> found = outliers_of(np.array([*range(100), -999.0, -999.0, -999.0]))
    >>> found.verdict, found.reasons
    ('quality', ('-999 repeats 3 times beyond the fences: a code for "not known"?',))
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < LEAST_DISTINCT:
        return None
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf").tolist()
    reach = REACH * (high - low)
    fences = np.nan_to_num([low - reach, high + reach]).tolist()
    outside = (distinct < fences[0]) | (distinct > fences[1])
    reasons = [*_codes(distinct, counts, outside), *_alone(distinct, middle), *_signs(values)]
    if high == low and not reasons:
        return None  # more than half are equal: every other value would be outside
    if not outside.any() and not reasons:
        return None
    rows = int(counts[outside].sum())
    spread = float(np.median(np.abs(values - middle)))
    farthest = float(np.abs(distinct - middle).max())
    verdict = "quality" if reasons else "unclear"
    if not reasons and _is_tame_in_logarithms(values):
        verdict, reasons = "genuine", ["a long tail: in logarithms nothing is far out"]
    examples = distinct[outside] if outside.any() else distinct[[0, -1]]
    return Outliers(
        rows=rows,
        share=rows / len(values),
        low_fence=fences[0],
        high_fence=fences[1],
        robust_z=0.6745 * farthest / spread if spread > 0 else None,
        verdict=verdict,
        reasons=tuple(reasons),
        examples=tuple(np.unique(np.r_[examples[:3], examples[-3:]]).tolist()),
    )


def _codes(distinct: Floats, counts: Ints, outside: Bools) -> list[str]:
    """Name the extremes that repeat beyond the fences and are written in nines, or -1."""
    found = []
    for place in {0, len(distinct) - 1}:
        value, repeats = float(distinct[place]), int(counts[place])
        if outside[place] and repeats >= 3 and abs(value) in CODES:
            found.append(
                f'{value:.15g} repeats {repeats} times beyond the fences: a code for "not known"?'
            )
    return sorted(found)


def _alone(distinct: Floats, middle: float) -> list[str]:
    """Name extremes that are far even from the value next to them."""
    found = []
    for extreme, neighbour in ((distinct[-1], distinct[-2]), (distinct[0], distinct[1])):
        away, nearest = abs(extreme - middle), abs(neighbour - middle)
        beyond = (extreme > middle) == (neighbour > middle)
        if beyond and nearest > 0 and away > FAR * nearest and abs(extreme) not in CODES:
            times = away / nearest
            found.append(f"{extreme:.15g} is {times:.3g} times as far out as the next value")
    return found


def _signs(values: Floats) -> list[str]:
    negatives = int((values < 0).sum())
    if 0 < negatives <= 0.001 * len(values):
        return [f"{negatives} of {len(values)} values are negative, and no others"]
    return []


def _is_tame_in_logarithms(values: Floats) -> bool:
    logs = np.sign(values) * np.log1p(np.abs(values))
    low, high = np.quantile(logs, [0.25, 0.75], method="inverted_cdf")
    reach = REACH * (high - low)
    outside = (logs < low - reach) | (logs > high + reach)
    return bool(high > low and outside.mean() < 0.001)
