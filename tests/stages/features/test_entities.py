"""Entities are numbered as a dictionary would, whatever their keys are."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.declare.aggregations import count
from homeostat.declare.sources import Entity
from homeostat.declare.views import FeatureView
from homeostat.features.entities import Entities
from homeostat.testing.generators import readings

WHOLE = st.none() | st.integers(-3, 9) | st.sampled_from((-(2**63), -(2**62), 2**62 - 1, 2**63 - 1))
TEXT = st.none() | st.sampled_from(("", "a", "ab", "\N{SNOWMAN}"))


def check(key: str, dtype: Any, asked: list[Any], events: list[Any]) -> None:
    """Compare with a dictionary: the same numbers for the same keys, 0 for all others."""
    view = FeatureView("v", Entity(key, key), readings, (count(),))
    frame = pl.DataFrame({key: events}, {key: dtype})
    found = Entities(view, frame.schema, pl.DataFrame({key: asked}, {key: dtype}))
    numbers = dict(zip(asked, found.asked.tolist(), strict=True))
    known = set(asked) - {None}
    assert sorted(numbers[key] for key in known) == list(range(1, found.count + 1))
    assert found.count == len(known)
    assert numbers.get(None, 0) == 0
    assert found.of(frame).tolist() == [numbers.get(key, 0) for key in events]


@given(st.lists(WHOLE, min_size=1), st.lists(WHOLE))
def test_whole_numbers(asked: list[int | None], events: list[int | None]) -> None:
    check("site", pl.Int64, asked, events)


@given(st.lists(TEXT, min_size=1), st.lists(TEXT))
def test_texts(asked: list[str | None], events: list[str | None]) -> None:
    check("place", pl.String, asked, events)


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt16, pl.Int32, pl.UInt64])
def test_narrow_whole_numbers(dtype: Any) -> None:
    check("site", dtype, [7, 3, None, 7, 100], [0, 3, 4, 7, 100, 101, None])
