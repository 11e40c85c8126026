"""Categories become the same numbers in training and in serving."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.features.assemble import Features
from homeostat.train.encoding import CategoryEncoding, FeaturesRefused
from homeostat.train.inputs import Inputs

ENCODING = CategoryEncoding({"a": 0.25, "": 0.5}, missing=0.75, unseen=1.5)
INPUTS = Inputs(("x", "kind"), {"kind": ENCODING}, {})


def features(*kinds: str | None) -> Features:
    matrix = np.column_stack([np.arange(len(kinds), dtype=np.float64), np.full(len(kinds), np.nan)])
    return Features(matrix, {"kind": list(kinds)})


@given(st.lists(st.one_of(st.none(), st.sampled_from(["a", "", "A", "b"]), st.text(max_size=3))))
def test_every_category_has_a_code(kinds: list[str | None]) -> None:
    encoded = INPUTS.matrix(features(*kinds))
    expected = [0.75 if k is None else {"a": 0.25, "": 0.5}.get(k, 1.5) for k in kinds]
    assert encoded[:, 1].tolist() == expected
    assert encoded[:, 0].tolist() == list(range(len(kinds)))


def test_the_given_features_are_left_as_they_were() -> None:
    given_features = features("a", None)
    INPUTS.matrix(given_features)
    assert np.isnan(given_features.matrix[:, 1]).all()


def test_numbers_alone_are_passed_through() -> None:
    matrix = np.array([[1.0, np.nan]])
    assert Inputs(("x", "kind"), {}, {}).matrix(Features(matrix, {})) is matrix


def test_another_width_is_refused() -> None:
    with pytest.raises(FeaturesRefused, match=r"got shape \[1, 1\]; allowed: \[n, 2\] .* x, kind"):
        INPUTS.matrix(Features(np.zeros((1, 1)), {}))


@pytest.mark.parametrize("categories", [{}, {"kind": ["a"], "other": ["b"]}, {"other": ["a"]}])
def test_other_categories_are_refused(categories: dict[str, list[str | None]]) -> None:
    with pytest.raises(FeaturesRefused, match="allowed: exactly kind"):
        INPUTS.matrix(Features(np.zeros((1, 2)), categories))
