"""Many windows read at once, against loops that are obviously right."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.aggregate import summaries
from homeostat.aggregate.codes import CODES, codes_of, mixed
from homeostat.aggregate.columns import prepare
from homeostat.aggregate.decayed import DecayedSum
from homeostat.aggregate.distinct import DistinctCount
from homeostat.aggregate.exact import ValueRefused
from homeostat.aggregate.layout import Layout
from homeostat.aggregate.quantiles import Quantiles
from homeostat.aggregate.recent import LastN
from homeostat.aggregate.summaries import Rows, Slices, counted, looped, woven
from homeostat.aggregate.top import TopShare, TopValues
from homeostat.aggregate.wavelet import Wavelet
from homeostat.declare.sources import Entity
from homeostat.declare.summaries import distinct_count
from homeostat.declare.views import FeatureView
from homeostat.testing.generators import START, TICK, events_frame, readings
from homeostat.testing.oracle_summaries import _code


def pieces(drawn: list[list[int]], n: int) -> Slices:
    """Queries of one slice or more: neighbouring bounds, so that they do not overlap."""
    bounds = [sorted(min(b, n) for b in (query if len(query) % 2 == 0 else query[:-1]))
              for query in drawn]  # fmt: skip
    sizes = np.array([len(query) // 2 for query in bounds])
    flat = np.array([b for query in bounds for b in query], np.int64)
    return Slices(flat[::2], flat[1::2], np.cumsum(sizes) - sizes)


QUERIES = st.lists(st.lists(st.integers(0, 40), min_size=2, max_size=6), min_size=1, max_size=6)


def rows_of(slices: Slices, query: int) -> list[int]:
    ends = np.append(slices.first, len(slices.begin))
    return [
        row
        for piece in range(ends[query], ends[query + 1])
        for row in range(slices.begin[piece], slices.end[piece])
    ]


@given(st.lists(st.integers(0, 70), max_size=40), QUERIES, st.integers(0, 80))
def test_a_wavelet_ranks_slices_as_sorting_does(
    numbers: list[int], drawn: list[list[int]], bound: int
) -> None:
    slices, made = pieces(drawn, len(numbers)), Wavelet(np.array(numbers, np.int64))
    inside = [sorted(numbers[row] for row in rows_of(slices, q)) for q in range(len(slices))]
    for share in (0.0, 0.4, 1.0):
        ranks = [int(share * max(len(found) - 1, 0)) for found in inside]
        got = made.ranked(slices, np.array(ranks)).tolist()
        for found, rank, number in zip(inside, ranks, got, strict=True):
            assert not found or number == found[rank]
    below = made.below(slices.begin, slices.end, np.full(len(slices.begin), bound))
    for piece, found in enumerate(below.tolist()):
        held = numbers[slices.begin[piece] : slices.end[piece]]
        assert found == sum(number < bound for number in held)


@given(QUERIES, st.data())
def test_chunks_hold_every_row_once(drawn: list[list[int]], data: st.DataObject) -> None:
    slices = pieces(drawn, 40)
    queries = data.draw(st.lists(st.integers(0, len(slices) - 1), max_size=5))
    some = slices.only(np.array(queries, np.int64))
    assert [rows_of(some, n) for n in range(len(some))] == [rows_of(slices, q) for q in queries]
    with mock.patch.object(summaries, "CHUNK", data.draw(st.integers(1, 30))):
        seen: list[list[int]] = [[] for _ in range(len(slices))]
        for chunk in slices.chunks():
            for owner, row in zip(chunk.owner.tolist(), chunk.row.tolist(), strict=True):
                assert owner < len(chunk)
                seen[chunk.low + owner].append(row)
    assert seen == [rows_of(slices, q) for q in range(len(slices))]
    assert slices.rows.tolist() == [len(rows) for rows in seen]


@given(st.lists(st.integers(-5, 5), max_size=30))
def test_counted_counts(values: list[int]) -> None:
    found, count = counted(np.array(values, np.int64))
    assert list(zip(found.tolist(), count.tolist(), strict=True)) == sorted(Counter(values).items())
    assert woven(found, count).reshape(-1, 2).tolist() == [list(p) for p in Counter(
        sorted(values)).items()]  # fmt: skip


LARGE = {
    "last": LastN(7), "distinct": DistinctCount(16), "exact distinct": DistinctCount(1024),
    "quantile": Quantiles((0.01, 0.5, 0.999), 0.01), "share": TopShare(3, 64),
    "sampled share": TopShare(2, 16), "values": TopValues(3, 1024), "few": TopValues(2, 16),
    "fading": DecayedSum(64_000_000), "slowly": DecayedSum(3_600_000_000),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("chunk", [900, summaries.CHUNK])
def test_long_windows_read_in_columns_are_single_reads(name: str, chunk: int) -> None:
    summary: Any = LARGE[name]
    random = np.random.default_rng(3)
    n = 6000
    times = START + np.sort(random.integers(0, 2000 * TICK, n))
    numbers = np.where(random.random(n) < 0.5, random.integers(0, 40, n), np.arange(n))
    values = numbers * 0.25 - 99
    if summary.reads == "code":
        values = mixed(numbers).view(np.float64)
    rows = Rows(times, mixed(np.arange(n)), values)
    drawn = [random.integers(0, n, 2 + 2 * (q % 3 == 0)).tolist() for q in range(40)]
    slices = pieces(drawn, n)
    newest = np.append(slices.first[1:], len(slices.end)) - 1
    at = times[slices.end[newest] - 1] + 1
    with mock.patch.object(summaries, "CHUNK", chunk):
        found = summary.columns(summary.index(rows), slices, at)
    wanted = looped(summary, rows, slices, at)
    assert found.tobytes() == wanted.tobytes()


def test_too_few_small_codes_are_looked_for_among_all() -> None:
    # All codes lie in the upper half, so the first look, at the small ones, finds none.
    codes = mixed(np.arange(500)) // 2 + CODES // 2
    rows = Rows(np.arange(500), np.arange(500), codes.view(np.float64))
    summary, slices = DistinctCount(2), Slices(np.array([0]), np.array([500]), np.array([0]))
    found = summary.columns(summary.index(rows), slices, np.array([0]))
    assert found.tolist() == [summary.value(summary.state(rows), 0)] == [[4.0]]


VALUES: dict[str, tuple[list[Any], pl.DataType]] = {
    "text": (["a", "", "ü", None, "a"], pl.String()),
    "integer": ([0, -1, 2**62, None, 0], pl.Int64()),
    "float": ([0.0, -0.0, 5e-324, None, 1e300], pl.Float64()),
    "boolean": ([True, False, None, True], pl.Boolean()),
    "timestamp": ([datetime(2024, 1, 1, tzinfo=UTC), None], pl.Datetime("us", "UTC")),
}


@pytest.mark.parametrize("kind", VALUES)
def test_codes_are_finite_hashes_of_the_values(kind: str) -> None:
    values, dtype = VALUES[kind]
    found = codes_of(pl.Series(values, dtype=dtype))
    assert np.isfinite(found).all()
    known = [(v, c) for v, c in zip(values, found.view(np.int64).tolist(), strict=True)
             if v is not None]  # fmt: skip
    assert [code for _, code in known] == [_code(value) for value, _ in known]
    assert all(0 <= code < CODES for _, code in known)


def test_a_value_that_is_no_number_has_no_code() -> None:
    row: dict[str, Any] = dict.fromkeys(("id", "at", "place", "units", "small", "flag"))
    row |= {"site": 1, "level": 1, "amount": float("nan"), "_offset": 0, "_known_time": START}
    row |= {"_event_time": START, "_id": "e", "_tie": 1, "_too_late": False}
    made = (distinct_count("amount"),)
    view = FeatureView("v", Entity("site", "site"), readings, made)
    with pytest.raises(ValueRefused, match="column 'amount'"):
        prepare(Layout(view), events_frame([row]))
