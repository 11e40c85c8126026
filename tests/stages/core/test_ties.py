"""Ties of ids: one number each, in the order of the ids where that is promised."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.ids import event_tie, event_ties, number_tie, number_ties

USUAL = "#-./0123456789:ABCXYZ_abcxyz"
TEXTS = (
    st.text(max_size=30) | st.text(USUAL, max_size=14) | st.from_regex(r"[a-z]{0,12}-[0-9]{1,12}")
)


@given(st.lists(TEXTS, min_size=1))
def test_many_are_as_each(texts: list[str]) -> None:
    assert event_ties(texts).tolist() == [event_tie(text) for text in texts]


@given(st.lists(st.text(USUAL, min_size=1, max_size=10), min_size=2))
def test_short_texts_order_by_their_bytes(texts: list[str]) -> None:
    assert sorted(texts, key=event_tie) == sorted(texts)
    assert len({event_tie(text) for text in texts}) == len(set(texts))


@given(
    st.text(min_size=10, max_size=60).filter(lambda head: not head[-1].isdigit()),
    st.integers(1, 9),
    st.data(),
)
def test_longer_texts_that_count_up_order_so(head: str, width: int, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, 10**width - 1), min_size=2))
    texts = [f"{head}{number:0{width}d}" for number in numbers]
    assert sorted(texts, key=event_tie) == sorted(texts)
    assert len({event_tie(text) for text in texts}) == len(set(texts))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_numbers_order_as_numbers_and_none_is_0(numbers: list[int]) -> None:
    found = number_ties(np.array(numbers, np.int64)).tolist()
    assert found == [number_tie(number) for number in numbers]
    assert found == [event_tie(str(number), is_number=True) for number in numbers]
    assert sorted(numbers, key=number_tie) == sorted(numbers)
    assert 0 not in found
