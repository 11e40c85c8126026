"""The kernel's pieces against loops that are obviously right."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from homeostat.aggregate.slices import (
    Scale,
    Searchable,
    expand,
    extremes,
    in_order,
    nearest,
    search,
)

FLOATS = st.lists(st.sampled_from((float("nan"), 0.0, 1.0, -2.5, float("inf"))), max_size=40)


def drawn_slices(data: st.DataObject, n: int) -> list[tuple[int, int]]:
    bounds = st.tuples(st.integers(0, n), st.integers(0, n)).map(lambda p: (min(p), max(p)))
    found: list[tuple[int, int]] = data.draw(st.lists(bounds, min_size=1, max_size=8))
    return found


@given(st.lists(st.integers(-5, 5), max_size=30), st.data())
def test_search_finds_the_first_row_not_below(values: list[int], data: st.DataObject) -> None:
    cuts = drawn_slices(data, len(values))
    ordered = np.array(values, np.int64)
    for low, high in cuts:
        ordered[low:high].sort()
    for low, high in cuts[-1:]:
        needle = data.draw(st.integers(-6, 6))
        found = search(ordered, np.array([low]), np.array([high]), np.array([needle]))
        wanted = next((row for row in range(low, high) if ordered[row] >= needle), high)
        assert found.tolist() == [wanted]


NARROW, WIDE = st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1)


# The widest range that is packed with two values, and the narrowest that is not.
@given(
    st.lists(NARROW)
    | st.lists(WIDE)
    | st.lists(st.sampled_from((-7, 2**61 - 8, 2**61 - 7)), min_size=2, max_size=3)
)
def test_values_in_order_say_where_they_were(values: list[int]) -> None:
    found, places = in_order(np.array(values, np.int64))
    assert found.tolist() == sorted(values)
    assert places.tolist() == sorted(range(len(values)), key=values.__getitem__)


@given(st.one_of(*(st.lists(st.tuples(st.integers(0, 3), v), max_size=30) for v in (NARROW, WIDE))))
def test_pairs_are_searched_like_tuples(rows: list[tuple[int, int]]) -> None:
    rows.sort()
    group, values = (np.array([row[side] for row in rows], np.int64) for side in (0, 1))
    scale = Scale.of(values, 4)
    index = Searchable(scale, scale.keys(group, values))
    needles = [w for v in {0, *values.tolist()} for w in (v - 1, v, v + 1) if abs(w) < 2**63]
    for needle in needles:
        for asked in range(4):
            found = index.at_least(np.array([asked]), np.array([needle]))
            wanted = sum((g, v) < (asked, needle) for g, v in rows)
            assert found.tolist() == [wanted]


@given(FLOATS, st.data())
def test_extremes_are_those_of_the_slice(values: list[float], data: st.DataObject) -> None:
    cuts = drawn_slices(data, len(values))
    begin, end = (np.array(side) for side in zip(*cuts, strict=True))
    for select, best in (("least", min), ("greatest", max)):
        found = extremes(select, np.array(values), begin, end)  # type: ignore[arg-type]
        wanted = [
            best([v for v in values[low:high] if v == v], default=float("nan"))
            for low, high in cuts
        ]
        np.testing.assert_array_equal(found, wanted)


@given(FLOATS)
def test_nearest_rows_have_a_value(values: list[float]) -> None:
    have = [row for row, value in enumerate(values) if value == value]
    latest = [max((h for h in have if h <= row), default=-1) for row in range(len(values))]
    earliest = [
        min((h for h in have if h >= row), default=len(values)) for row in range(len(values))
    ]
    assert nearest("latest", np.array(values)).tolist() == latest
    assert nearest("earliest", np.array(values)).tolist() == earliest


@given(st.data())
def test_expand_lists_every_row_of_every_slice(data: st.DataObject) -> None:
    cuts = drawn_slices(data, 12)
    begin, end = (np.array(side) for side in zip(*cuts, strict=True))
    owner, row = expand(begin, end)
    wanted = [(n, r) for n, (low, high) in enumerate(cuts) for r in range(low, high)]
    assert list(zip(owner.tolist(), row.tolist(), strict=True)) == wanted
