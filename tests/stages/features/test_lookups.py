"""Rows are dealt to the parts that hold them."""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from homeostat.features.sweep import by_part


@given(
    st.lists(st.integers(0, 9), min_size=1),
    st.lists(st.integers(-2, 10**6)),
    st.integers(0, 6),
)
def test_rows_are_dealt_to_the_parts_that_hold_them(
    sizes: list[int], drawn: list[int], shift: int
) -> None:
    first = np.array([*accumulate(sizes, initial=0)])
    n = int(first[-1])
    rows = np.array([row % n if row >= 0 and n else -1 for row in drawn], np.int64)
    guesses = np.searchsorted(first[1:], np.arange(0, n + 1, 1 << shift), side="right")
    cuts, (places, near) = by_part(rows, first, guesses, shift)
    found = [
        list(zip(places[begin:end].tolist(), near[begin:end].tolist(), strict=True))
        for begin, end in pairwise(cuts.tolist())
    ]
    assert found == [
        [(place, row - begin) for place, row in enumerate(rows.tolist()) if begin <= row < end]
        for begin, end in pairwise(first.tolist())
    ]
