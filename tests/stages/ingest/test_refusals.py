"""Records that nothing could read as JSON become dead letters with their own reason and bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.ingest.intake import Intake
from homeostat.ingest.log import LogBatch
from homeostat.ingest.refusals import REASONS, Refusal, refusal_of
from homeostat.ingest.wrapping import Beside
from homeostat.testing.memory_store import MemoryStore


class Tap(hs.Event):
    tap: str
    card: str
    items: int | None
    at: hs.Timestamp


TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at")
WHOLE = b'{"tap": "a", "card": "c", "at": "1970-01-01T00:00:00Z"}'


@given(
    reason=st.sampled_from(REASONS),
    detail=st.text(st.characters(codec="utf-8")),
    received=st.binary(),
)
def test_a_refusal_is_read_back(reason: str, detail: str, received: bytes) -> None:
    refusal = Refusal(reason, detail, received)
    assert refusal_of(refusal.record()) == refusal


@given(payload=st.binary() | st.binary().map(lambda rest: b"\x00refused\x00" + rest))
def test_other_bytes_are_no_refusal(payload: bytes) -> None:
    found = refusal_of(payload)
    assert found is None or found.reason in REASONS


def test_a_reason_that_nobody_counts_is_refused() -> None:
    with pytest.raises(hs.HomeostatError, match="allowed: undecodable"):
        Refusal("because", "", b"")


def test_the_intake_makes_a_dead_letter_and_goes_on() -> None:
    forged = b"\x00refused\x00" + json.dumps(["because", "x"]).encode() + b"\nabc"
    payloads = [Refusal("unknown_schema", "schema 9", b"\x00raw").record(), WHOLE, forged]
    batch = LogBatch("taps", np.arange(3), np.zeros(3, dtype=np.int64), payloads)
    with MemoryStore().writer() as seen:
        taken = Intake(TAPS).take(batch, seen)
    first, second = taken.rejected
    assert (first.reason, first.detail, first.payload) == ("unknown_schema", "schema 9", b"\x00raw")
    assert (second.reason, second.payload) == ("malformed", forged)
    assert taken.events["_id"].to_list() == ["a"]


def test_what_came_beside_a_payload_never_breaks_it() -> None:
    beside = Beside(Tap.schema)
    said = [("card", b'quo"te'), ("items", b"12")]
    assert json.loads(beside.add(b' { "tap" : 1}', said)) == {
        "card": 'quo"te', "items": 12, "tap": 1,
    }  # fmt: skip
    assert json.loads(beside.add(b"{ }", [("items", b"many")])) == {"items": "many"}
    assert json.loads(beside.add(b"{}", [("items", b"[1]")])) == {"items": "[1]"}
    for odd in (b"[1]", b"", b"x", b"\x00refused\x00"):
        assert beside.add(odd, said) == odd
    assert beside.add(b"{}", [("card", b"\xff"), ("items", None)]) == b"{}"


def test_a_header_that_is_nested_too_deeply_is_a_text() -> None:
    deep = b"[" * 100_000
    payload = Beside(Tap.schema).add(WHOLE, [("items", deep)])
    assert json.loads(payload)["items"] == deep.decode()
