"""One history, executed in every way there is: each gives one row of features per question.

All of them must give the bits of `oracle_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Floats
from homeostat.core.store import Store
from homeostat.features.fold import ViewFold
from homeostat.features.offline import point_in_time
from homeostat.features.read import ViewReader
from homeostat.lake.tables import Lake
from homeostat.runtime.build_plan import bounds, span_of
from homeostat.testing.generators import FRAME, History
from homeostat.testing.oracle import feature_values

__all__ = [
    "audited_rows",
    "differences",
    "lake_rows",
    "live_rows",
    "oracle_rows",
    "restarted_rows",
    "small_records",
    "training_rows",
]


def oracle_rows(history: History) -> Floats:
    """What the formula says."""
    events = history.events.to_dicts()
    found = [
        feature_values(history.view, events, q.key, q.at, own=q.own) for q in history.questions
    ]
    return np.array(found).reshape(len(history.questions), -1)


def training_rows(history: History) -> Floats:
    """The rows of a training set, each with what was known strictly before its instant."""
    return point_in_time(history.view, history.events, _spine(history))


def lake_rows(history: History, lake: Lake, after: Sequence[str] = ()) -> Floats:
    """The rows of a training set, from a new table that was appended batch by batch.

    `after` says what is done to the table after each batch: "sort" compacts all that is there,
    "merge" puts files together as another program would, "" leaves it. Only the span of known times
    that the rows can see is opened, and one bucket is held at once.
    """
    from deltalake import DeltaTable

    if history.rows:
        later = history.events[-1:].with_columns(
            pl.col("_known_time").dt.offset_by("1000d"), pl.lit(1 << 40).alias("_offset")
        )
        lake.append("readings", later, "later", 0)  # so that all days before it are closed
    begin = 0
    for number, cut in enumerate(history.cuts):
        if cut > begin:
            lake.append("readings", history.events[begin:cut], "fold", cut)
        begin = cut
        done = after[number] if number < len(after) else ""
        if done == "sort":
            lake.compact("readings")
        elif done == "merge" and lake.version("readings") >= 0:
            DeltaTable(str(lake.folder / "readings")).optimize.compact()
    spine = _spine(history)
    span, _ = span_of(history.view, *bounds(spine))
    return point_in_time(history.view, lake.events("readings", span), spine, memory=1)


def audited_rows(history: History) -> Floats:
    """The rows of an audit, each with what its read had folded, by offset."""
    offsets = [-1, *(row["_offset"] for row in history.rows)]
    seen = np.array([offsets[q.folded] for q in history.questions], np.int64)
    return point_in_time(history.view, history.events, _spine(history), offsets=seen)


def live_rows(history: History, store: Store) -> Floats:
    """Live reads between the batches, in one transaction, of one chunk prepared at once."""
    fold, reader = ViewFold(history.view), ViewReader(history.view)
    prepared, done = fold.prepare(history.events), 0
    found = []
    with store.writer() as writer:
        for cut in history.cuts:
            fold.apply(writer, prepared, done, cut)
            done = cut
            for q in history.questions:
                if q.folded == cut:
                    found.append(reader.read(writer, [q.key], q.at, [q.own])[0])
    return np.array(found)


def restarted_rows(history: History, store: Store, reopen: Callable[[Store], Store]) -> Floats:
    """Live reads by a process that dies after every batch, and remembers nothing but the store."""
    found, done = [], 0
    for cut in history.cuts:
        fold, reader = ViewFold(history.view), ViewReader(history.view)
        with store.writer() as writer:
            fold.apply(writer, fold.prepare(history.events[done:cut]), 0, cut - done)
        done, store = cut, reopen(store)
        with store.reader() as snapshot:
            for q in history.questions:
                if q.folded == cut:
                    found.append(reader.read(snapshot, [q.key], q.at, [q.own])[0])
    return np.array(found)


@contextmanager
def small_records(page: int) -> Iterator[None]:
    """Let few events be enough: records evict at once, are split, and have such small pages."""
    record = "homeostat.features.record"
    with (
        mock.patch(f"{record}.FEWEST", 1),
        mock.patch(f"{record}.PAGE", page),
        mock.patch(f"{record}.HALF_A_PAGE", 0),
        mock.patch(f"{record}.FEWEST_RECENT", 1),
    ):
        yield


def differences(found: Floats, wanted: Floats) -> list[tuple[int, int]]:
    """Return (question, feature) of every value whose bits differ."""
    unlike = np.ascontiguousarray(found).view(np.int64) != wanted.view(np.int64)
    return [(int(row), int(column)) for row, column in np.argwhere(unlike)]


def _spine(history: History) -> pl.DataFrame:
    keys = history.view.entity.keys
    rows = [
        {**dict(zip(keys, q.key, strict=True)), "at": q.at, "id": q.own} for q in history.questions
    ]
    schema = {**{k: FRAME[k] for k in keys}, "at": FRAME["at"], "id": pl.String}
    return pl.DataFrame(rows, schema=schema)
