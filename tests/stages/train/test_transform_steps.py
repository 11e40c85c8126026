"""Transforms of numbers: as scikit-learn does them, alone as in a batch, defined everywhere."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from homeostat.declare.encodings import FrequencyEncoding, OneHot, TargetEncoding
from homeostat.declare.transforms import Bins, Clip, Impute, Log, Scale, Transform
from homeostat.train.learn_steps import learn_step
from homeostat.train.learned import chains_as_json, chains_of
from homeostat.train.steps import Floats, Step, prepare

ALL: list[Transform] = [
    Impute("x"),
    Impute("x", by="mean", indicator=True),
    Impute("x", by="most_frequent"),
    Impute("x", by="constant", constant=-7.5),
    Scale("x"),
    Scale("x", by="robust"),
    Scale("x", by="min_max"),
    Clip("x", low=0.1, high=0.8),
    Clip("x", flag=True),
    Log("x"),
    Bins("x", count=4),
    Bins("x", edges=(-1.0, 0.0, 2.5)),
    Bins("x", count=3, marks=True),
    OneHot("x", at_most=3),
    TargetEncoding("x"),
    FrequencyEncoding("x"),
]

PER_TRANSFORM = settings(max_examples=settings().max_examples // 3)
"""Of what is checked for each transform by itself."""

TAME = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3))
HOSTILE = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1.7976931348623157e308, -1e308, float("nan")]),
)


def column(values: list[float]) -> Floats:
    return np.array(values, np.float64)


def learned(transform: Transform, values: Floats) -> tuple[Step, Floats, Floats | None]:
    labels = np.arange(len(values)) % 3 == 0
    with np.errstate(over="ignore", invalid="ignore"):
        return learn_step(transform, values, labels, seed=0)


def applied(step: Step, values: Floats) -> tuple[Floats, Floats]:
    with np.errstate(over="ignore", invalid="ignore"):
        changed, marks = prepare([step])(values[:, None])
    return changed[:, 0], np.empty((len(values), 0)) if marks is None else marks


def by_scikit_learn(oracle: Any, train: Floats, values: Floats) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = oracle.fit(train[:, None]).transform(values[:, None])
    return np.asarray(found, np.float64)


@pytest.mark.parametrize("transform", ALL, ids=str)
@PER_TRANSFORM
@given(train=st.lists(HOSTILE, min_size=5, max_size=30), fresh=st.lists(HOSTILE, max_size=12))
def test_a_row_is_the_same_alone_as_in_a_batch(
    transform: Transform, train: list[float], fresh: list[float]
) -> None:
    step, _, _ = learned(transform, column(train))
    rows = column([*train, *fresh])
    values, marks = applied(step, rows)
    for row in range(len(rows)):
        value, mark = applied(step, rows[row : row + 1])
        assert value.tobytes() == values[row : row + 1].tobytes()
        assert mark.tobytes() == marks[row : row + 1].tobytes()
    assert marks.shape == (len(rows), step.marks)
    body = json.loads(json.dumps(chains_as_json({"x": ((step,),)}), allow_nan=False))
    assert chains_of(body) == {"x": ((step,),)}
    assert set(np.unique(marks).tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("transform", ALL, ids=str)
@PER_TRANSFORM
@given(train=st.lists(TAME, min_size=5, max_size=30))
def test_several_columns_at_once_are_each_as_alone(
    transform: Transform, train: list[float]
) -> None:
    one, other = column(train), column(train)[::-1] * 3 + 1
    steps = [learned(transform, values)[0] for values in (one, other)]
    changed, marks = prepare(steps)(np.column_stack([one, other]))
    alone = [applied(step, values) for step, values in zip(steps, (one, other), strict=True)]
    np.testing.assert_array_equal(changed, np.column_stack([values for values, _ in alone]))
    if marks is not None:
        np.testing.assert_array_equal(marks, np.concatenate([m for _, m in alone], axis=1))


@pytest.mark.parametrize(
    "transform", [t for t in ALL if not isinstance(t, TargetEncoding)], ids=str
)
def test_training_rows_get_what_later_rows_get(transform: Transform) -> None:
    train = column([3.0, 1.0, np.nan, 1.0, 8.0, 900.0, -4.0])
    step, changed, marks = learned(transform, train)
    values, found = applied(step, train)
    np.testing.assert_array_equal(changed, values)
    np.testing.assert_array_equal(np.empty((7, 0)) if marks is None else marks, found)


TRAINED_LIKE = [
    (Impute("x", by=by), SimpleImputer(strategy=by)) for by in ("mean", "median", "most_frequent")
] + [
    (Scale("x"), StandardScaler()),
    (Scale("x", by="robust"), RobustScaler()),
    (Scale("x", by="min_max"), MinMaxScaler()),
]


@pytest.mark.parametrize(("transform", "oracle"), TRAINED_LIKE, ids=str)
@PER_TRANSFORM
@given(
    train=st.lists(st.one_of(TAME, st.just(float("nan"))), min_size=2, max_size=40),
    fresh=st.lists(st.one_of(TAME, st.just(float("nan"))), min_size=1, max_size=10),
)
def test_as_scikit_learn(
    transform: Transform, oracle: Any, train: list[float], fresh: list[float]
) -> None:
    seen = column(train)
    if np.isnan(seen).all():
        seen[0] = 1.0
    step, _, _ = learned(transform, seen)
    expected = by_scikit_learn(oracle, seen, column(fresh))[:, 0]
    found, _ = applied(step, column(fresh))
    scale = float(np.nanmax(np.abs(expected), initial=1.0))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * scale)


@given(train=st.lists(TAME, min_size=6, max_size=60), fresh=st.lists(TAME, min_size=1, max_size=9))
def test_bins_are_scikit_learns(train: list[float], fresh: list[float]) -> None:
    seen, rows = column(train), column(fresh)
    oracle = KBinsDiscretizer(
        4, encode="ordinal", strategy="quantile", quantile_method="averaged_inverted_cdf"
    )
    if len(np.unique(seen)) > 8:
        step, _, _ = learned(Bins("x", count=4), seen)
        expected = by_scikit_learn(oracle, seen, rows)[:, 0]
        np.testing.assert_array_equal(applied(step, rows)[0], expected)


@given(
    train=st.lists(st.sampled_from([1.0, 2.0, 2.5, 7.0]), min_size=5, max_size=40),
    fresh=st.lists(st.sampled_from([1.0, 2.0, 2.5, 7.0, 8.0]), min_size=1, max_size=9),
)
def test_marks_are_scikit_learns(train: list[float], fresh: list[float]) -> None:
    step, _, _ = learned(OneHot("x", at_most=8), column(train))
    oracle = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    expected = by_scikit_learn(oracle, column(train), column(fresh))
    _, marks = applied(step, column(fresh))
    np.testing.assert_array_equal(marks[:, :-2], expected)
    np.testing.assert_array_equal(marks[:, -2], 1.0 - expected.sum(axis=1))
    assert not marks[:, -1].any()


@pytest.mark.parametrize("smooth", [None, 0.0, 12.5])
def test_rates_are_scikit_learns(smooth: float | None) -> None:
    random = np.random.default_rng(3)
    values = random.integers(0, 6, 200).astype(np.float64)
    labels = random.random(200) < values / 8
    step, column_of_train, _ = learn_step(TargetEncoding("x", smooth=smooth), values, labels, 0)
    oracle = TargetEncoder(
        target_type="continuous", smooth="auto" if smooth is None else smooth
    ).fit(values[:, None], labels.astype(float))
    fresh = column([0, 1, 2, 3, 4, 5, 99])
    expected = oracle.transform(fresh[:, None])[:, 0]
    np.testing.assert_array_equal(applied(step, fresh)[0], expected)
    own, _ = applied(step, values)
    assert not np.array_equal(column_of_train, own), "a row must not be encoded from its own label"
    assert np.corrcoef(column_of_train, own)[0, 1] > 0.8


def test_a_training_row_is_encoded_without_its_own_label() -> None:
    values = np.arange(50, dtype=np.float64)  # every value once: its rate would be its label
    labels = values % 2 == 0
    step, train, _ = learn_step(TargetEncoding("x", smooth=0.0), values, labels, seed=0)
    assert applied(step, values)[0].tolist() == labels.astype(float).tolist()
    assert len(np.unique(train)) <= 5  # the overall rate of the other folds, one per fold


@given(st.lists(HOSTILE, min_size=1, max_size=30))
def test_the_logarithm_is_odd_and_rises(values: list[float]) -> None:
    rows = np.sort(column(values))
    step, _, _ = learned(Log("x"), rows)
    found, mirrored = applied(step, rows)[0], applied(step, -rows)[0]
    np.testing.assert_array_equal(found, -mirrored)
    known = found[~np.isnan(found)]
    assert (known[1:] >= known[:-1]).all()
    small = np.abs(rows) < 1e300
    expected = np.sign(rows[small]) * np.log1p(np.abs(rows[small]))
    np.testing.assert_allclose(found[small], expected, rtol=1e-15)


def test_clipping_moves_and_flags_what_is_outside() -> None:
    train = np.arange(101, dtype=np.float64)
    step, _, _ = learned(Clip("x", low=0.1, high=0.9, flag=True), train)
    values, flags = applied(step, column([-5, 10, 50, 90, 91, np.nan, np.inf]))
    np.testing.assert_array_equal(values, [10, 10, 50, 90, 90, np.nan, 90])
    assert flags[:, 0].tolist() == [1, 0, 0, 0, 1, 0, 1]


def test_missing_and_never_seen_are_defined() -> None:
    train = column([1.0, 1.0, 2.0, 2.0, np.nan, 9.0, 9.0, 9.0])
    rows = column([np.nan, 4.0, np.inf])

    def after(transform: Transform) -> list[list[float]]:
        values, marks = applied(learned(transform, train)[0], rows)
        return marks.tolist() if len(marks.T) else [[v] for v in values.tolist()]

    assert after(Bins("x", count=2, marks=True))[0] == [0.0, 0.0]
    assert after(OneHot("x")) == [[0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0]]
    assert after(FrequencyEncoding("x")) == [[1 / 8], [0.0], [0.0]]
    missing, unseen, infinite = after(TargetEncoding("x"))
    assert unseen == infinite == [pytest.approx(3 / 8)]
    assert missing != unseen
    assert np.isnan(after(Scale("x"))[0][0])


@pytest.mark.parametrize("transform", ALL, ids=str)
@pytest.mark.parametrize("train", [[np.nan] * 6, [np.inf] * 6, [2.0] * 6], ids=str)
def test_a_column_that_teaches_nothing_still_works(
    transform: Transform, train: list[float]
) -> None:
    step, _, _ = learned(transform, column(train))
    values, marks = applied(step, column([1.0, np.nan, 2.0]))
    assert not np.isnan(values[[0, 2]]).any()
    assert not np.isnan(marks).any()
