"""One meaning, four executions: oracle, training rows, live reads, audit; equal to the bit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from homeostat.adapters.lmdb import LmdbStore
from homeostat.core.store import Store
from homeostat.declare.aggregations import count, mean
from homeostat.declare.sources import Entity
from homeostat.declare.views import FeatureView
from homeostat.features.fold import ViewFold
from homeostat.features.offline import point_in_time
from homeostat.features.read import ViewReader
from homeostat.testing.generators import FRAME, History, histories, readings
from homeostat.testing.memory_store import MemoryStore
from homeostat.testing.oracle import feature_values

Matrix = npt.NDArray[np.float64]
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def spine_of(history: History) -> pl.DataFrame:
    keys = history.view.entity.keys
    rows = [
        {**dict(zip(keys, q.key, strict=True)), "at": q.at, "id": q.own} for q in history.questions
    ]
    return pl.DataFrame(rows, schema={**{k: FRAME[k] for k in keys}, "at": FRAME["at"],
                                      "id": pl.String})  # fmt: skip


def expected(history: History) -> Matrix:
    events = history.events.to_dicts()
    return np.array(
        [feature_values(history.view, events, q.key, q.at, own=q.own) for q in history.questions]
    )


def live(history: History, store: Store, commits: bool) -> Matrix:
    """Fold batch by batch and ask in between, in one transaction or in one per batch."""
    fold, reader = ViewFold(history.view), ViewReader(history.view)
    prepared = fold.prepare(history.events)
    found: list[Any] = []
    done = 0
    batches = [history.cuts] if not commits else [(cut,) for cut in history.cuts]
    for cuts in batches:
        with store.writer() as writer:
            for cut in cuts:
                fold.apply(writer, prepared, done, cut)
                done = cut
                asked = [q for q in history.questions if q.folded == cut]
                for q in asked:
                    found.append(reader.read(writer, [q.key], q.at, [q.own])[0])
    return np.array(found)


@contextmanager
def eager_eviction() -> Iterator[None]:
    """Evict whatever can be evicted, so that small histories meet eviction too."""
    with mock.patch("homeostat.features.record.FEWEST", 1):
        yield


def same(found: Matrix, wanted: Matrix) -> None:
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(
        np.ascontiguousarray(found).view(np.int64), np.ascontiguousarray(wanted).view(np.int64)
    )


@EXAMPLES
@given(histories())
def test_training_rows_are_what_the_formula_says(history: History) -> None:
    wanted = expected(history)
    same(point_in_time(history.view, history.events, spine_of(history)), wanted)
    with mock.patch("homeostat.aggregate.windows._CHUNK", 3):
        same(point_in_time(history.view, history.events, spine_of(history)), wanted)


@EXAMPLES
@given(histories())
def test_live_reads_are_what_the_formula_says(history: History) -> None:
    same(live(history, MemoryStore(), commits=False), expected(history))
    with eager_eviction():
        same(live(history, MemoryStore(), commits=True), expected(history))


@EXAMPLES
@given(histories())
def test_rows_at_recorded_offsets_are_what_live_reads_saw(history: History) -> None:
    offsets = [-1, *(row["_offset"] for row in history.rows)]
    seen = np.array([offsets[q.folded] for q in history.questions])
    later = spine_of(history)
    same(
        point_in_time(history.view, history.events, later, offsets=seen),
        live(history, MemoryStore(), commits=True),
    )


@settings(EXAMPLES, max_examples=15)
@given(histories())
def test_the_embedded_store_changes_nothing(history: History) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = LmdbStore(folder, map_size=2**24, sync=False)
        same(live(history, store, commits=True), expected(history))
        store.close()


@EXAMPLES
@given(histories())
def test_any_cut_of_the_log_gives_the_same_values(history: History) -> None:
    fold, reader, answers = ViewFold(history.view), ViewReader(history.view), []
    for cuts in (history.cuts, range(1, len(history.rows) + 1), (len(history.rows),)):
        store, done = MemoryStore(), 0
        with store.writer() as writer:
            for cut in cuts:
                # A batch prepared on its own must hold the same states as a slice of a chunk.
                part = fold.prepare(history.events[done:cut])
                fold.apply(writer, part, 0, cut - done)
                done = cut
            last = [q for q in history.questions if q.folded == len(history.rows)]
            answers.append(np.array([reader.read(writer, [q.key], q.at, [q.own])[0] for q in last]))
    same(answers[0], answers[1])
    same(answers[0], answers[2])


@EXAMPLES
@given(histories())
def test_events_beyond_the_snapshot_do_not_matter(history: History) -> None:
    question = history.questions[0]
    spine = spine_of(history)[:1]
    whole = point_in_time(history.view, history.events, spine)
    cut = point_in_time(history.view, history.events[: question.folded], spine)
    same(whole, cut)


@pytest.mark.parametrize("rows", [0, 1])
def test_an_empty_history_answers_every_question(rows: int) -> None:
    history = History(_some_view(), (), (0,), ())
    spine = pl.DataFrame(
        {"place": ["a"] * rows, "at": [5] * rows},
        schema={"place": pl.String, "at": FRAME["at"]},
    )
    found = point_in_time(history.view, history.events, spine)
    assert found.shape == (rows, 2)
    assert found[:, 0].tolist() == [0.0] * rows
    assert np.isnan(found[:, 1]).all()


def _some_view() -> FeatureView:
    made = (count().over("1h"), mean("amount").over("1h"))
    return FeatureView("some", Entity("place", "place"), readings, made)
