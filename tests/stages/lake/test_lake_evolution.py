"""A table holds rows of all versions of its schema, and answers under the present one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.core.errors import UnknownName
from homeostat.declare.schema import EventSchema, Field
from homeostat.ingest.columns import DTYPES
from homeostat.lake.evolved import Evolved
from homeostat.lake.sql import query
from homeostat.lake.tables import Lake, LakeMismatch

DAY = datetime(2013, 1, 1, tzinfo=UTC)
LATER = datetime(2013, 5, 1, tzinfo=UTC)

FIRST = EventSchema(
    "Tap",
    (
        Field("items", "integer"),
        Field("shop", "string", nullable=True),
        Field("obsolete", "boolean"),
    ),
)
SECOND = EventSchema(
    "Tap",
    (
        Field("items", "float"),
        Field("merchant", "string", nullable=True, aliases=("shop",)),
        Field("currency", "string", default="O'EUR"),
        Field("rate", "float", nullable=True, default=0.1),
        Field("seen_at", "timestamp", default="2013-05-01T00:00:00Z"),
        Field("is_refund", "boolean", default=False),
        Field("note", "string", nullable=True),
    ),
)
OLD: list[dict[str, Any]] = [
    {"items": 1, "shop": "a", "obsolete": True},
    {"items": 2, "shop": None, "obsolete": False},
]
NEW: list[dict[str, Any]] = [
    {"items": 1.5, "merchant": None, "currency": "USD", "rate": None, "seen_at": DAY,
     "is_refund": True, "note": "n"},
    {"items": 2.5, "merchant": "b", "currency": "O'EUR", "rate": 0.2, "seen_at": LATER,
     "is_refund": False, "note": None},
]  # fmt: skip
FILLED = {"currency": "O'EUR", "rate": 0.1, "seen_at": LATER, "is_refund": False, "note": None}
EXPECTED = [
    {"items": 1.0, "merchant": "a", **FILLED},
    {"items": 2.0, "merchant": None, **FILLED},
    *NEW,
]


def lake(folder: Path, schema: EventSchema) -> Lake:
    return Lake(folder, {}, {"taps": schema})


def frame(schema: EventSchema, rows: Sequence[dict[str, Any]], first: int) -> pl.DataFrame:
    fields = {field.name: DTYPES[field.kind] for field in schema.fields}
    offsets = range(first, first + len(rows))
    return pl.DataFrame(rows, schema=fields).with_columns(
        pl.Series("_offset", offsets, dtype=pl.Int64),
        pl.Series("_known_time", [DAY + timedelta(days=i) for i in offsets]).cast(
            pl.Datetime("us", "UTC")
        ),
    )


def append(found: Lake, schema: EventSchema, rows: Sequence[dict[str, Any]], first: int) -> bool:
    last = first + len(rows) - 1
    return found.append("taps", frame(schema, rows, first), "fold", last)


def fields_of(found: pl.DataFrame, schema: EventSchema) -> list[dict[str, Any]]:
    return found.select(schema.names()).to_dicts()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert append(lake(tmp_path, FIRST), FIRST, OLD, 0)
    return tmp_path


def test_rows_from_before_are_read_before_anything_is_written(folder: Path) -> None:
    found = lake(folder, SECOND)
    assert fields_of(found.read("taps"), SECOND) == EXPECTED[:2]
    assert found.read("taps").columns == [*SECOND.names(), "_offset", "_known_time"]
    assert found.schema("taps") == found.read("taps").schema
    assert found.version("taps") == 0


def test_rows_of_both_versions_are_read(folder: Path) -> None:
    found = lake(folder, SECOND)
    assert append(found, SECOND, NEW, 2)
    assert not append(found, SECOND, NEW, 2), "exactly once, also after rewriting"
    assert fields_of(found.read("taps"), SECOND) == EXPECTED
    assert found.read("taps").schema == frame(SECOND, NEW, 2).schema
    found.compact("taps")
    assert fields_of(found.read("taps"), SECOND) == EXPECTED
    assert fields_of(lake(folder, SECOND).read("taps"), SECOND) == EXPECTED


def test_a_filter_on_time_sees_the_same_rows(folder: Path) -> None:
    found = lake(folder, SECOND)
    append(found, SECOND, NEW, 2)
    second = int((DAY + timedelta(days=1)).timestamp()) * 1_000_000
    assert fields_of(found.read("taps", known_from=second), SECOND) == EXPECTED[1:]
    assert fields_of(found.read("taps", known_before=second), SECOND) == EXPECTED[:1]
    nothing = found.read("taps", ["merchant", "rate"], known_before=0)
    assert nothing.schema == {"merchant": pl.String(), "rate": pl.Float64()}


def test_a_version_of_before_stays_as_it_was(folder: Path) -> None:
    found = lake(folder, SECOND)
    append(found, SECOND, NEW, 2)
    assert fields_of(found.read("taps", version=0), SECOND) == EXPECTED[:2]
    as_stored = Lake(folder).read("taps", version=0)
    assert as_stored.select("items", "shop", "obsolete").to_dicts() == OLD


def test_a_field_that_is_gone_can_still_be_asked_for(folder: Path) -> None:
    found = lake(folder, SECOND)
    append(found, SECOND, NEW, 2)
    assert found.read("taps", ["obsolete"])["obsolete"].to_list() == [True, False, None, None]
    with pytest.raises(UnknownName, match=r"no column named 'merchnt'. Did you mean 'merchant'"):
        found.read("taps", ["merchnt"])


def test_sql_answers_the_same(folder: Path) -> None:
    for found in (lake(folder, SECOND), lake(folder, SECOND)):
        answer = query(found, "SELECT * FROM taps ORDER BY _offset")
        assert answer.drop("_day").select(found.read("taps").columns).equals(found.read("taps"))
        known = query(found, "SELECT merchant FROM taps_known_at(TIMESTAMPTZ '2013-01-02')")
        assert known.to_dicts() == [{"merchant": "a"}]
        assert {"obsolete", "shop"} <= set(answer.columns)
        append(found, SECOND, NEW, 2)


def test_sql_has_a_column_that_no_file_has_yet(folder: Path) -> None:
    found = lake(folder, SECOND)
    found.append("taps", frame(SECOND, [], 2), "fold", 2)
    assert query(found, "SELECT note, merchant FROM taps ORDER BY _offset").rows() == [
        (None, "a"), (None, None),
    ]  # fmt: skip


def test_a_table_is_rewritten_once_and_only_for_what_needs_it(folder: Path) -> None:
    found = lake(folder, SECOND)
    assert found.evolve("taps") == ("items", "rate")
    assert found.version("taps") == 1
    assert found.evolve("taps") == ()
    assert found.application_version("taps", "fold") == 1
    assert fields_of(found.read("taps"), SECOND) == EXPECTED[:2]
    append(found, SECOND, NEW, 2)
    assert found.version("taps") == 2
    assert Lake(folder).schema("taps")["items"] == pl.Float64
    renamed = EventSchema("Tap", (*SECOND.fields[1:], Field("number", "float", aliases=("items",))))
    assert lake(folder, renamed).evolve("taps") == ()


def test_a_table_without_an_event_schema_is_as_it_is_stored(folder: Path) -> None:
    found = Lake(folder)
    assert found.evolve("taps") == ()
    assert found.evolved("taps") is None
    assert found.conflicts("taps") == ()
    assert found.read("taps").columns == ["items", "shop", "obsolete", "_offset", "_known_time"]


def test_a_table_that_is_not_there_yet_has_nothing_to_change(tmp_path: Path) -> None:
    found = lake(tmp_path, SECOND)
    assert (found.evolve("taps"), found.conflicts("taps"), found.evolved("taps")) == ((), (), None)


def test_what_a_table_cannot_hold_is_said_before_and_refused_after(folder: Path) -> None:
    odd = EventSchema("Tap", (Field("items", "string"), Field("shop", "string")))
    found = lake(folder, odd)
    [conflict] = found.conflicts("taps")
    assert (conflict.field, conflict.direction) == ("items", "lake")
    assert "the lake holds Int64 under that name, which is no string" in str(conflict)
    assert "give the field another name" in str(conflict)
    with pytest.raises(LakeMismatch, match=r"column 'items' is Int64.*give the field another name"):
        found.read("taps")
    with pytest.raises(LakeMismatch, match="column 'items' is Int64"):
        append(found, odd, [{"items": "x", "shop": "y"}], 2)
    assert found.version("taps") == 0
    assert lake(folder, FIRST).conflicts("taps") == ()


def test_an_old_writer_is_refused_after_the_table_was_widened(folder: Path) -> None:
    assert lake(folder, SECOND).evolve("taps")
    with pytest.raises(LakeMismatch, match="column 'items' is Float64"):
        append(lake(folder, FIRST), FIRST, OLD, 2)


columns = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([pl.Int64, pl.Float64]),
        st.sampled_from([[1, None], [None, 2], [3, 4]]),
    ),
    unique_by=lambda column: column[0],
)


@given(columns, st.none() | st.just(7.0), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_column_is_the_first_value_under_its_names(
    stored: list[tuple[str, Any, list[int | None]]],
    default: float | None,
    is_nullable: bool,
    is_renamed: bool,
) -> None:
    aliases = ("b", "c") if is_renamed else ()
    field = Field("a", "float", is_nullable, default=default, aliases=aliases)
    held_columns = {name: pl.Series(values, dtype=kind) for name, kind, values in stored}
    rows = pl.DataFrame({"_offset": [0, 1], **held_columns})
    evolved = Evolved(rows.schema, EventSchema("E", (field,)))
    found = rows.select(map(evolved.expression, evolved.schema()))["a"]
    held = {name: values for name, _, values in stored if name in ("a", *aliases)}
    for i in range(2):
        values = [held[name][i] for name in ("a", *aliases) if name in held]
        # An optional field that is stored has its own missing values.
        filler = None if is_nullable and held else default
        assert found[i] == next((value for value in values if value is not None), filler)
    assert found.dtype == pl.Float64
