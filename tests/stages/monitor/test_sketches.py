"""Sketches: counted by hand, merged in any grouping, and read back as they were."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.monitor.sketch import (
    BINS,
    CATEGORIES,
    Histogram,
    Sketch,
    SketchMismatch,
    merge_sketches,
    sketch_like,
    sketch_of,
)

hostile = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf, math.nan, 5e-324, 1.7e308]),
)
texts = st.one_of(st.none(), st.sampled_from(["UA", "AA", "", "é", "zz"]))
rows = st.lists(st.tuples(hostile, hostile, texts), max_size=25)
NAMES = ("x", "y", "carrier")


def columns(
    given_rows: list[tuple[float, float, str | None]],
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], dict[str, list[str | None]]]:
    numbers = [(x, y, math.nan) for x, y, _ in given_rows]
    matrix = np.array(numbers, dtype=np.float64).reshape(-1, 3)
    return matrix, {"carrier": [carrier for *_, carrier in given_rows]}


def by_hand(histogram: Histogram, training: list[float], values: list[float]) -> tuple[int, ...]:
    """Count one value at a time: the slow twin of `sketch_like`."""
    inner = [0] * (len(histogram.edges) + 1)
    below = above = unknown = missing = 0
    finite = [value for value in training if math.isfinite(value)]
    counts = Counter(finite)
    singles = sum(n == 1 for n in counts.values())
    few = len(counts) <= 256 and singles <= max(1, len(finite) // 100)
    for value in values:
        if math.isnan(value):
            missing += 1
        elif finite and value < min(finite):
            below += 1
        elif finite and value > max(finite):
            above += 1
        elif finite and few and value not in counts:
            unknown += 1
        else:
            inner[sum(value >= edge for edge in histogram.edges)] += 1
    return (*inner, below, above, unknown, missing) if finite else (*inner, missing)


@given(rows, rows)
def test_counts_agree_with_counting_by_hand(
    training: list[tuple[float, float, str | None]], later: list[tuple[float, float, str | None]]
) -> None:
    reference = sketch_of(*_args(training))
    matrix, categories = columns(later)
    sketch = sketch_like(reference, matrix, categories)
    for column in (0, 1):
        histogram = sketch.histograms[column]
        before = [(x, y)[column] for x, y, _ in training]
        assert histogram.counts == by_hand(histogram, before, matrix[:, column].tolist())
        assert list(histogram.edges) == sorted(set(histogram.edges))
        assert all(map(math.isfinite, histogram.edges))
        assert len(histogram.edges) < BINS
    carriers = Counter(categories["carrier"])
    kept = sketch.histograms[2].categories
    assert kept is not None
    others = sum(n for name, n in carriers.items() if name is not None and name not in kept)
    expected = (*(carriers[name] for name in kept), others, carriers[None])
    assert sketch.histograms[2].counts == expected
    assert sketch.rows == len(later)


@given(rows, st.lists(rows, min_size=1, max_size=4))
def test_merging_sketches_is_sketching_the_concatenation(
    training: list[tuple[float, float, str | None]],
    parts: list[list[tuple[float, float, str | None]]],
) -> None:
    reference = sketch_of(*_args(training))
    sketches = [sketch_like(reference, *columns(part)) for part in parts]
    whole = sketch_like(reference, *columns([row for part in parts for row in part]))
    assert merge_sketches(*sketches) == whole
    assert merge_sketches(*reversed(sketches)) == whole
    halves = merge_sketches(sketches[0], *sketches[1:2])
    assert merge_sketches(halves, *sketches[2:]) == whole


@given(rows)
def test_a_sketch_is_read_back_from_json(training: list[tuple[float, float, str | None]]) -> None:
    sketch = sketch_of(*_args(training))
    text = json.dumps(sketch.as_json(), allow_nan=False)
    assert Sketch.from_json(json.loads(text)) == sketch


def _args(
    given_rows: list[tuple[float, float, str | None]],
) -> tuple[
    np.ndarray[tuple[int, int], np.dtype[np.float64]], tuple[str, ...], dict[str, list[str | None]]
]:
    matrix, categories = columns(given_rows)
    return matrix, NAMES, categories


def test_a_reference_of_an_earlier_release_is_read_as_it_was() -> None:
    body = {
        "features": [
            {"name": "x", "edges": [1.0, 2.0], "categories": None, "counts": [5, 5, 5, 0]},
            {"name": "c", "edges": [], "categories": ["a"], "counts": [15, 0, 0]},
        ]
    }
    reference = Sketch.from_json(body)
    values = np.array([[-math.inf, math.nan], [9.0, math.nan]])
    later = sketch_like(reference, values, {"c": ["b", None]})
    assert [h.counts for h in later.histograms] == [(1, 0, 1, 0), (0, 1, 1)]
    assert Sketch.from_json(json.loads(json.dumps(reference.as_json()))) == reference


def test_a_value_at_an_edge_belongs_to_the_bin_above() -> None:
    reference = Sketch((Histogram("x", (1.0, 2.0), None, (0, 0, 0, 0)),))
    values = np.array([[0.999], [1.0], [1.999], [2.0], [math.inf], [-math.inf], [math.nan]])
    assert sketch_like(reference, values, {}).histograms[0].counts == (2, 2, 2, 1)


def test_quantile_bins_hold_about_equally_many_values() -> None:
    values = np.random.default_rng(0).lognormal(size=(10_000, 1))
    (histogram,) = sketch_of(values, ["x"], {}).histograms
    assert len(histogram.edges) == BINS - 1
    assert all(abs(count - 500) <= 1 for count in histogram.counts[:-4])
    assert histogram.counts[-4:] == (0, 0, 0, 0)


def test_a_heavy_value_has_a_bin_of_its_own() -> None:
    around = np.linspace(-9, 9, 2_900)  # 0 is not among them
    values = np.concatenate([np.zeros(7_100), around])[:, None]
    (histogram,) = sketch_of(values, ["x"], {}).histograms
    assert 7_100 in histogram.counts
    assert len(histogram.edges) < BINS


def test_few_distinct_values_have_a_bin_each() -> None:
    values = np.array([1.0, 1.0, 2.0, 5.0, 5.0, 5.0, math.nan])[:, None]
    (histogram,) = sketch_of(values, ["x"], {}).histograms
    assert (histogram.edges, histogram.counts) == ((2.0, 5.0), (2, 1, 3, 0, 0, 0, 1))
    assert (histogram.rows, histogram.missing) == (7, 1)


def test_rare_categories_are_counted_together() -> None:
    names: list[str | None] = [f"c{n:03d}" for n in range(CATEGORIES + 5) for _ in range(2)]
    names += ["c001", None]
    (histogram,) = sketch_of(np.zeros((len(names), 1)), ["c"], {"c": names}).histograms
    assert histogram.categories is not None
    assert len(histogram.categories) == CATEGORIES
    assert histogram.counts[-3:] == (10, 0, 1)
    later = sketch_like(Sketch((histogram,)), np.zeros((3, 1)), {"c": ["new", "c054", None]})
    assert later.histograms[0].counts[-3:] == (1, 1, 1)
    single: list[str | None] = [f"c{n:03d}" for n in range(CATEGORIES + 5)]
    (histogram,) = sketch_of(np.zeros((len(single), 1)), ["c"], {"c": single}).histograms
    assert histogram.counts[-2:] == (5, 0)  # values of one row each: another one is no news


def test_other_bins_are_refused() -> None:
    one = sketch_of(np.array([[1.0], [2.0]]), ["x"], {})
    other = sketch_of(np.array([[1.0], [3.0]]), ["x"], {})
    with pytest.raises(SketchMismatch, match="other features or bins"):
        merge_sketches(one, other)
    with pytest.raises(SketchMismatch, match=r"a matrix of shape \(1, 2\); allowed: \(rows, 1\)"):
        sketch_like(one, np.zeros((1, 2)), {})
    text = sketch_of(np.zeros((1, 1)), ["c"], {"c": ["a"]})
    with pytest.raises(SketchMismatch, match="no values of 'c'"):
        sketch_like(text, np.zeros((1, 1)), {})
