"""Metrics against scikit-learn, with ties, single classes and few rows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from math import isnan

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from homeostat.core.errors import UnknownName
from homeostat.declare.models import METRICS
from homeostat.evaluate.calibration import calibration_error, reliability
from homeostat.evaluate.metrics import (
    Costs,
    ScoresRefused,
    as_json,
    auc,
    average_precision,
    brier,
    check_scored,
    counts,
    evaluate,
    log_loss,
    metric,
    slice_rows,
)
from homeostat.evaluate.threshold import choose_threshold

Rows = list[tuple[float, bool]]

# Coarse scores tie often; the others are as fine as floats get.
scores_of = st.one_of(
    st.sampled_from([0.0, 0.25, 0.5, 0.5000000000000001, 0.75, 1.0]), st.floats(0.0, 1.0)
)
rows_of = st.lists(st.tuples(scores_of, st.booleans()), max_size=40)
COSTS = Costs(1.0, 5.0)


def columns(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    scores = np.array([score for score, _ in rows], np.float64)
    return scores, np.array([label for _, label in rows], np.bool_)


@given(rows_of)
@example([(0.5, True), (0.5, False)])
def test_auc_and_average_precision_agree_with_scikit_learn(rows: Rows) -> None:
    scores, labels = columns(rows)
    if labels.any() and not labels.all():
        assert auc(scores, labels) == pytest.approx(oracle.roc_auc_score(labels, scores))
    else:
        assert isnan(auc(scores, labels))
    if labels.any():
        expected = oracle.average_precision_score(labels, scores)
        assert average_precision(scores, labels) == pytest.approx(expected)
    else:
        assert isnan(average_precision(scores, labels))


@given(rows_of, st.randoms(use_true_random=False))
def test_ranking_and_calibration_do_not_depend_on_the_order_of_the_rows(
    rows: Rows, random: object
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for measure in (auc, average_precision, calibration_error):
        np.testing.assert_equal(measure(*columns(shuffled)), measure(*columns(rows)))
    assert reliability(*columns(shuffled)) == reliability(*columns(rows))


@given(rows_of.filter(bool))
def test_losses_agree_with_scikit_learn(rows: Rows) -> None:
    scores, labels = columns(rows)
    assert log_loss(scores, labels) == pytest.approx(
        oracle.log_loss(labels, scores, labels=[False, True]), abs=1e-12
    )
    assert brier(scores, labels) == pytest.approx(
        oracle.brier_score_loss(labels, scores, pos_label=True), abs=1e-12
    )


@given(rows_of.filter(bool), scores_of)
def test_metrics_of_decisions_agree_with_scikit_learn(rows: Rows, threshold: float) -> None:
    scores, labels = columns(rows)
    decided = scores >= threshold
    found = evaluate(scores, labels, threshold, COSTS)
    nan = float("nan")
    expected = {
        "accuracy": oracle.accuracy_score(labels, decided),
        "precision": oracle.precision_score(labels, decided, zero_division=nan),
        "recall": oracle.recall_score(labels, decided, zero_division=nan),
        "f1": oracle.f1_score(labels, decided, zero_division=nan),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name
    (negatives, alarms), (misses, hits) = oracle.confusion_matrix(
        labels, decided, labels=[False, True]
    )
    confusion = counts(scores, labels, threshold)
    assert (confusion.true_negatives, confusion.false_positives) == (negatives, alarms)
    assert (confusion.false_negatives, confusion.true_positives) == (misses, hits)
    assert found["cost"] == pytest.approx((alarms * 1.0 + misses * 5.0) / len(rows))


@given(rows_of, scores_of)
def test_one_metric_is_the_same_as_in_all(rows: Rows, threshold: float) -> None:
    scores, labels = columns(rows)
    found = evaluate(scores, labels, threshold, COSTS)
    assert list(found) == list(METRICS)
    for name in METRICS:
        np.testing.assert_equal(metric(name, scores, labels, threshold, COSTS), found[name])


def test_without_rows_every_metric_is_undefined() -> None:
    found = evaluate(*columns([]), 0.5, COSTS)
    assert set(as_json(found).values()) == {None}
    assert reliability(*columns([])) == ()


def plain_reliability(rows: Rows, bins: int) -> list[tuple[int, float, float]]:
    """Return (rows, mean score, rate) per bin: a row's bin is set by the rows below it."""
    table: list[tuple[int, float, float]] = []
    places = [(sum(s < score for s, _ in rows) * bins // len(rows), score, y) for score, y in rows]
    for place in sorted({place for place, _, _ in places}):
        inside = [(score, y) for p, score, y in places if p == place]
        n = len(inside)
        table.append((n, sum(s for s, _ in inside) / n, sum(y for _, y in inside) / n))
    return table


@given(rows_of.filter(bool), st.integers(1, 12))
def test_reliability_agrees_with_a_plain_reading(rows: Rows, bins: int) -> None:
    scores, labels = columns(rows)
    found = reliability(scores, labels, bins)
    expected = plain_reliability(rows, bins)
    assert [(b.rows, b.rate) for b in found] == [(n, rate) for n, _, rate in expected]
    assert [b.mean_score for b in found] == pytest.approx([mean for _, mean, _ in expected])
    error = sum(n * abs(mean - rate) for n, mean, rate in expected) / len(rows)
    assert calibration_error(scores, labels, bins) == pytest.approx(error, abs=1e-12)
    assert len(found) <= bins
    for b in found:
        assert b.lowest <= b.mean_score <= b.highest


def test_bins_have_equal_mass_where_scores_differ() -> None:
    scores = np.linspace(0.0, 1.0, 100) ** 3
    table = reliability(scores, scores > 0.5)
    assert [b.rows for b in table] == [10] * 10


def test_a_calibrated_model_has_no_error_and_an_overconfident_one_has() -> None:
    labels = np.arange(1000) % 4 == 0
    assert calibration_error(np.full(1000, 0.25), labels) == 0.0
    assert calibration_error(np.full(1000, 0.75), labels) == 0.5


def plain_threshold(rows: Rows, costs: Costs) -> tuple[float, float]:
    """Return the best (threshold, total cost) by trying every one, highest first."""
    tried = sorted({score for score, _ in rows}, reverse=True)
    tried.insert(0, float(np.nextafter(tried[0], np.inf)))

    def cost(threshold: float) -> float:
        alarms = sum(score >= threshold and not label for score, label in rows)
        misses = sum(score < threshold and label for score, label in rows)
        return alarms * costs.false_positive + misses * costs.false_negative

    best = min(tried, key=cost)  # the first of equal ones
    return best, cost(best)


prices = st.sampled_from([0.1, 1.0, 2.0, 5.0, 1e6])


@given(rows_of.filter(bool), st.builds(Costs, prices, prices))
def test_the_threshold_is_the_cheapest_of_all(rows: Rows, costs: Costs) -> None:
    scores, labels = columns(rows)
    found = choose_threshold(scores, labels, costs)
    value, total = plain_threshold(rows, costs)
    assert found.cheapest == value
    assert found.least == total / len(rows)
    assert found.cost == metric("cost", scores, labels, found.value, costs)
    assert found.least <= found.cost
    assert found.low <= found.value <= found.high
    assert found.low <= found.cheapest <= found.high


def standard_error(rows: Rows, costs: Costs, one: float, other: float) -> tuple[float, float]:
    """Return how much more `one` costs than `other`, and the standard error, row by row."""

    def cost(score: float, label: bool, threshold: float) -> float:
        if (score >= threshold) == label:
            return 0.0
        return costs.false_negative if label else costs.false_positive

    more = [cost(s, label, one) - cost(s, label, other) for s, label in rows]
    return sum(more), float(np.std(more)) * len(more) ** 0.5


@given(rows_of.filter(bool), st.builds(Costs, prices.filter(lambda p: p < 10), prices))
def test_the_threshold_is_the_nearest_to_the_ideal_that_the_rows_cannot_tell_from_the_cheapest(
    rows: Rows, costs: Costs
) -> None:
    scores, labels = columns(rows)
    found = choose_threshold(scores, labels, costs)
    slack = 1e-6 * (costs.false_negative + costs.false_positive)
    tops = sorted({0.0, 1.0, *(score for score, _ in rows), float(np.nextafter(max(scores), 2))})
    for threshold in [*tops, *((a + b) / 2 for a, b in pairwise(tops))]:
        more, error = standard_error(rows, costs, threshold, found.cheapest)
        if more < 1.96 * error * (1 - 1e-9) - slack:
            assert found.low <= threshold <= found.high
        if threshold in (found.low, found.high):
            assert more <= 1.96 * error * (1 + 1e-9) + slack
    assert found.value == min(max(found.ideal, found.low), found.high)


def test_of_equal_costs_the_fewest_alarms_are_the_cheapest() -> None:
    scores, labels = columns([(0.2, True), (0.2, False), (0.9, True), (0.9, False)])
    assert choose_threshold(scores, labels, Costs(1.0, 1.0)).cheapest > 0.9
    assert choose_threshold(scores, labels, Costs(1.0, 1.5)).cheapest == 0.2


def test_with_one_class_the_threshold_decides_always_or_never() -> None:
    scores = np.array([0.3, 1.0])
    assert choose_threshold(scores, np.array([True, True]), COSTS).cheapest == 0.3
    assert choose_threshold(scores, np.array([False, False]), COSTS).cheapest > 1.0


def test_no_rows_give_no_threshold() -> None:
    with pytest.raises(ScoresRefused, match="got 0 rows; allowed: 1 or more"):
        choose_threshold(*columns([]), COSTS)


@pytest.mark.parametrize(
    ("scores", "labels", "text"),
    [
        (np.zeros(2), np.zeros(3, bool), r"scores float64\[2\] and labels bool\[3\]"),
        (np.zeros(2), np.zeros(2, int), r"labels int64\[2\]"),
        (np.zeros((2, 1)), np.zeros((2, 1), bool), r"scores float64\[2, 1\]"),
        (np.array([0.5, np.nan]), np.zeros(2, bool), "score of row 1 is nan"),
        (np.array([np.inf, 0.5]), np.zeros(2, bool), "score of row 0 is inf"),
    ],
)
def test_scores_without_meaning_are_refused(
    scores: np.ndarray, labels: np.ndarray, text: str
) -> None:
    measures: list[Callable[[], object]] = [
        lambda: check_scored(scores, labels),
        lambda: metric("auc", scores, labels, 0.5, COSTS),
        lambda: evaluate(scores, labels, 0.5, COSTS),
        lambda: choose_threshold(scores, labels, COSTS),
    ]
    for measure in measures:
        with pytest.raises(ScoresRefused, match=text):
            measure()


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'recall'"):
        metric("recal", np.zeros(1), np.zeros(1, bool), 0.5, COSTS)


@given(st.lists(st.one_of(st.none(), st.text(max_size=2), st.integers(0, 3), st.booleans())))
def test_slices_part_the_rows_by_the_text_of_their_value(values: list[object]) -> None:
    found = slice_rows(values)
    for value, rows in found.items():
        assert [None if values[r] is None else str(values[r]) for r in rows] == [value] * len(rows)
        assert rows.tolist() == sorted(rows.tolist())
    assert sorted(np.concatenate([[], *found.values()]).tolist()) == list(range(len(values)))
    named = [value for value in found if value is not None]
    assert named == sorted(named)
    assert None not in found or list(found)[-1] is None


def test_every_pair_of_classes_and_thresholds_is_defined_or_nan() -> None:
    for labels, threshold in product(product([False, True], repeat=3), [0.0, 0.4, 2.0]):
        scores = np.array([0.1, 0.4, 0.9])
        found = as_json(evaluate(scores, np.array(labels), threshold, COSTS))
        assert all(value is None or np.isfinite(value) for value in found.values())


def test_calibrated_scores_are_decided_by_the_costs_alone() -> None:
    draw = np.random.default_rng(3)
    scores = draw.uniform(0.01, 0.6, 20_000)
    labels = draw.uniform(size=scores.size) < scores
    assert choose_threshold(scores, labels, Costs(1.0, 3.0)).value == 0.25
    assert choose_threshold(scores, labels, Costs(1.0, 1.0)).value == 0.5


def test_scores_that_are_no_probabilities_get_a_threshold_by_what_they_cost() -> None:
    draw = np.random.default_rng(3)
    scores = draw.uniform(0.01, 0.6, 20_000)
    labels = draw.uniform(size=scores.size) < scores
    shrunk = scores / 10
    chosen = choose_threshold(shrunk, labels, Costs(1.0, 3.0))
    assert chosen.low <= chosen.cheapest <= chosen.value == chosen.high < 0.05
    assert chosen.cost < chosen.least * 1.02


def test_rare_cases_get_a_threshold_by_what_they_cost_however_small_the_calibration_error() -> None:
    draw = np.random.default_rng(4)
    truth = draw.uniform(0.0, 0.01, 200_000)
    labels = draw.uniform(size=truth.size) < truth
    scores = truth * 4  # four times too much, and an error of 0.015 all the same
    assert calibration_error(scores, labels) < 0.02
    costs = Costs(1.0, 200.0)
    chosen = choose_threshold(scores, labels, costs)
    assert chosen.low > chosen.ideal
    assert chosen.cost < 0.9 * metric("cost", scores, labels, chosen.ideal, costs)
