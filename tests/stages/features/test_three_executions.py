"""One meaning, every execution: oracle, training rows, live reads, audit; equal to the bit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeostat.adapters.lmdb import LmdbStore
from homeostat.core.store import Store
from homeostat.declare.aggregations import count, mean
from homeostat.declare.sources import Entity
from homeostat.declare.views import FeatureView
from homeostat.features.fold import ViewFold
from homeostat.features.offline import point_in_time
from homeostat.features.read import ViewReader
from homeostat.lake.tables import Lake
from homeostat.testing.executions import (
    audited_rows,
    differences,
    lake_rows,
    live_rows,
    oracle_rows,
    restarted_rows,
    small_records,
    training_rows,
)
from homeostat.testing.generators import FRAME, History, histories, readings
from homeostat.testing.memory_store import MemoryStore

EXAMPLES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def same_store(store: Store) -> Store:
    return store


def check_every_execution(history: History) -> None:
    """Compare everything with the formula; also in small pieces, and evicting what can go."""
    wanted = oracle_rows(history)
    assert differences(training_rows(history), wanted) == []
    assert differences(audited_rows(history), wanted) == []
    assert differences(live_rows(history, MemoryStore()), wanted) == []
    with (
        mock.patch("homeostat.aggregate.windows._CHUNK", 3),
        mock.patch("homeostat.aggregate.summaries.CHUNK", 3),
    ):
        assert differences(training_rows(history), wanted) == []
    for page in (1, 2):
        with small_records(page):
            assert differences(restarted_rows(history, MemoryStore(), same_store), wanted) == []
            assert differences(live_rows(history, MemoryStore()), wanted) == []


@settings(EXAMPLES, max_examples=100)
@given(histories())
def test_every_execution_is_what_the_formula_says(history: History) -> None:
    check_every_execution(history)


@pytest.mark.soak
@settings(EXAMPLES, max_examples=4000, derandomize=False)
@given(histories())
def test_every_execution_of_thousands_of_systems_is_what_the_formula_says(
    history: History,
) -> None:
    check_every_execution(history)


LAYOUTS = st.tuples(
    st.lists(st.sampled_from(("", "sort", "merge")), max_size=8),
    st.sampled_from((("place",), ("site",), ("site", "place"), ())),
)
"""What is done to a table after each batch, and by what its closed days are sorted."""


def check_lake(history: History, layout: tuple[list[str], tuple[str, ...]]) -> None:
    """Compare training rows read from a table in parts of a few events, in rounds of entities."""
    after, keys = layout
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("homeostat.lake.events.PART", 4),
        mock.patch("homeostat.lake.compaction.GROUP", 2),
        mock.patch("homeostat.lake.compaction.ROWS", 5),
        mock.patch("homeostat.features.event_tables.RUN", 5),
        mock.patch("homeostat.features.buckets.ROWS", 3),
    ):
        lake = Lake(Path(folder), {"readings": pl.Schema(FRAME)}, keys={"readings": keys})
        found = lake_rows(history, lake, after)
    assert differences(found, oracle_rows(history)) == []


@settings(EXAMPLES, max_examples=40)
@given(histories(), LAYOUTS)
def test_a_lake_read_in_parts_gives_what_the_formula_says(
    history: History, layout: tuple[list[str], tuple[str, ...]]
) -> None:
    check_lake(history, layout)


@settings(EXAMPLES, max_examples=15)
@given(histories())
def test_one_sorted_row_group_is_no_log(history: History) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder), {"readings": pl.Schema(FRAME)}, keys={"readings": ("place",)})
        found = lake_rows(history, lake, ["sort"] * len(history.cuts))
    assert differences(found, oracle_rows(history)) == []


@pytest.mark.soak
@settings(EXAMPLES, max_examples=500, derandomize=False)
@given(histories(), LAYOUTS)
def test_thousands_of_lakes_read_in_parts_give_what_the_formula_says(
    history: History, layout: tuple[list[str], tuple[str, ...]]
) -> None:
    check_lake(history, layout)


def check_restarts(history: History) -> None:
    with tempfile.TemporaryDirectory() as folder:

        def opened(store: Store | None = None) -> LmdbStore:
            if isinstance(store, LmdbStore):
                store.close()
            return LmdbStore(folder, map_size=2**24, sync=False)

        reopen: Callable[[Store], Store] = opened
        with small_records(2):
            found = restarted_rows(history, opened(), reopen)
        assert differences(found, oracle_rows(history)) == []


@settings(EXAMPLES, max_examples=15)
@given(histories())
def test_the_embedded_store_and_a_restart_after_every_batch_change_nothing(
    history: History,
) -> None:
    check_restarts(history)


@pytest.mark.soak
@settings(EXAMPLES, max_examples=2000, derandomize=False)
@given(histories())
def test_restarts_of_thousands_of_systems_change_nothing(history: History) -> None:
    check_restarts(history)


@settings(EXAMPLES, max_examples=25)
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
    assert differences(answers[0], answers[1]) == []
    assert differences(answers[0], answers[2]) == []


@settings(EXAMPLES, max_examples=25)
@given(histories())
def test_events_beyond_the_snapshot_do_not_matter(history: History) -> None:
    question = history.questions[0]
    alone = History(history.view, history.rows, history.cuts, (question,))
    cut = History(history.view, history.rows[: question.folded], (question.folded,), (question,))
    assert differences(training_rows(alone), training_rows(cut)) == []


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
