"""How far the features have moved from the training set, and whether that is drift."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import format_duration
from homeostat.declare.monitors import Drift
from homeostat.monitor.findings import Finding
from homeostat.monitor.sketch import Sketch, SketchMismatch

__all__ = [
    "FeatureDrift",
    "drift_report",
    "jensen_shannon",
    "judge_drift",
    "kolmogorov_smirnov",
    "psi",
    "psi_noise",
    "without_chance",
]

SMOOTHING = 0.5
"""Added to every bin before PSI (Jeffreys), so that an empty bin gives a finite term."""

LEVEL = 3.719
"""Normal quantile of 1 - 1e-4: chance alone moves PSI beyond its noise once in 10,000 windows."""

LEAST = 4.0
"""Least ratio of the noise to the PSI that chance is expected to give."""

NEWS = 1e-6
"""Values in bins that training left empty count if chance would give them less often than this."""

FEW, PLAIN = 20, 2.0
"""Of so many rows, a PSI that is so many times what chance keeps below is drift (rows of a short
span resemble each other more than chance would have it), and so is one of values never seen."""

NAMED = 10
"""The evidence lists at most this many features, the farthest moved first."""

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """How far one feature has moved; `rows` are those of the current span, missing ones included.

    `psi` and `js` count missing values as a bin of their own, and so what training never had; `ks`
    is over the present values in order of size, and None for a text feature or where one side has
    no value. `noise` is what chance alone keeps `psi` below.
    """

    name: str
    psi: float
    js: float
    ks: float | None
    rows: int
    missing: float
    missing_reference: float
    noise: float
    news: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it moved so far that a window of few rows is enough to tell."""
        return self.rows >= FEW and (self.news > 0 or self.psi > PLAIN * self.noise)


def psi(reference: Counts, current: Counts) -> float:
    """Return the population stability index of two histograms over the same bins.

    Shares are (count + 0.5) / (rows + 0.5 * bins), over the bins that are not empty on both
    sides; the index is the sum of (current - reference) * ln(current / reference).

    >>> psi(np.array([50, 50]), np.array([500, 500]))
    0.0
    """
    there = (reference + current) > 0
    p, q = _smoothed(reference[there]), _smoothed(current[there])
    return float(np.sum((q - p) * np.log(q / p)))


def psi_noise(reference: Counts, current: Counts) -> float:
    """Return what chance alone keeps PSI below in all but one of 10,000 windows.

    Without drift, PSI over (1 / rows + 1 / rows) is about chi-squared with bins - 1 degrees of
    freedom; the quantile is by Wilson and Hilferty (1931). Rows that resemble each other vary more
    than that, so it is never less than `LEAST` times what is expected of independent ones. Bins
    that are empty on both sides do not count.
    """
    rows, others = int(reference.sum()), int(current.sum())
    if not rows or not others:
        return float("inf")
    free = int(np.count_nonzero(reference + current)) - 1
    if free < 1:
        return 0.0
    spread = 2 / (9 * free)
    quantile = float((1 - spread + LEVEL * spread**0.5) ** 3)
    return free * max(quantile, LEAST) * (1 / rows + 1 / others)


