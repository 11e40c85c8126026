"""The property tests bite: each planted fault is found by generated histories."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from homeostat.aggregate.block import Block
from homeostat.aggregate.expressions import to_polars
from homeostat.features import fold, offline, read, record
from homeostat.features.fold import ViewFold
from homeostat.features.offline import point_in_time
from homeostat.features.read import StateGone, ViewReader
from homeostat.testing.generators import FRAME, History, histories
from homeostat.testing.memory_store import MemoryStore
from homeostat.testing.oracle import feature_values


def offline_rows(history: History) -> list[Any]:
    keys = history.view.entity.keys
    rows = [
        {**dict(zip(keys, q.key, strict=True)), "at": q.at, "id": q.own} for q in history.questions
    ]
    schema = {**{k: FRAME[k] for k in keys}, "at": FRAME["at"], "id": pl.String}
    found = point_in_time(history.view, history.events, pl.DataFrame(rows, schema=schema))
    return [*found]


def live_rows(history: History) -> list[Any]:
    fold_view, reader, store = ViewFold(history.view), ViewReader(history.view), MemoryStore()
    prepared, done, found = fold_view.prepare(history.events), 0, []
    with store.writer() as writer:
        for cut in history.cuts:
            fold_view.apply(writer, prepared, done, cut)
            done = cut
            for q in (q for q in history.questions if q.folded == cut):
                found.append(reader.read(writer, [q.key], q.at, [q.own])[0])
    return found


@cache
def cases() -> list[tuple[History, Any]]:
    """Draw histories once, each with what the oracle says."""
    found: list[tuple[History, Any]] = []

    @seed(20130101)
    @settings(
        max_examples=150, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(histories())
    def collect(history: History) -> None:
        events = history.events.to_dicts()
        wanted = [
            feature_values(history.view, events, q.key, q.at, own=q.own) for q in history.questions
        ]
        found.append((history, np.array(wanted)))

    collect()
    return found


def is_found(rows: Callable[[History], list[Any]]) -> bool:
    """Whether `rows` differ from the oracle on one of the histories."""
    for history, wanted in cases():
        try:
            found = rows(history)
        except StateGone:
            return True
        if not np.array_equal(np.array(found), wanted, equal_nan=True):
            return True
    return False


def later_start(at: Any, window: int, hop: int) -> Any:
    tail = at - window + 1
    return tail if hop == 0 else tail // hop * hop


def no_hop(at: Any, window: int, hop: int) -> Any:
    return at - window


def truncated_hop(at: Any, window: int, hop: int) -> Any:
    return at - window if hop == 0 else -((window - at) // hop) * hop


def known_at_once(self: Any, at: Any, offsets: Any) -> Any:
    return np.searchsorted(self.known, at, side="right")


def nothing_is_too_late(view: Any) -> pl.Expr:
    in_time = pl.lit(True)
    for key in view.entity.keys:
        in_time &= pl.col(key).is_not_null()
    if view.condition is not None:
        in_time &= to_polars(view.condition).cast(pl.Boolean).fill_null(False)
    return in_time


_appended, _evicted = record.Record.appended, record.Record._evicted


def appended_late(self: record.Record, state: bytes, known: int, row: Any) -> bytes | None:
    found = _appended(self, state, known, row)
    if found is None:
        newest = self._row_format.unpack_from(state, len(state) - self.width * 8)
        found = _appended(self, state, known, (*newest[:2], *row[2:]))
    return found


def evicted_whole(self: record.Record, rows: memoryview, header: list[int]) -> Any:
    found = _evicted(self, rows, header)
    return found if len(found) == 1 else [self.empty[-self.width * 8 :], found[1]]


FAULTS: dict[str, tuple[Callable[[History], list[Any]], Any, str, Any]] = {
    "offline: an event on the boundary is left out": (
        offline_rows, offline, "window_start", later_start,
    ),
    "live: an event on the boundary is left out": (live_rows, read, "window_start", later_start),
    "offline: no hop": (offline_rows, offline, "window_start", no_hop),
    "live: no hop": (live_rows, read, "window_start", no_hop),
    "live: the hop rounds up": (live_rows, read, "window_start", truncated_hop),
    "offline: known at the instant itself": (
        offline_rows, Block, "limit", known_at_once,
    ),
    "offline: too late events count": (offline_rows, offline, "usable", nothing_is_too_late),
    "live: too late events count": (live_rows, fold, "usable", nothing_is_too_late),
    "offline: the own event counts": (
        offline_rows, offline, "id_digests", lambda ids: np.zeros(len(ids), np.int64),
    ),
    "live: the own event counts": (live_rows, read, "id_digest", lambda name: 0),
    "live: late events come last": (live_rows, record.Record, "appended", appended_late),
    "live: rows are evicted too early": (live_rows, record, "SLACK", -(10**12)),
    "live: evicted sums are forgotten": (live_rows, record.Record, "_evicted", evicted_whole),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    rows, owner, name, broken = FAULTS[fault]
    cases()
    with mock.patch.object(record, "FEWEST", 1), mock.patch.object(owner, name, broken):
        assert is_found(rows)


@pytest.mark.parametrize("rows", [offline_rows, live_rows])
def test_without_a_fault_nothing_is_found(rows: Callable[[History], list[Any]]) -> None:
    with mock.patch.object(record, "FEWEST", 1):
        assert not is_found(rows)
