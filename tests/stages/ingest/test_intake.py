"""The intake agrees with its plain twin, whatever the cuts, the crashes and the payloads."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import from_micros, to_micros
from homeostat.core.errors import DeclarationError
from homeostat.core.ids import event_tie
from homeostat.ingest.columns import events_schema
from homeostat.ingest.intake import Intake, Taken
from homeostat.ingest.log import LogBatch
from homeostat.testing.intake_oracle import Outcome, expected_outcomes
from homeostat.testing.memory_store import MemoryStore

START = to_micros(datetime(2013, 3, 1, tzinfo=UTC))
SECOND = 1_000_000


class Tap(hs.Event):
    """A card was held to a reader."""

    tap: str
    at: hs.Timestamp
    amount: float
    items: int | None
    refund: bool | None
    seen_at: hs.Timestamp | None
    note: str | None


taps = hs.EventSource("taps", Tap, event_id="tap", event_time="at", lateness="30s", clock_skew="5s")


class Counted(hs.Event):
    number: int
    at: hs.Timestamp


counted = hs.EventSource("counted", Counted, event_id="number", event_time="at")

Records = list[tuple[int, int, bytes]]


def batch_of(records: Records, source: str = "taps") -> LogBatch:
    return LogBatch(
        source,
        np.array([offset for offset, _, _ in records], dtype=np.int64),
        np.array([known for _, known, _ in records], dtype=np.int64),
        [payload for _, _, payload in records],
    )


def take(records: Records, store: MemoryStore, source: hs.EventSource = taps) -> Taken:
    with store.writer() as seen:
        return Intake(source).take(batch_of(records, source.name), seen)


def one(payload: bytes, known: int = START) -> Taken:
    return take([(0, known, payload)], MemoryStore())


def payload_of(**changes: Any) -> bytes:
    event = {"tap": "a", "at": from_micros(START).isoformat(), "amount": 1.0, **changes}
    return json.dumps(event).encode()


def outcomes_of(taken: Taken) -> list[Outcome]:
    """What the records became; duplicates leave no trace but their number."""
    events = taken.events.select(
        "_offset", pl.col("_event_time").dt.epoch("us"), "_too_late"
    ).rows()
    accepted = [Outcome(offset, "accepted", at, late) for offset, at, late in events]
    refused = [Outcome(letter.offset, letter.reason) for letter in taken.rejected]
    return sorted([*accepted, *refused], key=lambda outcome: outcome.offset)


def instant_text(micros: int) -> st.SearchStrategy[str]:
    zones = st.sampled_from([UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=-5.5))])
    texts = zones.map(lambda zone: from_micros(micros).astimezone(zone).isoformat())
    return texts | texts.map(lambda text: text.replace("+00:00", "Z").replace("T", " "))


odd_values: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "x", 1, 0, -0.0, 1.5, True, [], {}, [1], 2**63, -(2**63), 2**64, 10**30, 1e308,
     "2013-03-01T00:00:00", "2013-02-30T00:00:00Z", "0001-01-01T00:00:00+10:00",
     "9999-12-31T23:59:59-01:00", "2013-03-01", float("nan"), float("inf"), "\ud800", "\x00",
     1357000000]
)  # fmt: skip


@st.composite
def payloads(draw: st.DrawFn, known: int) -> bytes:
    near = st.sampled_from([-30_000_001, -30_000_000, -1, 0, 1, 5_000_000, 5_000_001])
    event: dict[str, Any] = {
        "tap": draw(st.sampled_from(["a", "b", "c", "d", "e"])),
        "at": draw(instant_text(known + draw(near))),
        "amount": draw(st.sampled_from([1, 1.0, 2.5, -0.0, 0.0])),
    }
    if draw(st.booleans()):
        event["items"] = draw(st.none() | st.integers(0, 1))
    if draw(st.integers(0, 3)) == 0:
        field = draw(st.sampled_from([*Tap.schema.names(), "unknown"]))
        event[field] = draw(odd_values)
    if draw(st.integers(0, 9)) == 0:
        del event[draw(st.sampled_from(sorted(event)))]
    ordered = dict(draw(st.permutations(list(event.items()))))
    text = json.dumps(ordered, ensure_ascii=draw(st.booleans()))
    body = text.encode("utf-8", "surrogatepass" if "\ud800" not in text else "replace")
    return body[: draw(st.integers(0, len(body)))] if draw(st.integers(0, 19)) == 0 else body


@st.composite
def logs(draw: st.DrawFn) -> Records:
    steps = draw(st.lists(st.sampled_from([0, 1, SECOND, 29 * SECOND]), max_size=25))
    records, known = [], START
    for offset, step in enumerate(steps):
        known += step
        records.append((offset, known, draw(payloads(known))))
    return records


@settings(max_examples=300, deadline=None)
@given(records=logs(), cuts=st.lists(st.integers(1, 6), min_size=1))
def test_it_agrees_with_the_plain_twin_in_any_cut(records: Records, cuts: list[int]) -> None:
    expected = expected_outcomes(taps, records)
    store, outcomes, duplicates, begin = MemoryStore(), list[Outcome](), 0, 0
    for turn in range(len(records)):
        end = begin + cuts[turn % len(cuts)]
        taken = take(records[begin:end], store)
        assert taken.accepted == taken.events.height
        assert taken.too_late == taken.events["_too_late"].sum()
        assert taken.accepted + taken.duplicates + len(taken.rejected) == len(records[begin:end])
        outcomes += outcomes_of(taken)
        duplicates += taken.duplicates
        begin = end
    assert outcomes == [outcome for outcome in expected if outcome.verdict != "duplicate"]
    assert duplicates == sum(outcome.verdict == "duplicate" for outcome in expected)


@settings(max_examples=100, deadline=None)
@given(records=logs(), data=st.data())
def test_taking_again_after_a_crash_changes_nothing(records: Records, data: st.DataObject) -> None:
    whole = take(records, MemoryStore())
    kept, crash = MemoryStore(), data.draw(st.integers(0, len(records)))
    take(records[:crash], kept)
    for store in (kept, MemoryStore()):
        again = take(records, store)
        assert again.events.equals(whole.events)
        assert again.rejected == whole.rejected
        assert again.duplicates == whole.duplicates


@settings(max_examples=300, deadline=None)
@given(payload=st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8")))
@example(payload=b"")
@example(payload=b"null")
@example(payload=b"[" * 100_000)
@example(payload=b'{"tap":' + b"[" * 100_000)
@example(payload=b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
@example(payload=b'{"\xff":1}')
@example(payload=b'{"tap":"\xff"}')
@example(payload=b'{"tap":"\\ud800"}')
@example(payload=b'\xef\xbb\xbf{"tap":"a"}')
@example(payload=b'{"amount":1e999}')
@example(payload=b'{"amount":' + b"9" * 5_000 + b"}")
@example(payload=b'{"items":' + b"9" * 5_000 + b"}")
@example(payload=b'{"amount":NaN}')
@example(payload=b'{"at":"9999-12-31T23:59:59.9999999Z"}')
@example(payload=b'{"at":"2013-01-01T00:00:00.99999999999999999999Z"}')
def test_any_bytes_end_in_events_or_in_quarantine(payload: bytes) -> None:
    good = payload_of(tap="good")
    taken = take([(0, START, payload), (1, START, good)], MemoryStore())
    assert taken.events["_id"].to_list()[-1] == "good"
    assert taken.accepted + len(taken.rejected) == 2
    for letter in taken.rejected:
        assert letter.payload == payload
        assert letter.reason.partition(":")[0] in (
            "malformed", "missing_field", "invalid_field", "not_finite", "future"
        )  # fmt: skip
        assert letter.detail


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_broken_events_end_in_events_or_in_quarantine(data: st.DataObject) -> None:
    body = bytearray(data.draw(payloads(START)))
    for _ in range(data.draw(st.integers(0, 3)) if body else 0):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    taken = one(bytes(body))
    assert taken.accepted + len(taken.rejected) == 1


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        (payload_of(amount="1"), "invalid_field:amount", "Expected `float`, got `str`"),
        (payload_of(amount=True), "invalid_field:amount", "got `bool`"),
        (payload_of(items=1.5), "invalid_field:items", "got `float`"),
        (payload_of(items=2**63), "invalid_field:items", "<= 9223372036854775807"),
        (payload_of(at="2013-03-01T00:00:00"), "invalid_field:at", "timezone"),
        (payload_of(at="0001-01-01T00:00:00+10:00"), "invalid_field:at", "years 1 to 9999"),
        (payload_of(tap=""), "invalid_field:tap", "empty"),
        (payload_of(amount=None), "missing_field:amount", "a float is required"),
        (b'{"tap":"a"}', "missing_field:at", "missing_field:amount"),
        (payload_of(amount=float("nan")), "not_finite:amount", "NaN"),
        (payload_of(at="2013-03-01T00:00:05.000001Z"), "future", "5s1us ahead"),
        (b"[]", "malformed", "not an object"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "malformed", "nested too deeply"),
        (payload_of()[:-1], "malformed", "truncated"),
        (payload_of() + payload_of(), "malformed", "trailing characters"),
    ],
)
def test_a_refusal_says_why(payload: bytes, reason: str, detail: str) -> None:
    (letter,) = one(payload).rejected
    assert letter.reason == reason
    assert detail in letter.detail
    assert (letter.source, letter.offset, letter.known) == ("taps", 0, START)


def test_a_personal_value_is_never_in_the_detail() -> None:
    (letter,) = one(payload_of(amount="SECRET", note=["SECRET"])).rejected
    assert "SECRET" not in letter.detail
    assert letter.detail.count("invalid_field") == 2, "every fault is named"


def test_a_conflict_is_refused_and_the_first_stays() -> None:
    records = [(0, START, payload_of()), (1, START, payload_of(amount=2.0))]
    taken = take(records, MemoryStore())
    assert taken.events["amount"].to_list() == [1.0]
    assert [letter.reason for letter in taken.rejected] == ["conflict"]


def test_equal_content_is_a_duplicate_however_it_is_written() -> None:
    local = from_micros(START).astimezone(timezone(timedelta(hours=3))).isoformat()
    same = b'{"note": null, "amount": 1, "unknown": 7, "at": "%s", "tap": "a"}' % local.encode()
    taken = take([(0, START, payload_of()), (1, START, same)], MemoryStore())
    assert (taken.accepted, taken.duplicates) == (1, 1)


def test_sources_do_not_share_ids() -> None:
    other = hs.EventSource("others", Tap, event_id="tap", event_time="at")
    store = MemoryStore()
    assert take([(0, START, payload_of())], store).accepted == 1
    assert take([(5, START, payload_of(amount=2.0))], store, other).accepted == 1


def test_the_frame_has_the_declared_columns() -> None:
    for taken in (one(payload_of()), one(b"{"), take([], MemoryStore())):
        assert taken.events.schema == events_schema(taps)
    row = one(payload_of(at=from_micros(START + SECOND).isoformat())).events.row(0, named=True)
    assert row["at"] == from_micros(START + SECOND), "the field keeps its own value"
    assert row["_event_time"] == row["_known_time"] == from_micros(START), "clamped"
    assert row["_tie"] == event_tie("a")


def test_whole_numbers_are_ids_too() -> None:
    at = from_micros(START).isoformat()
    records = [(i, START, b'{"number": %d, "at": "%s"}' % (n, at.encode())) for i, n in
               enumerate([7, -(2**63), 7])]  # fmt: skip
    taken = take(records, MemoryStore(), counted)
    assert taken.events["_id"].to_list() == ["7", str(-(2**63))]
    assert taken.duplicates == 1


def test_revisions_are_refused_at_once() -> None:
    revised = hs.EventSource("taps", Tap, event_id="tap", event_time="at", revisions=True)
    with pytest.raises(DeclarationError, match="revisions=True, which this release cannot fold"):
        Intake(revised)


def test_a_large_batch_is_worked_on_in_slices() -> None:
    records = [(i, START + i, payload_of(tap=str(i % 20_000))) for i in range(20_001)]
    records[9_000] = (9_000, START + 9_000, b"{")
    taken = take(records, MemoryStore())
    assert taken.events["_offset"].to_list() == [i for i in range(20_000) if i != 9_000]
    assert (taken.accepted, taken.duplicates, taken.too_late) == (19_999, 1, 0)
    assert [letter.offset for letter in taken.rejected] == [9_000]
