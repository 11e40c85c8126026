"""Each element of a batch stands alone: beside any other it is the event, or the letter, it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import ManualClock
from homeostat.ingest.files import FileInvalid, payloads_of
from homeostat.ingest.intake import Intake, Taken
from homeostat.ingest.log import LogBatch
from homeostat.ingest.mappings import mapping_payload, mapping_payloads
from homeostat.ingest.push import BodyMalformed, Door, cut
from homeostat.ingest.rows import RowReader
from homeostat.testing.memory_store import MemoryStore


class Sale(hs.Event):
    sale: str
    at: hs.Timestamp
    amount: Annotated[float, hs.Alias("price")]
    items: int | None
    refund: bool | None
    note: str | None
    shop: str = "north"


SALES = hs.EventSource("sales", Sale, event_id="sale", event_time="at", lateness="520w")
NOW = 1_709_600_000_000_000
AT = datetime(2024, 3, 4, 9, tzinfo=UTC)


class Spiteful:
    """A value that answers nothing."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not you")

    def __hash__(self) -> int:
        return hash("note")

    def __repr__(self) -> str:
        raise RuntimeError("nor you")


class Torn(Mapping[str, Any]):
    """A mapping whose values cannot be had."""

    def __getitem__(self, key: str) -> Any:
        raise OSError("gone")

    def __iter__(self) -> Iterator[str]:
        return iter(("sale",))

    def __len__(self) -> int:
        return 1


class Size(Enum):
    SMALL = "small"


def deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


CYCLE: dict[str, Any] = {"sale": "cycle", "at": AT, "amount": 1.0}
CYCLE["note"] = CYCLE
LAST = datetime.max.replace(tzinfo=timezone(-timedelta(hours=23)))
ODD: list[Any] = [
    None, True, 0, -1, 2**53 + 1, 2**63, 2**200, 10**5000, 2.5, 3.0, float("nan"), float("inf"),
    -float("inf"), "", "x", "\ud800", "\ud83d\ude00", "2024-03-04T09:00:00Z", "2024-13-99",
    b"bytes", bytearray(b"x"), [], ["y", 1], {}, {"a": 1}, {1: 2}, (1,), {1, 2}, deep(50),
    deep(100_000), CYCLE, object(), Spiteful(), Size.SMALL, AT, AT.replace(tzinfo=None),
    AT.astimezone(timezone(timedelta(hours=-3, minutes=-30, seconds=-7))),
    AT.astimezone(ZoneInfo("Europe/Berlin")), LAST,
    date(2024, 3, 4), timedelta(seconds=1), Decimal("1.5"), Decimal("1e999999"), Decimal("sNaN"),
    Decimal("NaN"), UUID(int=7), np.float64(1.5), np.int64(7), np.float32("nan"), np.bool_(True),
    np.datetime64("2024-03-04"), range(3), lambda: 0, 1j, NotImplemented, msg := Exception("x"),
]  # fmt: skip
ELEMENTS: list[Any] = [
    None, 7, "text", [], [("sale", "a")], b"{}", object(), Spiteful(), Torn(), {}, CYCLE, {1: 2},
    {Spiteful(): 1, "sale": "h", "at": AT, "amount": 1.0}, float("nan"), {"sale": "h"}, deep(9),
]  # fmt: skip
assert str(msg)


def good(name: str, number: int) -> dict[str, Any]:
    more: list[dict[str, Any]] = [
        {},
        {"note": f'n "{number}"\n', "items": 2**53 + number},
        {"refund": number % 2 == 0},
    ]
    return {"sale": name, "at": AT + timedelta(seconds=number), "amount": number / 3,
            **more[number % 3]}  # fmt: skip


def taken(payloads: Sequence[bytes]) -> Taken:
    size = len(payloads)
    with MemoryStore().writer() as seen:
        batch = LogBatch("sales", np.arange(size), np.full(size, NOW), payloads)
        return Intake(SALES).take(batch, seen)


def events_of(found: Taken) -> pl.DataFrame:
    return found.events.drop("_offset")


