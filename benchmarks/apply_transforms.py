"""Claim: learned transforms of a request are applied in microseconds, without scikit-learn.

26 numbers are imputed with indicators and scaled, four texts target-encoded. scikit-learn gets its
two fitted parts called one after the other; a ColumnTransformer around them would add to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

import homeostat as hs
from benchmarks.contest import Benchmark, Case, Work
from homeostat.features.assemble import Features
from homeostat.testing.toy_training import toy_model
from homeostat.train.dataset import Sample
from homeostat.train.learn import Learned, learn

__all__ = ["BENCHMARK"]

NUMBERS = tuple(f"number_{i}" for i in range(26))
TEXTS = tuple(f"text_{i}" for i in range(4))


class Wide(hs.Event):
    """A request of many fields."""

    flight: str
    due_at: hs.Timestamp
    __annotations__ |= dict.fromkeys(NUMBERS, float | None) | dict.fromkeys(TEXTS, str | None)


REQUESTS = hs.EventSource("requests", Wide, event_id="flight", event_time="due_at")


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """One request, and a batch."""
    size = {"train": 500 if small else 20_000, "calls": 200 if small else 3_000}
    return [
        Case("one row", folder / "transforms", {**size, "rows": 1}),
        Case("100 rows", folder / "transforms", {**size, "rows": 100}),
    ]


def prepare(case: Case) -> None:
    """Nothing is kept on disk."""


def ours(case: Case) -> Work:
    """Apply what was learned as serving does."""
    train = _rows(case["train"], seed=1)
    learned, asked = _learned(train), _rows(case["rows"], seed=2).features
    return _timed(lambda: learned.inputs.matrix(asked), case["calls"])


def theirs(case: Case) -> Work:
    """Apply scikit-learn's fitted transformers, and compare once with ours."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler, TargetEncoder

    train, asked = _rows(case["train"], seed=1), _rows(case["rows"], seed=2)
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    numbers.fit(train.features.matrix[:, : len(NUMBERS)])
    texts = TargetEncoder(target_type="continuous").fit(_objects(train), train.labels.astype(float))
    given, objects = asked.features.matrix[:, : len(NUMBERS)], _objects(asked)

    def apply() -> NDArray[np.float64]:
        marks = np.isnan(given)
        parts = (numbers.transform(given), marks, texts.transform(objects))
        return np.concatenate(parts, axis=1)

    found, width = _learned(train).inputs.matrix(asked.features), len(NUMBERS)
    order = [*range(0, 2 * width, 2), *range(1, 2 * width, 2), *range(2 * width, found.shape[1])]
    if not np.allclose(found[:, order], apply(), rtol=1e-9, atol=1e-12):
        raise RuntimeError("scikit-learn's columns are not ours")
    return _timed(apply, case["calls"])


def _learned(train: Sample) -> Learned:
    model = replace(
        toy_model(),
        features=(*NUMBERS, *TEXTS),
        label=replace(toy_model().label, predicts=REQUESTS),
        requirements=hs.Requirements(false_positive_cost=1.0, false_negative_cost=1.0),
        transforms=(hs.Impute(NUMBERS, indicator=True), hs.Scale(NUMBERS)),
    )
    return learn(model, train)


def _rows(count: int, seed: int) -> Sample:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(count, len(NUMBERS) + len(TEXTS)))
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    matrix[:, len(NUMBERS) :] = np.nan
    categories: dict[str, list[str | None]] = {
        name: [f"c{i}" for i in random.integers(0, 100, count)] for name in TEXTS
    }
    return Sample(Features(matrix, categories), random.random(count) < 0.3)


def _objects(sample: Sample) -> NDArray[np.object_]:
    return np.array([sample.features.categories[name] for name in TEXTS], object).T


def _timed(apply: Callable[[], object], calls: int) -> Work:
    def work() -> dict[str, float]:
        spent = []
        for _ in range(calls):
            began = perf_counter_ns()
            apply()
            spent.append(perf_counter_ns() - began)
        half, most = np.percentile(spent[len(spent) // 10 :], [50, 99]) / 1000
        return {"p50_us": float(half), "p99_us": float(most)}

    return work


BENCHMARK = Benchmark(
    name="apply_transforms",
    claim="Learned transforms: 30 features of a request become 56 columns, in process",
    module=__name__,
    systems={"homeostat": "ours", "scikit-learn": "theirs"},
    cases=cases,
    prepare=prepare,
    measure="p50_us",
    figures=("p50_us", "p99_us"),
    note="The first tenth of the calls is not counted.",
)
