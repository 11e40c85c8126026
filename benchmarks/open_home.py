"""Claim: a home opens in under 3 s and 300 MB more than an empty one, whatever it has answered.

The home's predictions were written by the store's own writer, in groups as they come in a quarter
of a second, and moved into the lake as a server moves them; the last ones wait for it. Opened is
the whole application, in a process of its own: as Python does it, from the import on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

import homeostat as hs
from benchmarks.card_payments import CARDS, PAYMENTS
from benchmarks.contest import Benchmark, Case, Work

__all__ = ["BENCHMARK"]

GROUP, STEP, TAIL = 75, 180_000, 30_000
"""Predictions of a quarter of a second, of a step of the loop, and those that the lake has not."""

SPACED = 3_333
"""Microseconds between two predictions: 300 a second."""


class Verdict(hs.Event):
    """What became of a payment."""

    payment_id: str
    at: hs.Timestamp
    fraud: bool


def system() -> hs.System:
    """Return a system with one deployed model over the cards' view."""
    verdicts = hs.EventSource("verdicts", Verdict, event_id="payment_id", event_time="at")
    label = hs.Label(
        "fraud", predicts=PAYMENTS, outcome=verdicts, join_on="payment_id",
        value=hs.col("fraud") == True, delay="1h", when_absent=False,  # noqa: E712
    )  # fmt: skip
    model = hs.Model(
        "fraud",
        features=(*CARDS.all(), "amount"),
        label=label,
        estimator=hs.Estimator("sklearn.linear_model:LogisticRegression"),
        split=hs.Split(validation="1d", test="1d"),
        requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=5),
    )
    return hs.System(
        "payments",
        sources=(PAYMENTS, verdicts),
        views=(CARDS,),
        models=(model,),
        deployments=(
            hs.Deployment(
                model=model,
                rollout=(hs.Shadow("1d"),),
                guards=(),
                degradation=hs.Degradation(score=0.1),
            ),
        ),
        monitors=(hs.Drift(model, psi=0.5, window="1d"),),
    )


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """2 M predictions, or 20,000."""
    rows = 20_000 if small else 2_000_000
    return [Case(f"{rows:,} predictions", folder / f"open-{rows}", {"predictions": rows})]


def prepare(case: Case) -> None:
    """Make an empty home, and one whose predictions were logged group by group."""
    from homeostat.core.clock import SystemClock

    for name in ("empty", "full"):
        with hs.open(system(), case.folder / name):
            pass
    rows, tail = case["predictions"], min(TAIL, case["predictions"] // 4)
    begin = SystemClock().now() - rows * SPACED
    with hs.open(system(), case.folder / "full") as app:
        history, count = app.home.predictions, len(CARDS.all()) + 1
        for first in range(0, rows, GROUP):
            frame = _predictions(first, min(GROUP, rows - first), begin, count)
            step = first // STEP
            for model, key in history.store.add(step, {"fraud": frame}, {"fraud": []}):
                history.store.sent(model, key)
            history.store.merge("fraud")
            if history.store.waiting("fraud") >= STEP and first < rows - tail:
                history.flush("fraud")
            if first <= rows - tail < first + GROUP:
                history.flush("fraud")


def _predictions(first: int, count: int, begin: int, features: int) -> pl.DataFrame:
    from homeostat.serve.predictions import prediction_schema

    schema = prediction_schema(["payments"])
    numbers = range(first, first + count)
    draw = np.random.default_rng(first)
    score = draw.random(count)
    held: dict[str, Any] = {
        "prediction_id": [f"{n:032x}" for n in numbers],
        "at": pl.Series([begin + n * SPACED for n in numbers]).cast(schema["at"]),
        "request_id": [f"payment-{n}" for n in numbers],
        "model": ["fraud"] * count,
        "version": [1] * count,
        "arm": ["champion"] * count,
        "score": score,
        "threshold": [0.5] * count,
        "decision": score >= 0.5,
        "degraded": [""] * count,
        "offset_payments": list(numbers),
        "features": draw.normal(50, 20, (count, features)).tolist(),
        "request": [
            f'{{"payment_id":"payment-{n}","card":"card-{n % 10_000}","merchant":"m","amount":{n}}}'
            for n in numbers
        ],
    }
    return pl.DataFrame(
        [pl.Series(n, held.get(n, [None] * count), dtype=t) for n, t in schema.items()]
    )


def full(case: Case) -> Work:
    """Open the home with predictions."""
    return _opened(case, "full")


def empty(case: Case) -> Work:
    """Open one that has none."""
    return _opened(case, "empty")


def _opened(case: Case, name: str) -> Work:
    home = case.folder / name

    def work() -> dict[str, float]:
        began = perf_counter()
        app = hs.open(system(), home)
        found = {"open_s": perf_counter() - began, "taken_mb": _memory_mb()}
        app.close()
        return found

    return work


def _memory_mb() -> float:
    """Return what this process has allocated, without pages of files."""
    told = Path("/proc/self/status").read_text()
    return int(told.partition("RssAnon:")[2].split()[0]) / 1024


BENCHMARK = Benchmark(
    name="open_home",
    claim="A home opens as an empty one does, whatever it has answered",
    module=__name__,
    systems={"with predictions": "full", "empty": "empty"},
    cases=cases,
    prepare=prepare,
    measure="open_s",
    figures=("open_s", "taken_mb"),
    note=(
        "Predictions of the last hours, 300 a second, written in groups of 75 and moved into the "
        "lake every ten minutes; 30,000 wait for it. Each is opened in a process of its own."
    ),
)
