"""Exact sums: equal to `math.fsum` to the bit, in any grouping, wrapped or not; or refused."""

from __future__ import annotations

from fractions import Fraction
from math import fsum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.aggregate.exact import SCALE, ValueRefused, rounded, split, units, whole
from homeostat.aggregate.slices import prefix, sums

# Where no value is below 2^-22, nothing is rounded before the sum.
VALUES = st.sampled_from((0.0, -0.0, 0.1, 1e9, -1e9, 1e12, -1e12, 2.0**-22, 1 / 3)) | st.builds(
    lambda value, power, sign: sign * value * 10.0**power,
    st.floats(1.0, 10.0), st.integers(-6, 12), st.sampled_from((-1.0, 1.0)),
)  # fmt: skip
MANY = st.lists(VALUES, min_size=1, max_size=40)


def bits(values: object) -> list[int]:
    found: list[int] = np.atleast_1d(np.asarray(values, np.float64)).view(np.int64).tolist()
    return found


@settings(max_examples=400)
@given(MANY)
def test_a_sum_is_the_float_nearest_to_the_true_one(values: list[float]) -> None:
    limbs = split(np.array(values)).sum(axis=0)
    expected = fsum(values) + 0.0
    assert bits(rounded(limbs.reshape(1, 3))) == bits(expected)
    assert bits(units(limbs.tolist()) / SCALE) == bits(expected)


@given(MANY, st.data())
def test_any_window_of_running_sums_is_exact(values: list[float], data: st.DataObject) -> None:
    running = prefix(split(np.array(values)))
    begin = data.draw(st.integers(0, len(values)))
    end = data.draw(st.integers(begin, len(values)))
    found = rounded(sums(running, np.array([begin]), np.array([end])))
    assert bits(found) == bits(fsum(values[begin:end]) + 0.0)


@given(st.lists(st.floats(-(2.0**51), 2.0**51, allow_subnormal=True), min_size=1, max_size=20))
def test_every_float_in_range_is_split_without_loss_above_the_last_unit(
    values: list[float],
) -> None:
    for value, limbs in zip(values, split(np.array(values)).tolist(), strict=True):
        kept = Fraction(units(limbs), SCALE)
        assert abs(kept - Fraction(value)) <= Fraction(1, 2 * SCALE)
        if abs(value) >= 2.0**-22:
            assert kept == Fraction(value)


LIMB = st.integers(-(2**61), 2**61)


@settings(max_examples=400)
@given(st.lists(st.tuples(LIMB, LIMB, LIMB), min_size=1, max_size=20))
def test_columns_round_as_python_divides(rows: list[tuple[int, int, int]]) -> None:
    found = rounded(np.array(rows, np.int64))
    assert bits(found) == bits([units(row) / SCALE + 0.0 for row in rows])


def test_ties_go_to_even_and_a_trace_decides() -> None:
    half = 2.0**-53
    for values in ([1.0, half], [1.0, half, 2.0**-74], [1.0, 3 * half], [1.0, -half / 2],
                   [2.0**51, 2.0**-2, 2.0**-74], [2.0**51, 2.0**-2, -(2.0**-74)]):  # fmt: skip
        limbs = split(np.array(values)).sum(axis=0).reshape(1, 3)
        assert bits(rounded(limbs)) == bits(fsum(values))


def test_running_sums_may_wrap_where_windows_do_not() -> None:
    values = np.full(5000, 2.0**51)
    running = prefix(split(values))
    assert running[:, 0].min() < 0
    ends = np.arange(1, 5001)
    assert rounded(sums(running, ends - 1, ends)).tolist() == values.tolist()


def test_whole_numbers_keep_one_limb() -> None:
    values = np.array([2**52 - 1, -(2**52) + 1, 7])
    assert rounded(whole(values)).tolist() == values.tolist()
    with pytest.raises(ValueRefused, match="4503599627370496"):
        whole(np.array([2**52]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.0**52, -(2.0**60)])
def test_what_has_no_exact_sum_is_refused(value: float) -> None:
    with pytest.raises(ValueRefused, match="cannot be summed exactly; allowed: finite"):
        split(np.array([1.0, value]), "view 'v', column 'x'")
