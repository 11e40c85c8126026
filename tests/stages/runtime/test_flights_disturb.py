"""What the demonstration injects goes where it should, and touches no real flight."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from examples.flights import data
from examples.flights.demo import fair_weather
from examples.flights.disturb import NOWHERE, PLAN, Records, disturbed

from homeostat.declare.system import System
from homeostat.features.assemble import Features
from homeostat.ingest.intake import Intake, Taken
from homeostat.ingest.log import LogBatch
from homeostat.runtime.loading import load_system
from homeostat.testing.memory_store import MemoryStore

REASONS = {
    "conflict": "conflict",
    "malformed": "malformed",
    "wrong_type": "invalid_field",
    "missing_field": "missing_field",
    "not_finite": "not_finite",
    "future": "future",
}


@pytest.fixture(scope="module")
def system() -> System:
    return load_system(Path(data.__file__).with_name("system.py"))


@pytest.fixture(scope="module")
def tables() -> Mapping[str, pl.DataFrame]:
    """The first days of the year."""
    return {name: frame.head(6_000) for name, frame in data.tables().items()}


@pytest.fixture(scope="module")
def sent(system: System, tables: Mapping[str, pl.DataFrame]) -> dict[str, Records]:
    return {records.source: records for records in disturbed(system, tables)}


@pytest.fixture(scope="module")
def taken(system: System, sent: Mapping[str, Records]) -> dict[str, Taken]:
    found = {}
    for name, records in sent.items():
        offsets = np.arange(len(records.payloads), dtype=np.int64)
        batch = LogBatch(name, offsets, records.known, records.payloads)
        with MemoryStore().writer() as seen:
            found[name] = Intake(system.source(name)).take(batch, seen)
    return found


@pytest.mark.parametrize("source", PLAN)
def test_each_fault_meets_its_fate(source: str, taken: Mapping[str, Taken]) -> None:
    planned, found = PLAN[source], taken[source]
    refused = Counter(letter.reason.partition(":")[0] for letter in found.rejected)
    assert refused == {REASONS[kind]: n for kind, n in planned.items() if kind in REASONS}
    assert found.duplicates == planned["duplicate"]
    assert found.too_late == planned.get("too_late", 0)
    extra = planned.get("too_late", 0) + planned.get("late", 0)
    assert found.accepted == 6_000 + extra


@pytest.mark.parametrize("source", PLAN)
def test_real_events_arrive_as_they_were(
    source: str, system: System, tables: Mapping[str, pl.DataFrame], taken: Mapping[str, Taken]
) -> None:
    frame, events = tables[source], taken[source].events
    key = system.source(source).event_id
    real = events.join(frame.select(_id=key), on="_id", how="semi").sort("_known_time", "_id")
    fields = system.source(source).schema.names()
    assert real.select(fields).equals(frame.select(fields))
    assert real["_known_time"].to_list() == frame["known_at"].to_list()
    added = events.join(frame.select(_id=key), on="_id", how="anti")
    counts_in_features = added.filter(~pl.col("_too_late"))
    for field, value in NOWHERE.items():
        if field in fields:
            assert counts_in_features[field].unique().to_list() in ([], [value])


def test_no_request_is_invented(taken: Mapping[str, Taken]) -> None:
    assert taken["schedule"].accepted == 6_000


def test_known_times_ascend(sent: Mapping[str, Records]) -> None:
    for records in sent.values():
        assert (np.diff(records.known) >= 0).all()
        assert len(records.known) == len(records.payloads)


def test_half_of_the_duplicates_are_written_otherwise(sent: Mapping[str, Records]) -> None:
    by_id: dict[str, set[bytes]] = {}
    for payload in sent["weather"].payloads:
        try:
            event = json.loads(payload)
        except ValueError:
            continue
        by_id.setdefault(event["observation_id"], set()).add(payload)
    assert sum(len(payloads) > 1 for payloads in by_id.values()) >= PLAN["weather"]["duplicate"] / 2


def test_fair_weather_changes_the_weather_of_late_flights_alone(system: System) -> None:
    model = system.model("late_arrival")
    names = model.feature_names()
    rain = names.index("airport_weather__precipitation_mean_6h")
    sight = names.index("airport_weather__visibility_last_6h")
    given = Features(np.full((3, len(names)), 0.5), {})
    late = np.array([True, False, True])
    altered = fair_weather(model)(given, late).matrix
    assert (given.matrix == 0.5).all()
    assert (altered[1] == 0.5).all()
    assert altered[0, rain] == 0.0
    assert altered[0, sight] == 10.0
    assert np.count_nonzero(altered != 0.5) == 4
