"""Drift of columns of many shapes: every kind of new value is found, and chance is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

import homeostat as hs
from homeostat.monitor.drift import FeatureDrift, drift_report, judge_drift, without_chance
from homeostat.monitor.sketch import Sketch, sketch_like, sketch_of
from homeostat.testing.toy_training import toy_model

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
BOUND = 0.25


def sparse(share: float) -> Draw:
    """Return a draw of zeros, of which a share is one of three codes."""

    def draw(rng: np.random.Generator, rows: int) -> Floats:
        codes = rng.choice([1.0, 2.0, 7.0], rows)
        return np.where(rng.random(rows) < share, codes, 0.0)

    return draw


SHAPES: Mapping[str, Draw] = {
    "constant": lambda rng, rows: np.full(rows, 0.0),
    "binary": lambda rng, rows: (rng.random(rows) < 0.3).astype(np.float64),
    "rare flag": lambda rng, rows: (rng.random(rows) < 0.002).astype(np.float64),
    "few codes": lambda rng, rows: rng.choice([1.0, 2.0, 3.0, 10.0], rows),
    "rare codes": sparse(0.01),
    "many codes": lambda rng, rows: rng.integers(0, 120, rows).astype(np.float64),
    "counts": lambda rng, rows: rng.poisson(3.0, rows).astype(np.float64),
    "long counts": lambda rng, rows: rng.geometric(0.05, rows).astype(np.float64),
    "normal": lambda rng, rows: rng.normal(size=rows),
    "heavy tail": lambda rng, rows: rng.standard_cauchy(rows),
    "amounts": lambda rng, rows: np.round(rng.lognormal(3.0, 1.0, rows), 2),
    "zeros and amounts": lambda rng, rows: np.where(
        rng.random(rows) < 0.6, 0.0, rng.lognormal(3.0, 1.0, rows)
    ),
    "gaps": lambda rng, rows: np.where(rng.random(rows) < 0.5, np.nan, rng.normal(size=rows)),
    "always missing": lambda rng, rows: np.full(rows, np.nan),
}


def drift_of(reference: Sketch, values: Floats) -> FeatureDrift:
    return drift_report(reference, sketch_like(reference, values[:, None], {}))[0]


def is_found(drift: FeatureDrift) -> bool:
    """Whether a monitor of one feature finds it."""
    return judge_drift(hs.Drift(toy_model(), psi=BOUND), (drift,)).found


@pytest.mark.parametrize("shape", SHAPES)
def test_chance_is_not_drift_whatever_the_shape_and_the_window(shape: str) -> None:
    rng, draw = np.random.default_rng(7), SHAPES[shape]
    for rows in (100, 400, 3_000):
        reference = sketch_of(draw(rng, rows)[:, None], ["x"], {})
        for window in (10, 20, 60, 200, 1_000, 20_000):
            for _ in range(12):
                found = drift_of(reference, draw(rng, window))
                assert not is_found(found), (rows, window, found)


CHANGES: Mapping[str, tuple[str, ...]] = {
    "beyond the largest": tuple(SHAPES),
    "below the smallest": tuple(SHAPES),
    "to anything": tuple(SHAPES),
    "between the known": ("binary", "few codes", "rare codes", "many codes", "counts"),
    "a seventh is new": tuple(SHAPES),
    "missing": tuple(name for name in SHAPES if name not in ("gaps", "always missing")),
}


def changed(change: str, values: Floats, rng: np.random.Generator) -> Floats:
    """Return the values of a window after something has changed."""
    rows = len(values)
    if change == "beyond the largest":
        return np.full(rows, 1e12)
    if change == "below the smallest":
        return np.full(rows, -1e12)
    if change == "to anything":
        return rng.normal(size=rows) * 1e7
    if change == "between the known":
        return np.where(rng.random(rows) < 0.3, 0.5, values)
    if change == "missing":
        return np.full(rows, np.nan)
    return np.where(np.arange(rows) % 7 == 0, 1e9, values)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("window", [400, 3_000])
def test_every_kind_of_new_value_is_drift(change: str, window: int) -> None:
    rng = np.random.default_rng(11)
    for shape in CHANGES[change]:
        reference = sketch_of(SHAPES[shape](rng, 3_000)[:, None], ["x"], {})
        later = changed(change, SHAPES[shape](rng, window), rng)
        assert is_found(drift_of(reference, later)), shape


@pytest.mark.parametrize("window", [20, 60, 150])
@pytest.mark.parametrize(
    ("before", "later"),
    [
        (np.zeros(1_000), lambda rng, n: np.full(n, 100.0)),
        (np.ones(1_000), lambda rng, n: rng.choice([0.0, 1.0], n)),
        (np.full(1_000, np.nan), lambda rng, n: rng.normal(size=n)),
        (np.arange(1_000) % 3.0, lambda rng, n: np.full(n, 9.0)),
    ],
    ids=["constant", "flag", "never there", "new code"],
)
def test_what_is_plain_is_found_in_a_short_window(before: Floats, later: Draw, window: int) -> None:
    """Its noise is above the bound for want of rows, and its PSI far above its noise."""
    reference = sketch_of(before[:, None], ["x"], {})
    moved = drift_of(reference, later(np.random.default_rng(3), window))
    assert is_found(moved)
    assert (moved.noise > BOUND) == (window < 100)
    alone = judge_drift(hs.Drift(toy_model(), features=2, psi=BOUND), (moved,))
    assert not alone.found


@pytest.mark.parametrize("window", [40, 60, 150])
def test_a_seventh_that_is_new_is_found_in_a_short_window(window: int) -> None:
    codes: Floats = np.arange(1_000, dtype=np.float64) % 3
    reference = sketch_of(codes[:, None], ["x"], {})
    later = np.where(np.arange(window) % 7 == 0, 9.0, codes[:window])
    moved = drift_of(reference, later)
    assert is_found(moved)
    assert moved.news == np.count_nonzero(later == 9)
    assert drift_of(reference, np.where(np.arange(window) < 2, 9.0, codes[:window])).news == 0


@pytest.mark.parametrize("count", [3, 40, 90, 300, 600])
def test_a_new_text_is_drift_and_rare_ones_are_not(count: int) -> None:
    rng = np.random.default_rng(5)
    names = [f"shop{n}" for n in range(count)]

    def report(values: list[str | None]) -> FeatureDrift:
        none = np.full((len(values), 1), np.nan)
        return drift_report(reference, sketch_like(reference, none, {"shop": values}))[0]

    training: list[str | None] = rng.choice(names, 4_000).tolist()
    reference = sketch_of(np.full((4_000, 1), np.nan), ["shop"], {"shop": training})
    later: list[str | None] = rng.choice(names, 2_000).tolist()
    assert not is_found(report(later))
    assert is_found(report(["new" if n % 5 == 0 else name for n, name in enumerate(later)]))


def test_one_stray_value_in_a_small_window_is_chance_and_many_are_not() -> None:
    reference = sketch_of(np.zeros((1_000, 1)), ["flag"], {})
    stray = np.zeros(80)
    stray[:2] = 1.0
    assert drift_of(reference, stray).psi == 0.0
    stray[:30] = 1.0
    assert is_found(drift_of(reference, stray))
    none = np.array([0, 0, 0])
    assert without_chance(none, np.array([1, 2, 3])).tolist() == [1, 2, 3]
