"""Keys of many events at once are those of each of them."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.features.keys import LONGEST, KeyCodec


class Tap(hs.Event):
    """A card is held to a reader."""

    tap: str
    card: str
    reader: int
    at: hs.Timestamp


TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at")
VIEWS = [
    hs.FeatureView("some", hs.Entity("some", key=key), TAPS, (hs.count(),))
    for key in ("card", "reader", ("card", "reader"))
]

cards = st.text(max_size=4) | st.sampled_from(
    ["", "é" * (LONGEST // 2), "é" * (LONGEST // 2 - 1), "x" * LONGEST, "x" * (LONGEST + 1)]
)


@given(rows=st.lists(st.tuples(cards, st.integers(-3, 3))))
@example(rows=[("\U0001f600", 1), ("\uffff", 1), ("é", -1), ("z", 0), ("Z", 0)])
def test_keys_are_sorted_and_each_event_has_its_own(rows: list[tuple[str, int]]) -> None:
    columns: dict[str, list[Any]] = {"card": [a for a, _ in rows], "reader": [b for _, b in rows]}
    events = pl.DataFrame(columns, schema={"card": pl.String, "reader": pl.Int64})
    for view in VIEWS:
        codec = KeyCodec(view)
        keys, codes = codec.grouped(events)
        own = [codec.key(parts) for parts in events.select(view.entity.keys).iter_rows()]
        assert [keys[code] for code in codes] == own
        assert keys == sorted(set(filter(None, own)))
