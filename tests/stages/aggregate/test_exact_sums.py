"""Exact sums and variances, to the bit, in any grouping, wrapped or not; or missing."""

from __future__ import annotations

from fractions import Fraction
from math import fsum
from statistics import pvariance

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.aggregate.exact import (
    SCALE,
    WEIGHT_LIMIT,
    ValueRefused,
    rounded,
    running_squares,
    running_sums,
    split,
    square_units,
    squares,
    units,
    variances,
    whole,
)
from homeostat.aggregate.operations import OPERATIONS, Totals
from homeostat.aggregate.slices import prefix, sums
from homeostat.testing.oracle_summaries import exact

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
    values = np.array([2.0**52 - 1, -(2.0**52) + 1, 7.0])
    assert rounded(whole(values)).tolist() == values.tolist()


@pytest.mark.parametrize("value", [2.0**52, -(2.0**52), 1e300, -1e300])
def test_a_value_beyond_the_range_weighs_more_than_a_sum_may(value: float) -> None:
    assert split(np.array([1.0, value]))[:, 0].tolist() == [1024, WEIGHT_LIMIT]
    assert whole(np.array([1.0, value]))[:, 0].tolist() == [1, WEIGHT_LIMIT]
    running = np.empty((3, 3), np.int64)
    running_sums(np.array([1.0, value]), running)
    assert running[0].tolist() == [0, 1024, 1024 + WEIGHT_LIMIT]
    for is_whole in (True, False):
        assert not squares(np.array([value]), is_whole=is_whole).any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueRefused, match="cannot be summed; allowed: finite"):
        split(np.array([1.0, value]), "view 'v', column 'x'")


LIMITED = st.floats(-(2.0**47), 2.0**47) | st.sampled_from((0.0, 0.1, 3e7 + 0.01, 2.0**47, 1e-300))
NEAR = st.builds(
    lambda far, near: [far + step for step in near],
    st.sampled_from((0.1, 3e7, 1e12, -(2.0**46))),
    st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=8),
)


@settings(max_examples=400)
@given(st.lists(LIMITED, min_size=1, max_size=8) | NEAR, st.booleans(), st.data())
def test_a_variance_is_the_float_nearest_to_the_true_one(
    values: list[float], is_whole: bool, data: st.DataObject
) -> None:
    if is_whole:
        values = [float(round(value)) for value in values]
    given_ = np.array(values)
    lanes, limbs = squares(given_, is_whole=is_whole), whole(given_) if is_whole else split(given_)
    running = np.empty((lanes.shape[1], len(values) + 1), np.int64)
    running_squares(given_, running, is_whole=is_whole)
    assert running.T.tolist() == prefix(lanes).tolist()
    begin = data.draw(st.integers(0, len(values) - 1))
    end = data.draw(st.integers(begin + 1, len(values)))
    window = np.array([begin]), np.array([end])
    exactly = [exact([value]) for value in values[begin:end]]
    total, square = sums(prefix(limbs), *window), sums(running.T, *window)
    assert square_units(square[0].tolist()) == sum(v * v for v in exactly) * (
        1 if is_whole else SCALE**2
    )
    expected = float(pvariance(exactly))
    assert bits(variances(window[1] - window[0], total, square)) == bits(expected)
    one, width = OPERATIONS["variance"].one, limbs.shape[1]
    read = [end - begin, *total[0].tolist(), *square[0].tolist()]
    lane_at = [(0,), tuple(range(1, 1 + width)), tuple(range(1 + width, len(read)))]
    assert one is not None
    assert bits(one(read, lane_at)) == bits(expected)


@pytest.mark.parametrize("value", [0.1, 3e7 + 0.3, -123.456, 2.0**30 + 0.7, 1e-20, 5e-324])
@pytest.mark.parametrize("count", [1, 2, 10, 2**20])
def test_the_variance_of_equal_values_is_zero(value: float, count: int) -> None:
    total = split(np.array([value])) * count
    square = squares(np.array([value]), is_whole=False) * count
    assert variances(np.array([count]), total, square).tolist() == [0.0]


def test_so_many_values_that_limbs_may_have_wrapped_have_no_sum() -> None:
    for operation, most in (("sum", 2**31), ("mean", 2**31), ("variance", 2**28), ("std", 2**28)):
        made = OPERATIONS[operation]
        lanes = [(0,), (1, 2, 3), tuple(range(4, 11))][: len(made.lanes)]
        for count, is_missing in ((most - 1, False), (most, True)):
            row = [count, *[0] * 10]
            assert made.one is not None
            assert np.isnan(made.one(row, lanes)) == is_missing
            assert np.isnan(made.values(Totals(np.array([row])), lanes)).tolist() == [is_missing]
