"""Events of earlier schemas are read under the present one: from payloads, files and memory."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import from_micros, to_micros
from homeostat.ingest.columns import events_schema
from homeostat.ingest.decode import PayloadDecoder
from homeostat.ingest.files import FileInvalid, payloads_of
from homeostat.ingest.intake import Intake, Taken
from homeostat.ingest.log import LogBatch
from homeostat.testing.intake_oracle import Outcome, expected_outcomes
from homeostat.testing.memory_store import MemoryStore

START = to_micros(datetime(2013, 3, 1, tzinfo=UTC))
AT = from_micros(START).isoformat()
NEW_YEAR = datetime(2013, 1, 1, tzinfo=UTC)


class Tap(hs.Event):
    """The first version."""

    tap: str
    at: hs.Timestamp
    items: int
    terminal: str
    person: str | None
    obsolete: str


class Tap2(hs.Event):
    """Two fields renamed, one wider, one gone, and the new ones optional."""

    tap: str
    at: hs.Timestamp
    items: float
    reader: Annotated[str, hs.Alias("terminal"), hs.Alias("gate")]
    holder: Annotated[str | None, hs.Alias("person")]
    currency: str = "EUR"
    amount: Annotated[float, hs.Alias("price")] = 2.5
    rate: float | None = 0.5
    seen_at: hs.Timestamp = NEW_YEAR
    note: str | None


def source(event: type[hs.Event]) -> hs.EventSource:
    return hs.EventSource("taps", event, event_id="tap", event_time="at", lateness="30s")


taps, taps2 = source(Tap), source(Tap2)

OLD = {"tap": "a", "at": AT, "items": 3, "terminal": "t1", "person": "p", "obsolete": "x"}


def payload(*parts: dict[str, Any], **changes: Any) -> bytes:
    whole: dict[str, Any] = {}
    for part in (*parts, changes):
        whole |= part
    return json.dumps(whole).encode()


def take(intake: Intake, store: MemoryStore, *payloads: bytes, first: int = 0) -> Taken:
    places = np.arange(first, first + len(payloads), dtype=np.int64)
    with store.writer() as seen:
        known = np.full(len(payloads), START, dtype=np.int64)
        return intake.take(LogBatch("taps", places, known, list(payloads)), seen)


def test_an_old_event_has_the_present_columns() -> None:
    taken = take(Intake(taps2), MemoryStore(), payload(OLD))
    assert taken.events.schema == events_schema(taps2)
    row = taken.events.row(0, named=True)
    assert {name: row[name] for name in Tap2.schema.names()} == {
        "tap": "a", "at": from_micros(START), "items": 3.0, "reader": "t1", "holder": "p",
        "currency": "EUR", "amount": 2.5, "rate": 0.5, "seen_at": NEW_YEAR, "note": None,
    }  # fmt: skip


NEW = {"tap": "a", "at": AT, "items": 1.5, "reader": "r"}


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        (payload(NEW), "reader", "r"),
        (payload(NEW, terminal="t"), "reader", "r"),
        (payload(NEW, price=7), "amount", 7.0),
        (payload(NEW, price=7, amount=3), "amount", 3.0),
        (payload(NEW, price=7, amount=2.5), "amount", 7.0),
        (payload(NEW, person="p"), "holder", "p"),
        (payload(NEW, person="p", holder=None), "holder", "p"),
        (payload(NEW, person=None, holder="h"), "holder", "h"),
        (payload(NEW, rate=None), "rate", None),
        (payload(NEW, rate=0.5), "rate", 0.5),
        (payload({"tap": "a", "at": AT, "items": 1, "gate": "g"}), "reader", "g"),
        (payload({"tap": "a", "at": AT, "items": 1, "gate": "g", "terminal": "t"}), "reader", "t"),
    ],
)
def test_a_value_is_found_under_its_names(given: bytes, field: str, expected: Any) -> None:
    [row] = PayloadDecoder(Tap2.schema).decode([given]).rows
    assert getattr(row, field) == expected


@pytest.mark.parametrize(
    ("given", "reason", "detail"),
    [
        (payload({"tap": "a", "at": AT, "items": 1}), "missing_field:reader", "a string"),
        (payload(NEW, reader=None), "missing_field:reader", "a string is required"),
        (payload(NEW, terminal=None), "missing_field:reader", "a string is required"),
        (payload(NEW, terminal=5), "invalid_field:reader", "got `int`"),
        (payload(NEW, currency=None), "missing_field:currency", "a string is required"),
        (payload(NEW, price="7"), "invalid_field:amount", "got `str`"),
        (payload(NEW, seen_at="9999-12-31T23:59:59-01:00"), "invalid_field:seen_at", "9999"),
        (payload({"at": AT}), "missing_field:tap", "missing_field:reader"),
    ],
)
def test_a_refusal_names_the_present_field(given: bytes, reason: str, detail: str) -> None:
    found = PayloadDecoder(Tap2.schema).decode([payload(NEW), given, payload(OLD)])
    assert [(fault.place, fault.reason) for fault in found.faults] == [(1, reason)]
    assert detail in found.faults[0].detail
    assert [row.reader for row in found.rows] == ["r", "t1"]
    assert list(found.places) == [0, 2]


def test_an_event_has_one_canonical_text_however_it_is_said() -> None:
    decoder = PayloadDecoder(Tap2.schema)
    said = [
        payload(NEW),
        payload({**NEW, "reader": "r", "gate": "z"}),
        payload(NEW, currency="EUR", amount=2.5, rate=0.5, note=None, person=None),
        payload(NEW, seen_at="2013-01-01T02:00:00+02:00", obsolete=1),
        payload({"terminal": "r", "items": 1.5, "at": AT, "tap": "a"}),
    ]
    assert len(set(decoder.canonical(decoder.decode(said).rows))) == 1
    others = [payload(NEW, rate=None), payload(NEW, amount=-2.5), payload(NEW, currency="")]
    assert len(set(decoder.canonical(decoder.decode([*said, *others]).rows))) == 4


def test_minus_zero_is_not_the_default_zero() -> None:
    class Sum(hs.Event):
        amount: float = 0.0

    decoder = PayloadDecoder(Sum.schema)
    found = decoder.canonical(decoder.decode([b"{}", b'{"amount":0}', b'{"amount":-0.0}']).rows)
    assert found == [b"{}", b"{}", b'{"amount":-0.0}']


names = st.sampled_from(
    ["items", "reader", "terminal", "gate", "holder", "person", "currency", "amount", "price",
     "rate", "note"]
)  # fmt: skip
odd: st.SearchStrategy[Any] = st.sampled_from([None, "x", "EUR", "", 1, 2.5, 0.5, -0.0, True, []])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.dictionaries(names, odd)), max_size=6))
def test_it_agrees_with_the_plain_twin(events: list[tuple[str, dict[str, Any]]]) -> None:
    bases = ({"items": 1, "terminal": "t"}, {"items": 2.5, "reader": "r"})
    payloads = [
        payload({"tap": tap, "at": AT}, bases[i % 2], changes)
        for i, (tap, changes) in enumerate(events)
    ]
    taken = take(Intake(taps2), MemoryStore(), *payloads)
    found = [Outcome(offset, "accepted", START) for offset in taken.events["_offset"]]
    found += [Outcome(letter.offset, letter.reason) for letter in taken.rejected]
    expected = expected_outcomes(taps2, [(i, START, p) for i, p in enumerate(payloads)])
    found += [outcome for outcome in expected if outcome.verdict == "duplicate"]
    assert sorted(found, key=lambda outcome: outcome.offset) == expected
    assert taken.duplicates == sum(outcome.verdict == "duplicate" for outcome in expected)


def test_an_event_from_before_is_a_duplicate_after() -> None:
    store = MemoryStore()
    assert take(Intake(taps), store, payload(OLD)).accepted == 1
    plain = take(Intake(taps2), store, payload(OLD), first=1)
    assert [letter.reason for letter in plain.rejected] == ["conflict"]
    knows = Intake(taps2, earlier=[Tap.schema])
    for said in (payload(OLD), payload(OLD, unknown=1)):
        assert take(knows, store, said, first=2).duplicates == 1
    for other in (
        payload(OLD, items=4),
        payload(OLD, obsolete="y"),
        payload(OLD, currency="USD"),
        payload(OLD, rate=None),
        payload(OLD, reader="r2"),
        payload({**OLD, "terminal": "t2"}),
        payload(NEW),
    ):
        assert [x.reason for x in take(knows, store, other, first=3).rejected] == ["conflict"]


def test_a_batch_taken_again_under_a_later_schema_accepts_the_same_rows() -> None:
    """What a worker does that was killed, and came back with another system."""
    store = MemoryStore()
    payloads = [payload(OLD), payload(OLD, tap="b"), payload(OLD)]
    before = take(Intake(taps), store, *payloads)
    after = take(Intake(taps2, earlier=[Tap.schema]), store, *payloads)
    assert after.events["_offset"].to_list() == before.events["_offset"].to_list() == [0, 1]
    assert after.duplicates == before.duplicates == 1


def rows_of(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [json.loads(body) for _, payloads in payloads_of(taps2, frame) for body in payloads]


def test_a_table_with_earlier_names_and_empty_cells() -> None:
    frame = pl.DataFrame(
        {
            "tap": ["a", "b", "c"],
            "at": [AT] * 3,
            "items": [1, 2, 3],
            "terminal": ["t", "u", "v"],
            "currency": [None, "USD", None],
            "amount": [1, None, 3],
            "rate": [None, 0.25, None],
            "seen_at": pl.Series([None, NEW_YEAR, None], dtype=pl.Datetime("us", "UTC")),
        }
    )
    found = rows_of(frame)
    assert [row["reader"] for row in found] == ["t", "u", "v"]
    assert [row["currency"] for row in found] == ["EUR", "USD", "EUR"]
    assert [row["amount"] for row in found] == [1.0, 2.5, 3.0]
    assert [row["rate"] for row in found] == [None, 0.25, None]
    taken = take(Intake(taps2), MemoryStore(), *[json.dumps(row).encode() for row in found])
    assert taken.accepted == 3
    assert taken.events["seen_at"].to_list() == [NEW_YEAR] * 3


def test_the_present_name_of_a_column_counts() -> None:
    both = {"tap": ["a"], "at": [AT], "items": [1], "reader": ["r"], "terminal": ["t"]}
    assert rows_of(pl.DataFrame(both))[0] == {
        "tap": "a", "at": AT, "items": 1, "reader": "r",
    }  # fmt: skip


def test_a_column_whose_cells_are_of_another_kind_is_not_filled() -> None:
    frame = pl.DataFrame(
        {"tap": ["a", "b"], "at": [AT] * 2, "items": [1, 2], "reader": ["r"] * 2,
         "amount": ["x", None]}
    )  # fmt: skip
    assert [row["amount"] for row in rows_of(frame)] == ["x", None]


def test_a_required_column_is_still_required() -> None:
    with pytest.raises(FileInvalid, match="allowed: all of tap, at, items, reader; "):
        rows_of(pl.DataFrame({"tap": ["a"], "at": [AT], "items": [1]}))
