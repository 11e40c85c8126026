"""Several threads take a batch as one does: the same frames, dead letters and counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from threading import get_ident
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import from_micros, to_micros
from homeostat.core.row_threads import FEWEST_ROWS, RowThreads
from homeostat.ingest.intake import Intake, Taken
from homeostat.ingest.log import LogBatch
from homeostat.testing.hostile_payloads import hostile_payloads
from homeostat.testing.intake_oracle import expected_outcomes
from homeostat.testing.memory_store import MemoryStore

START = to_micros(datetime(2024, 3, 1, tzinfo=UTC))
SECOND = 1_000_000


class Tap(hs.Event):
    """A card is held to a reader."""

    tap: str
    at: hs.Timestamp
    amount: float
    items: int | None
    note: str = "none"


TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at", lateness="30s", clock_skew="5s")


class Numbered(hs.Event):
    """Its id is a number."""

    number: int
    at: hs.Timestamp


NUMBERED = hs.EventSource("numbered", Numbered, event_id="number", event_time="at")


def event(number: int, draw: np.random.Generator) -> dict[str, Any]:
    """Return an event, some of them too late, from the future, or with much text."""
    at = from_micros(START + int(draw.integers(-60, 8)) * SECOND)
    note = {"note": "é" * int(draw.integers(0, 40))} if number % 3 else {}
    return {"tap": f"tap-{number}", "number": number, "at": at.isoformat(), "amount": 1.5,
            "items": number if number % 2 else None, **note}  # fmt: skip


def hostile_log(seed: int, count: int) -> list[bytes]:
    """Return payloads of which half are spoiled, and some came before, with other content too."""
    draw = np.random.default_rng(seed)
    found: list[bytes] = []
    for number in range(count):
        again = int(draw.integers(0, max(number, 1))) if draw.random() < 0.2 else number
        said = event(again, draw)
        spoiled = hostile_payloads(said, 1, int(draw.integers(0, 2**31)), largest=2_000)
        found += spoiled if draw.random() < 0.5 else [json.dumps(said).encode()]
    return found


def taken_by(
    threads: RowThreads, source: hs.EventSource, payloads: list[bytes], cut: int
) -> list[Taken]:
    """Take the payloads in two batches."""
    store, intake = MemoryStore(), Intake(source, threads=threads)
    known = START + np.arange(len(payloads))
    found = []
    for begin, end in ((0, cut), (cut, len(payloads))):
        offsets = np.arange(begin, end)
        batch = LogBatch(source.name, offsets, known[begin:end], payloads[begin:end])
        with store.writer() as seen:
            found.append(intake.take(batch, seen))
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 60),
    threads=st.builds(RowThreads, st.integers(2, 5), st.integers(1, 9)),
    source=st.sampled_from([TAPS, NUMBERED]),
    data=st.data(),
)
def test_threads_take_what_one_takes(
    seed: int, count: int, threads: RowThreads, source: hs.EventSource, data: st.DataObject
) -> None:
    payloads = hostile_log(seed, count)
    cut = data.draw(st.integers(0, count))
    one = taken_by(RowThreads(1), source, payloads, cut)
    several = taken_by(threads, source, payloads, cut)
    for left, right in zip(one, several, strict=True):
        assert left.events.equals(right.events, null_equal=True)
        assert left.rejected == right.rejected
        assert (left.accepted, left.duplicates, left.too_late) == (
            right.accepted, right.duplicates, right.too_late,
        )  # fmt: skip


def test_threads_agree_with_the_plain_twin() -> None:
    draw = np.random.default_rng(3)
    payloads = [json.dumps(event(int(n), draw)).encode() for n in draw.integers(0, 400, 600)]
    store, known = MemoryStore(), START + np.arange(600)
    with store.writer() as seen:
        batch = LogBatch("taps", np.arange(600), known, payloads)
        taken = Intake(TAPS, threads=RowThreads(3, 7)).take(batch, seen)
    expected = expected_outcomes(TAPS, zip(range(600), known.tolist(), payloads, strict=True))
    accepted = [found for found in expected if found.verdict == "accepted"]
    assert taken.events["_offset"].to_list() == [found.offset for found in accepted]
    assert taken.too_late == sum(found.is_too_late for found in accepted) > 0
    assert [(letter.offset, letter.reason) for letter in taken.rejected] == [
        (found.offset, found.verdict)
        for found in expected
        if found.verdict not in ("accepted", "duplicate")
    ]


def parts_of(threads: RowThreads, rows: int) -> list[tuple[int, int]]:
    """Return the parts in which the rows are done."""
    found: list[tuple[int, int]] = []
    threads.run(rows, lambda begin, end: found.append((begin, end)))
    return sorted(found)


@given(rows=st.integers(0, 200), most=st.integers(1, 9), fewest=st.integers(1, 50))
def test_parts_hold_each_row_once(rows: int, most: int, fewest: int) -> None:
    parts = parts_of(RowThreads(most, fewest), rows)
    assert [row for begin, end in parts for row in range(begin, end)] == list(range(rows))
    assert len(parts) == max(min(most, rows // fewest), 1)


def test_a_small_batch_needs_no_thread() -> None:
    here: list[int] = []
    RowThreads().run(FEWEST_ROWS, lambda begin, end: here.append(get_ident()))
    assert here == [get_ident()]


@pytest.mark.parametrize("where", [0, 1, 2])
def test_what_a_part_raises_is_raised(where: int) -> None:
    def broken(at: int) -> Callable[[int, int], None]:
        def loop(begin: int, end: int) -> None:
            if begin == at:
                raise ValueError(f"row {begin}")

        return loop

    with pytest.raises(ValueError, match=f"row {where}"):
        RowThreads(3, 1).run(3, broken(where))
