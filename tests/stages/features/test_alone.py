"""On-demand functions that mix rows are found before a model is trained on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.declare.views import on_demand
from homeostat.features.alone import BatchDependent, require_alone

Function = Callable[[Any, Any], Any]

MIXING: list[Function] = [
    lambda x, y: x - x.mean(),
    lambda x, y: x / np.nanmax(x),
    lambda x, y: np.cumsum(x),
    lambda x, y: np.argsort(np.argsort(x)),
    lambda x, y: np.where(np.isnan(y), np.nanmean(y), y),
    lambda x, y: np.roll(x, 1),
    lambda x, y: x[::-1],
    lambda x, y: x + x[1],
    lambda x, y: np.diff(x, append=0.0),
    lambda x, y: (x - np.nanmedian(x)) / np.std(x),
]
SOUND: list[Function] = [
    lambda x, y: x / y,
    lambda x, y: np.log1p(np.abs(x)) * np.sin(y),
    lambda x, y: np.where(np.isnan(y), -1.0, y),
    lambda x, y: np.round(x, 2) + 3,
    lambda x, y: np.maximum(x, 0) ** 0.3,
    lambda x, y: np.zeros(len(x)),
]


def judged(function: Function, x: Any, y: Any) -> None:
    feature = on_demand("x", "y")(function)
    with np.errstate(all="ignore"):
        found = np.asarray(function(x.copy(), y.copy()), dtype=np.float64)
        require_alone(feature, [x, y], found)


def columns(n: int, seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    x, y = random.lognormal(3, 1, n), random.normal(0, 5, n)
    y[random.random(n) < 0.02] = np.nan
    y[n // 2] = np.nan
    return x, y


@pytest.mark.parametrize("function", MIXING)
@given(n=st.integers(120, 400), seed=st.integers(0, 2**32 - 1))
def test_a_function_that_mixes_rows_is_named(function: Function, n: int, seed: int) -> None:
    with pytest.raises(BatchDependent, match="a value that depends on its own row alone"):
        judged(function, *columns(n, seed))


@pytest.mark.parametrize("function", SOUND)
@given(n=st.integers(1, 400), seed=st.integers(0, 2**32 - 1))
def test_a_function_of_the_row_is_taken(function: Function, n: int, seed: int) -> None:
    judged(function, *columns(n, seed))