def check_neighbours(payloads: Sequence[bytes], place: int) -> None:
    """The element at `place` is one event or one letter, and the others are what they are alone."""
    whole, alone = taken(payloads), taken(payloads[place : place + 1])
    others = taken([payload for number, payload in enumerate(payloads) if number != place])
    assert whole.accepted + len(whole.rejected) == len(payloads)
    assert others.accepted == len(payloads) - 1
    assert events_of(whole).filter(pl.col("_id").str.starts_with("g")).equals(events_of(others))
    for letter in whole.rejected:
        assert letter.offset == place
        assert letter.reason
        assert letter.detail
        assert letter.payload
    assert [x.reason for x in whole.rejected] == [x.reason for x in alone.rejected]
    assert not alone.accepted or events_of(alone)["sale"].to_list() == [
        name for name in events_of(whole)["sale"] if not name.startswith("g")
    ]


HOSTILE: list[Any] = [
    *ELEMENTS,
    *(
        {"sale": "h", "at": AT, "amount": 1.0, field: value}
        for field in (*Sale.schema.names(), "price", "unknown")
        for value in ODD
    ),
    *({k: v for k, v in good("h", 1).items() if k != field} for field in Sale.schema.names()),
]


def test_a_hostile_element_of_a_list_harms_no_other() -> None:
    rows = [good(f"g{number}", number) for number in range(3)]
    without = mapping_payloads(SALES, rows)
    for number, element in enumerate(HOSTILE):
        place = number % 4
        batch = [*rows[:place], element, *rows[place:]]
        payloads = mapping_payloads(SALES, batch)
        assert [*payloads[:place], *payloads[place + 1 :]] == without
        together = taken(payloads)
        by_itself = taken([mapping_payload(SALES, at, each) for at, each in enumerate(batch)])
        assert together.events.equals(by_itself.events)
        assert [(x.offset, x.reason, x.detail) for x in together.rejected] == [
            (x.offset, x.reason, x.detail) for x in by_itself.rejected
        ]
        check_neighbours(payloads, place)


@pytest.mark.parametrize(
    ("field", "value", "held"),
    [
        ("items", 3.0, 3), ("items", 2**63 - 1, 2**63 - 1), ("items", float("nan"), None),
        ("items", np.int64(7), 7), ("items", Decimal("4.00"), 4), ("items", None, None),
        ("amount", 2**200, float(2**200)), ("amount", Decimal("1.5"), 1.5),
        ("amount", np.float32(0.5), 0.5), ("note", Size.SMALL, "small"),
        ("note", "\U0001f600", "\U0001f600"),
        ("note", UUID(int=7), str(UUID(int=7))), ("shop", None, "north"), ("refund", True, True),
        ("at", AT.astimezone(timezone(timedelta(hours=5, seconds=1))), AT),
        ("at", AT.astimezone(ZoneInfo("Asia/Tokyo")), AT), ("at", "2024-03-04T10:00:00+01:00", AT),
    ],
)  # fmt: skip
def test_what_a_value_becomes(field: str, value: Any, held: Any) -> None:
    row = {**good("h", 0), field: value}
    found = taken(mapping_payloads(SALES, [row, good("g", 1)]))
    assert not found.rejected
    assert found.events.filter(pl.col("sale") == "h")[field].to_list() == [held]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("note", ["y"], "invalid_field:note"), ("note", b"y", "malformed"),
        ("note", 1, "invalid_field:note"),
        ("note", "\ud800", "invalid_field:note"), ("items", 2.5, "invalid_field:items"),
        ("items", 2**63, "invalid_field:items"), ("amount", "1.5", "invalid_field:amount"),
        ("amount", float("inf"), "not_finite:amount"), ("amount", None, "missing_field:amount"),
        ("amount", float("nan"), "missing_field:amount"), ("refund", 1, "invalid_field:refund"),
        ("at", AT.replace(tzinfo=None), "invalid_field:at"),
        ("at", date(2024, 3, 4), "invalid_field:at"),
        ("sale", 7, "invalid_field:sale"), ("items", True, "invalid_field:items"),
    ],
)  # fmt: skip
def test_why_a_value_is_refused(field: str, value: Any, reason: str) -> None:
    row = {**good("h", 0), field: value}
    for batch in ([row], [good("g", 1), row], [{**good("g", 2), field: value}, row]):
        letters = taken(mapping_payloads(SALES, batch)).rejected
        assert {letter.reason for letter in letters} == {reason}
        assert len(letters) == sum(each.get(field) is value for each in batch)