def without_chance(reference: Counts, current: Counts) -> Counts:
    """Return `current` without its values in bins that are empty in the reference, if they are few.

    With one distribution on both sides, that all `k` values of those bins are among the `m`
    current rows and none among the `n` of the reference has a probability of at most
    (m / (n + m)) ** k. Unless that is below `NEWS`, one stray value in a small window would
    be called drift.

    >>> without_chance(np.array([90, 0]), np.array([9, 1])).tolist()
    [9, 0]
    >>> without_chance(np.array([90, 0]), np.array([0, 10])).tolist()
    [0, 10]
    """
    empty = reference == 0
    rows, others = int(reference.sum()), int(current.sum())
    new = int(current[empty].sum())
    if not new or not rows or new * log(others / (rows + others)) <= log(NEWS):
        return current
    return np.where(empty, 0, current)


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """Return the Jensen-Shannon divergence in bits: 0 for equal shares, 1 for no bin in common.

    >>> jensen_shannon(np.array([5, 0]), np.array([0, 9]))
    1.0
    """
    if not reference.sum() or not current.sum():
        return 0.0
    p, q = reference / reference.sum(), current / current.sum()
    middle = (p + q) / 2
    return float(_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2


def kolmogorov_smirnov(reference: Counts, current: Counts) -> float | None:
    """Return the largest distance of the two distribution functions, at the bins' edges.

    Takes counts without the bin of missing values; None where one side is empty.

    >>> kolmogorov_smirnov(np.array([1, 1]), np.array([2, 0]))
    0.5
    """
    if not reference.sum() or not current.sum():
        return None
    distance = np.cumsum(reference) / reference.sum() - np.cumsum(current) / current.sum()
    return float(np.max(np.abs(distance)))


def drift_report(reference: Sketch, current: Sketch) -> tuple[FeatureDrift, ...]:
    """Return the drift of every feature, the farthest moved first (by PSI, then name)."""
    if reference.bins != current.bins:
        raise SketchMismatch("other features or bins", "sketches in the same bins")
    found = []
    for old, new in zip(reference.histograms, current.histograms, strict=True):
        before, after = np.array(old.counts, np.int64), np.array(new.counts, np.int64)
        shift = None
        if old.categories is None:
            shift = kolmogorov_smirnov(np.array(old.ordered), np.array(new.ordered))
        likely = without_chance(before, after)
        found.append(
            FeatureDrift(
                name=old.name,
                psi=psi(before, likely),
                js=jensen_shannon(before, after),
                ks=shift,
                rows=new.rows,
                missing=new.missing / max(new.rows, 1),
                missing_reference=old.missing / max(old.rows, 1),
                noise=psi_noise(before, likely),
                news=int(likely[before == 0].sum()),
            )
        )
    return tuple(sorted(found, key=lambda feature: (-feature.psi, feature.name)))


def judge_drift(monitor: Drift, report: tuple[FeatureDrift, ...]) -> Finding:
    """Return the finding about the features of the last window.

    A feature with too few rows for the bound (its `noise` is above it) is left out, unless it moved
    so far that few rows tell it; where those left out could tip the answer, drift is not judged.
    """
    name, span = monitor.model.name, format_duration(monitor.window_us)
    judged = [f for f in report if f.noise <= monitor.psi or f.is_plain]
    moved = [f for f in judged if f.psi > monitor.psi]
    evidence = {
        "psi": monitor.psi,
        "features": monitor.features,
        "window_us": monitor.window_us,
        "rows": max((f.rows for f in report), default=0),
        "judged": len(judged),
        "moved": [{"name": f.name, "psi": round(f.psi, 6)} for f in moved[:NAMED]],
        "moved_count": len(moved),
    }
    drifted = len(moved) >= monitor.features
    unjudged = len(report) - len(judged)
    if not drifted and len(moved) + unjudged >= monitor.features:
        reason = f"{evidence['rows']} rows are too few to judge a PSI of {monitor.psi:g}"
        return Finding("drift", name, "not judged", reason, evidence, span)
    told = f"{len(moved)} of {len(judged)} features moved by more than {monitor.psi:g} PSI"
    if moved:
        first = ", ".join(f"{f.name} {f.psi:.2f}" for f in moved[:3])
        told = f"{told} in {span} ({first}{', ...' if len(moved) > 3 else ''})"
    return Finding("drift", name, "found" if drifted else "clear", told, evidence, span)


def _smoothed(counts: Counts) -> Shares:
    return np.asarray((counts + SMOOTHING) / (counts.sum() + SMOOTHING * counts.size))


def _relative_entropy(shares: Shares, middle: Shares) -> float:
    there = shares > 0
    return float(np.sum(shares[there] * np.log2(shares[there] / middle[there])))
