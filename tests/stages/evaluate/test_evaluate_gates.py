"""Gates: what passes, what fails, what cannot be judged, and how each says so."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.declare.models import METRICS, Gate
from homeostat.evaluate.challenger import Origin, Rival, Trial, overfitting, train_challenger
from homeostat.evaluate.gates import GateResult, Judgement, Scored, judge
from homeostat.evaluate.metrics import Costs, ScoresRefused, auc, metric
from homeostat.evaluate.threshold import choose_threshold
from homeostat.testing.toy_training import toy_model, toy_sample, toy_system
from homeostat.train.fit import fit
from homeostat.train.lineage import Lineage, definition_hashes
from homeostat.train.servable import Servable

SCORES = np.array([0.1, 0.2, 0.6, 0.7, 0.8, 0.9])
LABELS = np.array([False, True, False, True, True, True])
CARRIERS: list[object] = ["AA", "AA", "AA", "UA", "UA", None]


def judged(*gates: Gate, champion: Scored | None = None, labels: Any = LABELS) -> Judgement:
    model = toy_model(gates=gates)
    return judge(model, Scored(SCORES, 0.5), labels, {"carrier": CARRIERS}, champion)


def only(judgement: Judgement) -> GateResult:
    assert len(judgement.gates) == 1
    return judgement.gates[0]


@pytest.mark.parametrize(
    ("gate", "passed", "sentence"),
    [
        (Gate("recall", at_least=0.75), True,
         "recall on all rows: 0.75 over 6 rows is at least 0.75"),
        (Gate("recall", at_least=0.76), False,
         "recall on all rows: 0.75 over 6 rows is not at least 0.76"),
        (Gate("cost", at_most=5 / 6), True,
         "cost on all rows: 0.833333 over 6 rows is at most 0.833333"),
        (Gate("cost", at_most=0.8), False,
         "cost on all rows: 0.833333 over 6 rows is not at most 0.8"),
    ],
)  # fmt: skip
def test_a_bound_is_met_or_not_and_says_by_what(gate: Gate, passed: bool, sentence: str) -> None:
    judgement = judged(gate)
    result = only(judgement)
    assert (judgement.passed, result.passed, result.skipped) == (passed, passed, False)
    assert result.sentence == sentence
    assert result.rows == 6
    assert (result.bound, result.comparison) == (
        (gate.at_least, "at least") if gate.at_least is not None else (gate.at_most, "at most")
    )


@pytest.mark.parametrize(("name", "more_is_better"), METRICS.items())
def test_within_means_at_most_that_much_worse_than_the_champion(
    name: str, more_is_better: bool
) -> None:
    champion = Scored(np.array([0.3, 0.2, 0.4, 0.9, 0.6, 0.8]), 0.35)
    costs = Costs(1.0, 4.0)
    ours = metric(name, SCORES, LABELS, 0.5, costs)
    theirs = metric(name, champion.scores, LABELS, champion.threshold, costs)
    worse = theirs - ours if more_is_better else ours - theirs
    for margin in (0.01, -0.01):
        result = only(judged(Gate(name, within=worse + margin), champion=champion))
        assert result.passed == (margin > 0), name
        assert (result.found, result.champion) == (ours, theirs)
    assert not only(judged(Gate(name, within=worse - 0.01), champion=champion)).skipped


def test_within_needs_a_champion() -> None:
    result = only(judged(Gate("auc", within=0.01)))
    assert (result.passed, result.skipped, result.champion) == (True, True, None)
    assert "no champion to compare with" in result.sentence


def test_a_champion_without_the_metric_cannot_be_compared_with() -> None:
    silent = Scored(SCORES, 2.0)  # never decides True: no precision
    result = only(judged(Gate("precision", within=0.01), champion=silent))
    assert (result.passed, result.skipped) == (True, True)
    assert "champion's is undefined" in result.sentence


def test_each_slice_is_judged_by_itself() -> None:
    judgement = judged(Gate("recall", at_least=0.9, slices=("carrier",), slice_rows=1))
    assert [(r.slice, r.rows, r.passed) for r in judgement.gates] == [
        ("carrier=AA", 3, False),
        ("carrier=UA", 2, True),
        ("carrier=missing", 1, True),
    ]
    assert not judgement.passed
    assert judgement.reason == "recall on carrier=AA: 0 over 3 rows is not at least 0.9"


def test_small_slices_are_skipped_and_say_so() -> None:
    judgement = judged(Gate("recall", at_least=0.9, slices=("carrier",), slice_rows=3))
    assert [(r.slice, r.passed, r.skipped) for r in judgement.gates] == [
        ("carrier=AA", False, False),
        ("carrier=UA", True, True),
        ("carrier=missing", True, True),
    ]
    assert judgement.gates[1].sentence == "recall on carrier=UA: skipped: 2 rows, fewer than 3"
    assert judgement.gates[1].found is None


def test_an_undefined_metric_fails_overall_and_is_skipped_on_a_slice() -> None:
    negative = np.zeros(6, np.bool_)
    gates = (
        Gate("auc", at_least=0.5),
        Gate("auc", at_least=0.5, slices=("carrier",), slice_rows=1),
    )
    judgement = judged(*gates, labels=negative)
    overall, *slices = judgement.gates
    assert (overall.passed, overall.skipped, overall.found) == (False, False, None)
    assert overall.sentence == "auc on all rows: undefined over 6 rows, failed"
    assert len(slices) == 3
    assert all(r.passed and r.skipped and "undefined" in r.sentence for r in slices)
    assert not judgement.passed


def test_without_gates_a_challenger_passes_with_its_metrics() -> None:
    judgement = judged()
    assert judgement.passed
    assert judgement.reason == "all 0 judged gates held"
    assert judgement.metrics["recall"] == 0.75
    assert judgement.by_slice["carrier"]["UA"]["rows"] == 2.0
    assert judgement.by_slice["carrier"]["UA"]["recall"] == 1.0


def test_a_judgement_is_json() -> None:
    judgement = judged(Gate("auc", within=0.01, slices=("carrier",), slice_rows=2))
    found = json.loads(json.dumps(judgement.as_json(), allow_nan=False))
    assert found["by_slice"]["carrier"]["UA"]["auc"] is None
    assert [gate["slice"] for gate in found["gates"]] == [
        "carrier=AA", "carrier=UA", "carrier=missing",
    ]  # fmt: skip
    assert sum(b["rows"] for b in found["reliability"]) == 6


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(ScoresRefused, match=r"bool\[5\]"):
        judged(labels=LABELS[:5])
    with pytest.raises(ScoresRefused, match=r"float64\[2\]"):
        judged(champion=Scored(SCORES[:2], 0.5))
    model = toy_model()
    with pytest.raises(ScoresRefused, match="'carrier' has no values; allowed: 6"):
        judge(model, Scored(SCORES, 0.5), LABELS, {})
    with pytest.raises(ScoresRefused, match="'carrier' has 1 values; allowed: 6"):
        judge(model, Scored(SCORES, 0.5), LABELS, {"carrier": ["AA"]})


rows_of = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0]),
        st.booleans(),
        st.sampled_from(["AA", "UA", "missing", None]),
    ),
    max_size=20,
)


@given(rows_of, st.sampled_from(list(METRICS)), st.floats(0.0, 1.0), st.integers(0, 4))
def test_a_judgement_passes_exactly_if_no_gate_failed(
    rows: list[tuple[float, bool, str | None]], name: str, bound: float, slice_rows: int
) -> None:
    gates = (
        Gate(name, at_least=bound),
        Gate(name, at_most=bound, slices=("carrier",), slice_rows=slice_rows),
        Gate(name, within=bound - 0.5, slices=("carrier",), slice_rows=slice_rows),
    )
    scores, labels = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], np.bool_)
    mine, rival = Scored(scores, 0.5), Scored(1.0 - scores, 0.5)
    slices = {"carrier": [r[2] for r in rows]}
    judgement = judge(toy_model(gates=gates), mine, labels, slices, rival)
    assert judgement.passed == all(gate.passed for gate in judgement.gates)
    judged_rows = sum(gate.rows for gate in judgement.gates if gate.comparison == "at most")
    assert judged_rows == len(rows)
    for gate in judgement.gates:
        assert gate.passed or not gate.skipped
        assert gate.sentence.startswith(f"{name} on ")


def trial(test_seed: int = 3) -> Trial:
    test = toy_sample(200, seed=test_seed)
    slices = {"carrier": test.features.categories["carrier"]}
    return Trial(toy_sample(400, seed=1), toy_sample(200, seed=2), test, slices)


def origin() -> Origin:
    system = toy_system()
    lineage = Lineage.of(system, toy_model(), 5, {"requests": 1}, {})
    return Origin(definition_hashes(system, toy_model()), {}, lineage)


def test_a_challenger_is_trained_measured_judged_and_packed() -> None:
    model = toy_model(gates=(Gate("auc", at_least=0.6), Gate("auc", within=0.0)))
    first = train_challenger(model, trial(), origin(), threads=1)
    assert first.judgement.passed
    metrics = first.package.metrics
    assert metrics["test"]["metrics"]["auc"] == first.judgement.metrics["auc"]
    assert metrics["overfitting"]["auc"] == pytest.approx(
        metrics["train"]["auc"] - metrics["validation"]["auc"]
    )
    assert metrics["overfitting"]["auc"] > 0
    again = train_challenger(
        model, trial(), origin(), Rival(first.servable, trial().test), threads=1
    )
    assert again.package.hash == first.package.hash  # the champion takes no part in it
    assert again.judgement.gates[1].champion == first.judgement.metrics["auc"]
    assert again.judgement.passed


def test_training_metrics_are_those_of_the_rows_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homeostat.train.fit.TRAIN_SCORES", 150)
    parts = trial()
    found = train_challenger(toy_model(), parts, origin(), threads=1).package
    fitted = fit(toy_model(), parts.train, parts.validation, threads=1)
    expected = auc(fitted.train_scores, parts.train.labels[fitted.train_rows])
    assert found.metrics["train"]["auc"] == expected
    assert found.metrics["base_rate"] == parts.train.labels.mean()


def test_the_threshold_comes_from_the_validation_rows() -> None:
    model, parts = toy_model(), trial()
    one = train_challenger(model, parts, origin(), threads=1)
    other = train_challenger(model, trial(test_seed=4), origin(), threads=1)
    assert one.package.threshold == other.package.threshold
    assert one.package.graph == other.package.graph
    scores = Servable(one.package).score(parts.validation.features)
    expected = choose_threshold(scores, parts.validation.labels, Costs(1.0, 4.0))
    assert one.package.threshold == expected.value
    assert one.package.metrics["threshold"] == expected.as_json()


@given(st.floats(0, 1), st.floats(0, 1))
def test_overfitting_is_positive_where_the_training_rows_are_better(a: float, b: float) -> None:
    gap = overfitting({"auc": a, "brier": a}, {"auc": b, "brier": b})
    assert gap == {"auc": a - b, "brier": b - a}
    undefined = overfitting({"auc": float("nan")}, {"auc": b})
    assert np.isnan(undefined["auc"])
