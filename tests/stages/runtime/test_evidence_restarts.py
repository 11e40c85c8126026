"""Evidence is what the logs say: after a restart, a move into the lake, or neither."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.declare.models import Label
from homeostat.lake.tiered import TieredLake
from homeostat.monitor.labels import matured
from homeostat.monitor.logged import logged_features
from homeostat.monitor.sketch import sketch_like, sketch_of
from homeostat.runtime import record as record_module
from homeostat.runtime.drift_sketches import DriftSketches, Reference
from homeostat.runtime.prediction_history import PredictionHistory
from homeostat.runtime.record import ModelRecord
from homeostat.serve.predictions import prediction_schema
from homeostat.testing.toy import toy_system

MODEL = toy_system().model("fraud")
MINUTE = 60_000_000
EVERY = 10 * MINUTE
START = 28_000_000 * MINUTE
NAMES = ("amount", "usual")


def begin_of(instant: Micros) -> Micros:
    return START + (instant - START) // EVERY * EVERY


def answers(draw: random.Random, first: int, count: int, at: Micros) -> pl.DataFrame:
    """Return predictions asked in the minute before an instant; some while the store was down."""
    held: dict[str, list[Any]] = {
        "prediction_id": [f"p{n:05}" for n in range(first, first + count)],
        "at": [from_micros(at - draw.randrange(MINUTE)) for _ in range(count)],
        "request_id": [f"r{n}" for n in range(first, first + count)],
        "version": [draw.randint(1, 2) for _ in range(count)],
        "score": [draw.random() for _ in range(count)],
        "threshold": [0.5] * count,
        "degraded": [draw.choice(["", "", "store_down"]) for _ in range(count)],
        "features": [[draw.gauss(0, 1), None] for _ in range(count)],
        "definitions": [draw.choice(["mine", "mine", "other", None]) for _ in range(count)],
        "request": ["{}"] * count,
    }
    schema = prediction_schema(["payments"])
    return pl.DataFrame(
        [pl.Series(n, held.get(n, [None] * count), dtype=t) for n, t in schema.items()]
    )


def verdicts(draw: random.Random, asked: pl.DataFrame) -> pl.DataFrame:
    """Return what became of some requests, hours later."""
    rows = asked.filter(
        pl.Series([draw.random() < 0.6 for _ in range(asked.height)], dtype=pl.Boolean)
    )
    later = [draw.randint(1, 3 * 1440) * MINUTE for _ in range(rows.height)]
    known = rows["at"] + pl.Series(later, dtype=pl.Duration("us"))
    return pl.DataFrame(
        {
            "payment_id": rows["request_id"],
            "fraud": [draw.random() < 0.5 for _ in range(rows.height)],
            "_known_time": known,
            "_event_time": known,
        },
        schema_overrides={"fraud": pl.Boolean},
    )


def own(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("definitions").fill_null("mine") == "mine")


class Home:
    """A history and what is looked at, as one process has them."""

    def __init__(
        self, folder: Path, outcomes: list[pl.DataFrame], reference: Reference, folded: list[Micros]
    ) -> None:
        self.history = PredictionHistory(folder / "predictions.db", TieredLake(folder / "lake"))
        self.sketches = DriftSketches(self.history, begin_of, EVERY)
        self.reference = reference

        def known(label: Label, begin: Micros, end: Micros) -> pl.DataFrame:
            at = pl.col("_known_time").dt.epoch("us")
            return pl.concat(outcomes).filter((at >= begin) & (at < min(end, folded[-1])))

        def folded_to(_: Label, now: Micros) -> Micros:
            return min(now, folded[-1])

        self.record = ModelRecord(MODEL, self.history, known, begin_of, folded_to)

    def says(self, begin: Micros, now: Micros) -> list[object]:
        """Return what monitors and guards would be given."""
        window = self.sketches.window("fraud", 7, begin, self.reference)
        labelled = self.record.labelled_since(begin, now)
        asked = self.record.predictions_since(begin, record_module.JUDGED)
        labels = None if asked is None else self.record.labels(asked, now)
        return [
            window.bins, [h.counts for h in window.histograms], self.record.reaches(begin),
            *(None if f is None else f.to_dict(as_series=False) for f in (labelled, asked, labels)),
        ]  # fmt: skip


def by_reading_all(
    written: list[pl.DataFrame], outcomes: list[pl.DataFrame], reference: Reference,
    begin: Micros, folded: Micros,
) -> list[object]:  # fmt: skip
    every = pl.concat(written).sort("at", "prediction_id")
    rows = every.filter(pl.col("at") >= from_micros(begin))
    window = sketch_like(reference.sketch, *logged_features(own(rows), NAMES, ()))
    final = matured(rows, pl.concat(outcomes), MODEL.label, folded)
    judged = final.select(record_module.KEPT).sort(record_module.KEPT)
    asked = rows.select(record_module.JUDGED)
    oldest = int(every["at"].dt.epoch("us")[0])
    return [
        window.bins, [h.counts for h in window.histograms], begin_of(oldest) <= begin,
        judged.to_dict(as_series=False) if judged.height else None,
        asked.to_dict(as_series=False) if asked.height else None,
        final.select("prediction_id", "label").to_dict(as_series=False) if asked.height else None,
    ]  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_evidence_does_not_depend_on_restarts_or_on_where_predictions_are(
    tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    noise = np.random.default_rng(seed).normal(size=(500, 2))

    def reference(name: str) -> Reference:
        moved = noise + len(name)
        return Reference(name, NAMES, (), sketch_of(moved, NAMES, {}), own)

    written: list[pl.DataFrame] = []
    outcomes = [verdicts(draw, answers(draw, 0, 0, START))]
    now, begin, rows = START + 3 * MINUTE, START, 0
    folded = [now]  # the fold may stand still for days
    one = Home(tmp_path, outcomes, reference("a"), folded)
    for turn in range(60):
        now += draw.choice([MINUTE, 7 * MINUTE, 300 * MINUTE])
        if draw.random() < 0.6:
            folded.append(draw.randint(folded[-1], now) if draw.random() < 0.3 else now)
        for _ in range(draw.randint(0, 3)):
            asked = answers(draw, rows, draw.randint(1, 6), now - draw.randint(0, 1) * MINUTE)
            rows += asked.height
            written.append(asked)
            outcomes.append(verdicts(draw, asked))
            ((model, key),) = one.history.store.add(turn, {"fraud": asked})
            one.history.store.sent(model, key)
        if draw.random() < 0.3:
            one.history.flush("fraud")
        if draw.random() < 0.1:  # another champion, with other bins
            one.reference = reference(f"champion {turn}")
        begin = max(begin, now - 5000 * MINUTE + draw.randint(0, 9) * MINUTE)
        if not written:
            continue
        expected = by_reading_all(written, outcomes, one.reference, begin, folded[-1])
        assert one.says(begin, now) == expected
        if draw.random() < 0.4:
            other = Home(tmp_path, outcomes, one.reference, folded)
            if draw.random() < 0.3:  # before anything is followed
                other.history.flush("fraud")
            assert other.says(begin, now) == expected
            if draw.random() < 0.5:
                one.history.close()
                one = other
            else:
                other.history.close()
    one.history.close()
