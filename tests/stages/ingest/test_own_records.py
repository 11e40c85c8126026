"""What a request is told of its event: as the intake will judge it, by id and by content."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.declare.schema import Event, Timestamp
from homeostat.declare.sources import EventSource
from homeostat.ingest.intake import Intake
from homeostat.ingest.log import LogBatch
from homeostat.ingest.push import Door
from homeostat.testing.memory_store import MemoryStore

NOW = 1_372_680_000_000_000  # 2013-07-01T12:00:00Z


class Tap(Event):
    tap: str
    at: Timestamp
    amount: float
    items: int | None
    shop: str = "none"


TAPS = EventSource("taps", Tap, event_id="tap", event_time="at", dedup="1h", clock_skew="5s")


def batch(payloads: list[bytes], first: int, known: int) -> LogBatch:
    offsets = np.arange(first, first + len(payloads))
    return LogBatch("taps", offsets, np.full(len(payloads), known), payloads)


def said(name: str, amount: float = 1.0) -> bytes:
    return json.dumps({"tap": name, "at": "2013-07-01T12:00:00Z", "amount": amount}).encode()


STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([f"id{n}" for n in range(12)]), max_size=6),
        st.sampled_from([0, 60_000_000, 1_800_000_000, 4_000_000_000]),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_a_snapshot_knows_the_ids_that_the_intake_would_not_take_again(steps: Any) -> None:
    store, intake, known, offset = MemoryStore(), Intake(TAPS), NOW, 0
    fresh: dict[str, tuple[int, int]] = {}  # the plain reading: by id, the last one that was new
    for names, passed, restarted in steps:
        known += passed
        if restarted:
            intake = Intake(TAPS)
        with store.writer() as writer:
            intake.take(batch([said(name) for name in names], offset, known), writer)
        for place, name in enumerate(names):
            if name not in fresh or known - fresh[name][1] > 3_600_000_000:
                fresh[name] = offset + place, known
        offset += len(names)
        asked = [f"id{n}" for n in range(14)]
        with store.reader() as reader:
            found = intake.remembered(reader, asked, known)
        assert {name: tuple(place) for name, place in found.items()} == {
            name: place for name, place in fresh.items() if known - place[1] <= 3_600_000_000
        }


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "tap": st.sampled_from(["a", "", None, 3]),
        "at": st.sampled_from([
            "2013-07-01T12:00:00Z", "2013-07-01T12:00:05Z", "2013-07-01T12:00:05.000001Z",
            "2013-07-01T14:00:05+02:00", "1913-07-01T12:00:00Z", None, "noon",
        ]),
        "amount": st.sampled_from([0, 1.5, -1e300, 1e15, None, "1"]),
        "items": st.sampled_from([1, None, 2**63, 1.5]),
        "shop": st.sampled_from(["x", None, 1]),
    },
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(FIELDS)
def test_the_door_says_what_the_intake_will_say(fields: dict[str, Any]) -> None:
    payload = json.dumps(fields).encode()
    told = Door(TAPS).refusal(payload, NOW)
    with MemoryStore().writer() as writer:
        taken = Intake(TAPS).take(batch([payload], 0, NOW), writer)
    letters = [(letter.reason, letter.detail) for letter in taken.rejected]
    assert letters == ([] if told is None else [told])
