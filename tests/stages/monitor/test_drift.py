"""Drift: distances agree with their textbook form, and chance is not reported as drift."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.monitor.drift import (
    FeatureDrift,
    drift_report,
    jensen_shannon,
    judge_drift,
    kolmogorov_smirnov,
    psi,
    psi_noise,
)
from homeostat.monitor.sketch import SketchMismatch, sketch_like, sketch_of


class Flight(hs.Event):
    """A flight is asked about."""

    flight_id: str
    asked_at: hs.Timestamp
    late: bool


source = hs.EventSource(
    "flights", Flight, event_id="flight_id", event_time="asked_at", lateness="1d"
)
model = hs.Model(
    "late",
    features=("asked_at",),
    label=hs.Label(
        "late",
        predicts=source,
        outcome=source,
        join_on="flight_id",
        value=hs.col("late"),
        delay="12h",
        when_absent=True,
    ),
    estimator=hs.Estimator("lightgbm:LGBMClassifier"),
    split=hs.Split(validation="30d", test="30d"),
    requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=4),
)
pairs = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 50), min_size=n, max_size=n),
        st.lists(st.integers(0, 50), min_size=n, max_size=n),
    )
)


def psi_by_hand(before: list[int], after: list[int]) -> float:
    bins = [(a, b) for a, b in zip(before, after, strict=True) if a or b]
    total, rows, others = 0.0, sum(before), sum(after)
    for a, b in bins:
        p = (a + 0.5) / (rows + 0.5 * len(bins))
        q = (b + 0.5) / (others + 0.5 * len(bins))
        total += (q - p) * math.log(q / p)
    return total


@given(pairs)
def test_distances_agree_with_their_slow_twins(counts: tuple[list[int], list[int]]) -> None:
    before, after = counts
    one, two = np.array(before), np.array(after)
    assert psi(one, two) == pytest.approx(psi_by_hand(before, after), abs=1e-12)
    assert psi(one, two) == pytest.approx(psi(two, one))
    assert psi(one, one) == 0.0
    if sum(before) and sum(after):
        ps = [a / sum(before) for a in before]
        qs = [b / sum(after) for b in after]
        mid = [(p + q) / 2 for p, q in zip(ps, qs, strict=True)]
        js = sum(p * math.log2(p / m) for p, m in zip(ps, mid, strict=True) if p) / 2
        js += sum(q * math.log2(q / m) for q, m in zip(qs, mid, strict=True) if q) / 2
        assert jensen_shannon(one, two) == pytest.approx(js, abs=1e-12)
        steps = [abs(sum(ps[: k + 1]) - sum(qs[: k + 1])) for k in range(len(ps))]
        assert kolmogorov_smirnov(one, two) == pytest.approx(max(steps), abs=1e-12)
    else:
        assert jensen_shannon(one, two) == 0.0
        assert kolmogorov_smirnov(one, two) is None
        assert psi_noise(one, two) == math.inf


def test_chance_stays_below_the_noise() -> None:
    rng = np.random.default_rng(0)
    reference = sketch_of(rng.normal(size=(20_000, 1)), ["x"], {})
    found = [
        drift_report(reference, sketch_like(reference, rng.normal(size=(500, 1)), {}))[0]
        for _ in range(200)
    ]
    assert all(f.psi < f.noise for f in found)
    assert np.mean([f.psi for f in found]) == pytest.approx(found[0].noise / 4, rel=0.15)


def sketches(shift: float, rows: int) -> tuple[FeatureDrift, ...]:
    rng = np.random.default_rng(1)
    names = ["steady", "moved", "carrier"]
    text: list[str | None] = ["UA", "AA"] * 5_000
    reference = sketch_of(rng.normal(size=(10_000, 3)), names, {"carrier": text})
    later = rng.normal(size=(rows, 3))
    later[:, 1] += shift
    later[: rows // 2, 0] = np.nan if shift else later[: rows // 2, 0]
    return drift_report(reference, sketch_like(reference, later, {"carrier": text[:rows]}))


def test_moved_features_come_first_and_missing_values_are_movement() -> None:
    report = sketches(3.0, 2_000)
    assert [f.name for f in report] == ["moved", "steady", "carrier"]
    moved, steady, carrier = report
    assert moved.psi > steady.psi > 0.5 > 0.01 > carrier.psi
    assert moved.ks is not None
    assert moved.ks > 0.8
    assert steady.ks is not None
    assert steady.ks < 0.1
    assert carrier.ks is None
    assert (steady.missing, steady.missing_reference) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("shift", "rows", "features", "status"),
    [
        (3.0, 2_000, 2, "found"),
        (3.0, 2_000, 3, "clear"),
        (0.0, 2_000, 1, "clear"),
        (3.0, 200, 1, "found"),  # too few rows for the bound, and moved beyond all chance
        (3.0, 19, 1, "not judged"),  # so few rows resemble each other
        (0.0, 60, 1, "not judged"),
        (0.0, 60, 4, "clear"),  # three unjudged features cannot make four
    ],
)
def test_drift_is_judged_by_the_declared_numbers(
    shift: float, rows: int, features: int, status: str
) -> None:
    monitor = hs.Drift(model, psi=0.25, features=features, window="7d")
    finding = judge_drift(monitor, sketches(shift, rows))
    assert (finding.status, finding.key) == (status, "drift/late/7d")
    if status == "found":
        assert finding.reason.startswith("2 of 3 features moved by more than 0.25 PSI in 7d (moved")
    if status == "not judged":
        assert finding.reason == f"{rows} rows are too few to judge a PSI of 0.25"


def test_other_bins_are_refused() -> None:
    one = sketch_of(np.array([[1.0], [2.0]]), ["x"], {})
    other = sketch_of(np.array([[1.0], [3.0]]), ["x"], {})
    with pytest.raises(SketchMismatch):
        drift_report(one, other)