def test_a_letter_says_which_element_it_was() -> None:
    (letter,) = taken(mapping_payloads(SALES, [good("g", 1), 7])).rejected
    assert (letter.reason, letter.payload) == ("malformed", b"7")
    assert letter.detail == "element 1 of the list: a int, and no mapping"


def test_each_mapping_says_when_it_was_known() -> None:
    rows = [{**good(f"g{i}", i), "learned": AT + timedelta(days=i)} for i in (2, 0, 1)]
    rows.insert(1, {**good("h", 9), "learned": "yesterday"})
    ((known, payloads),) = payloads_of(SALES, rows, "learned")
    assert [json.loads(p)["sale"] if p[:1] == b"{" else "letter" for p in payloads] == [
        "g0", "g1", "g2", "letter",
    ]  # fmt: skip
    assert np.diff(known // 86_400_000_000).tolist() == [1, 1, 0]
    with pytest.raises(FileInvalid, match="known_time='lerned', and no element has a datetime"):
        list(payloads_of(SALES, rows, "lerned"))
    assert list(payloads_of(SALES, [], "lerned")) == []


def test_the_home_takes_the_others(tmp_path: Path) -> None:
    system = hs.System("shop", sources=(SALES,))
    rows = [good("g1", 1), *ELEMENTS, good("g2", 2)]
    with hs.open(system, tmp_path / "home", ManualClock(NOW)) as app:
        counts = app.ingest("sales", rows)
        found = app.sql("select sale, items from sales where sale like 'g%' order by 1").rows()
    assert found == [("g1", 2**53 + 1), ("g2", None)]
    assert counts.accepted + counts.duplicates + counts.rejected == len(rows)


@settings(max_examples=150, deadline=None)
@given(value=st.sampled_from(ODD), column=st.sampled_from(["items", "note", "amount", "at"]))
def test_a_hostile_row_of_a_database_harms_no_other(value: Any, column: str) -> None:
    reader = RowReader(SALES, ("sale", "at", "amount", "items", "note"), ZoneInfo("UTC"))
    rows = [("g1", AT, 1.0, 2**53 + 1, "x"), ["h", AT, 1.0, 1, "y"], ("g2", AT, 2.5, None, None)]
    rows[1][reader.place(column)] = value  # type: ignore[index]
    check_neighbours([reader.payload(row) for row in rows], 1)


DEEP = b'{"note": ' + b"[" * 9_000 + b"]" * 9_000 + b"}"
BROKEN = [
    b'{"sale": "h", "amount": NaN}', b'{"sale": "\\ud800"}', DEEP,
    b"tru", b"{1: 2}", b'{"sale"}', b'"\xff"', b"{]", b'{"a": "],["} x', b"01", b"{}", b"[[]]",
]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(element=st.sampled_from(BROKEN), before=st.integers(0, 2), after=st.integers(0, 2))
def test_a_hostile_value_of_a_pushed_list_harms_no_other(
    element: bytes, before: int, after: int
) -> None:
    rows = [
        json.dumps({**good(f"g{i}", i), "at": "2024-03-04T09:00:00Z", "note": '],"[{'}).encode()
        for i in range(before + after)
    ]
    parts = [*rows[:before], element, *rows[before:]]
    events = cut("sales", b" [" + b" ,\n".join(parts) + b"]\n")
    assert events == parts
    judged = Door(SALES).judge(events)
    assert judged.accepted == rows
    assert [rejected.index for rejected in judged.rejected] == [before]


@pytest.mark.parametrize(
    "body",
    [b"[1, 2", b'[{"a": "x]', b"[1,,NaN]", b"[NaN,]", b"[NaN]]", b"[NaN] 1", b"[{NaN]", b"[,]"],
)  # fmt: skip
def test_a_list_whose_end_is_not_its_own_is_refused_whole(body: bytes) -> None:
    with pytest.raises(BodyMalformed):
        cut("sales", body)
