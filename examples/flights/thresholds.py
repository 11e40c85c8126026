"""How good are thresholds chosen on validation? python -m examples.flights.thresholds (minutes).

Twelve trainings, 20 days apart, on the flights of 2013; each threshold is judged by its cost on the
20 days after the training, which it has not seen.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from lightgbm import LGBMClassifier, early_stopping

import homeostat as hs
from examples.flights import data
from homeostat.core.clock import ManualClock, to_micros
from homeostat.evaluate.calibration import calibration_error, relative_calibration_error
from homeostat.evaluate.metrics import Costs, counts
from homeostat.evaluate.threshold import choose_threshold
from homeostat.runtime.loading import load_system

DAY = 86_400_000_000
FIRST, TRAININGS, APART = datetime(2013, 5, 1, tzinfo=UTC), 12, 20
NAMES = ("ideal", "cheapest", "chosen", "best afterwards")


def rows_of_the_year(home: Path) -> tuple[pl.DataFrame, hs.System]:
    """Return the labelled requests of the year with their features, and the system."""
    system = load_system(Path(__file__).with_name("system.py"))
    with hs.open(system, home, ManualClock(to_micros(datetime(2014, 1, 3, tzinfo=UTC)))) as app:
        for name, frame in data.tables().items():
            app.ingest(name, frame, history=True)
        return app.training_set("late_arrival").sort("at"), system


def main() -> None:
    """Print one line per training, and the mean cost of each way to choose."""
    with tempfile.TemporaryDirectory() as folder:
        rows, system = rows_of_the_year(Path(folder) / "home")
    model = system.model("late_arrival")
    names = [name for name in model.feature_names() if name in rows.columns]
    numbers = rows.select(
        pl.col(name).cast(pl.Categorical).to_physical() if rows[name].dtype == pl.String else name
        for name in names
    )
    values, labels = numbers.cast(pl.Float64).to_numpy(), rows["label"].to_numpy()
    at = rows["at"].dt.epoch("us").to_numpy()
    costs, delay = Costs.of(model.requirements), model.label.delay_us
    validation, test, _ = model.split.spans_us
    total, asked = np.zeros(len(NAMES)), 0
    for number in range(TRAININGS):
        until = to_micros(FIRST + timedelta(days=APART * number))
        first_test = until - delay - test
        first = first_test - delay - validation
        learned, watched = at < first - delay, (at >= first) & (at < first_test - delay)
        tested, after = (
            (at >= first_test) & (at < until - delay),
            (at >= until) & (at < until + APART * DAY),
        )
        given: dict[str, Any] = dict(model.estimator.parameters)
        estimator = LGBMClassifier(**given, n_jobs=2, verbose=-1)
        estimator.fit(
            values[learned],
            labels[learned],
            eval_set=[(values[watched], labels[watched])],
            callbacks=[early_stopping(30, verbose=False)],
        )
        scores = {
            name: np.asarray(estimator.predict_proba(values[part]))[:, 1]
            for name, part in (("watched", watched), ("tested", tested), ("after", after))
        }
        found = choose_threshold(scores["watched"], labels[watched], costs)
        best = choose_threshold(scores["after"], labels[after], costs).cheapest
        spent = [
            counts(scores["after"], labels[after], threshold).cost(costs)
            for threshold in (found.ideal, found.cheapest, found.value, best)
        ]
        total, asked = total + spent, asked + int(after.sum())
        said = ", ".join(f"{n} {c / after.sum():.4f}" for n, c in zip(NAMES, spent, strict=True))
        tests = scores["tested"], labels[tested]
        print(
            f"{FIRST + timedelta(days=APART * number):%Y-%m-%d}: {found.value:.3f} in "
            f"[{found.low:.3f}, {found.high:.3f}], cheapest {found.cheapest:.3f}; cost: {said}; "
            f"test: calibration error {calibration_error(*tests):.3f}, "
            f"relative {relative_calibration_error(*tests):.3f}",
            flush=True,
        )
    print("mean cost per flight: ", ", ".join(
        f"{n} {c:.5f}" for n, c in zip(NAMES, total / asked, strict=True)
    ))  # fmt: skip


if __name__ == "__main__":
    main()
