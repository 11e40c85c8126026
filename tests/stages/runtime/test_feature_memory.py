"""Features kept from earlier trainings are the bits that computing them again gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.durations import parse_duration
from homeostat.runtime.app import App
from homeostat.runtime.training import Trainer
from homeostat.testing.toy import TOY_START, toy_events, toy_system

DAY = parse_duration("1d")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    clock = ManualClock(to_micros(TOY_START) + 20 * DAY)
    with App(toy_system(), tmp_path, clock) as opened:
        for source, frame in toy_events().items():
            opened.ingest(source, frame, known_time="known_at")
        opened.live.flush()
        yield opened


def trainer(app: App) -> Trainer:
    return Trainer(app.system, app.home.lake, app.home.registry)


def test_a_retraining_equals_a_training_from_nothing(app: App) -> None:
    model = app.system.model("fraud")
    early, late = (to_micros(TOY_START) + days * DAY for days in (6, 11))
    remembering = trainer(app)
    remembering.train(model, early)
    again = remembering.train(model, late)
    fresh = trainer(app).train(model, late)
    assert again.package.hash == fresh.package.hash


def test_a_package_is_rebuilt_from_its_lineage_alone(app: App) -> None:
    model = app.system.model("fraud")
    trained = trainer(app).train(model, to_micros(TOY_START) + 9 * DAY)
    rebuilt = trainer(app).again(model, trained.package.lineage)
    assert rebuilt.hash == trained.package.hash


def test_rows_may_come_in_any_order_and_part(app: App) -> None:
    model, until = app.system.model("fraud"), to_micros(TOY_START) + 11 * DAY
    mine = trainer(app)
    rows = mine.rows(model, until)
    memory = mine._memory

    def read(source: str, begin: int | None) -> pl.DataFrame:
        return app.home.lake.read(source, known_before=until, known_from=begin)

    whole = trainer(app)._memory.features(model, rows, read)
    parts = [memory.features(model, rows[a:b], read) for a, b in ((40, 90), (0, 60), (0, None))]
    shuffled = memory.features(model, rows[::-1], read)
    bits = whole.matrix.view(np.int64)
    assert (parts[-1].matrix.view(np.int64) == bits).all()
    assert (shuffled.matrix[::-1].view(np.int64) == bits).all()
    assert shuffled.categories["merchant"][::-1] == whole.categories["merchant"]
