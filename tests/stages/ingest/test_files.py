"""Files and frames arrive as the events they hold, known when the source says."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.ingest.files import FileInvalid, payloads_of
from homeostat.ingest.intake import Intake, Taken
from homeostat.ingest.log import LogBatch
from homeostat.testing.memory_store import MemoryStore


class Sale(hs.Event):
    sale: str
    at: hs.Timestamp
    amount: float
    items: int | None
    refund: bool | None
    booked_at: hs.Timestamp | None


sales = hs.EventSource("sales", Sale, event_id="sale", event_time="at", delay="1h", lateness="9d")
SECONDS = 1_000_000
HOUR = 3_600 * SECONDS


def instant(second: int) -> datetime:
    return datetime.fromtimestamp(second, tz=UTC)


def rows(*seconds: int) -> list[dict[str, Any]]:
    return [
        {"sale": f"s{i}", "at": instant(second), "amount": i / 3, "items": i, "refund": i % 2 == 0,
         "booked_at": None if i else instant(second)}
        for i, second in enumerate(seconds)
    ]  # fmt: skip


def all_of(data: object, known_time: int | str | None = None) -> tuple[list[int], list[bytes]]:
    known: list[int] = []
    payloads: list[bytes] = []
    for instants, some in payloads_of(sales, data, known_time):
        known += instants.tolist()
        payloads += some
    return known, payloads


def taken_from(data: object, known_time: int | str | None = None) -> Taken:
    known, payloads = all_of(data, known_time)
    batch = LogBatch("sales", np.arange(len(known)), np.array(known, dtype=np.int64), payloads)
    with MemoryStore().writer() as seen:
        return Intake(sales).take(batch, seen)


def write(path: Path, frame: pl.DataFrame) -> Path:
    text = frame.with_columns(pl.col("at", "booked_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ"))
    name = path.name.removesuffix(".gz")
    if name.endswith(".csv"):
        text.write_csv(path.with_name(name))
    elif name.endswith(".parquet"):
        frame.write_parquet(path.with_name(name))
    elif name.endswith(".arrow"):
        frame.write_ipc(path.with_name(name))
    else:
        text.write_ndjson(path.with_name(name))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.with_name(name).read_bytes()))
    return path


@pytest.mark.parametrize(
    "name", ["x.csv", "x.csv.gz", "x.ndjson", "x.jsonl.gz", "x.parquet", "x.arrow"]
)
def test_every_format_brings_the_same_events(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame(rows(30, 10, 20), schema_overrides={"booked_at": pl.Datetime("us", "UTC")})
    expected = taken_from(frame)
    assert expected.events.select(frame.columns).equals(frame[[1, 2, 0]])
    assert expected.events["_known_time"].dt.epoch("us").to_list() == [
        second * SECONDS + HOUR for second in (10, 20, 30)
    ]
    found = taken_from(write(tmp_path / name, frame))
    assert found.events.equals(expected.events)
    assert not found.rejected


def test_other_frames_are_taken_through_arrow() -> None:
    frame = pl.DataFrame(rows(1, 2))
    assert taken_from(frame.to_arrow()).events.equals(taken_from(frame).events)
    with pytest.raises(FileInvalid, match="a dict; allowed: a path, a Polars frame"):
        all_of({"sale": ["a"]})


def test_the_known_time_can_be_given() -> None:
    frame = pl.DataFrame(rows(2, 1)).with_columns(learned=pl.Series([instant(5), instant(9)]))
    assert all_of(frame, 77)[0] == [77, 77]
    assert all_of(frame, "learned")[0] == [5 * SECONDS, 9 * SECONDS]
    assert b"learned" not in b"".join(all_of(frame)[1]), "fields the event lacks are left out"
    with pytest.raises(FileInvalid, match="known_time='lerned' is no column"):
        all_of(frame, "lerned")


def test_a_declared_known_time_field_is_used() -> None:
    booked = hs.EventSource("sales", Sale, event_id="sale", event_time="at", known_time="at")
    known = [k.tolist() for k, _ in payloads_of(booked, pl.DataFrame(rows(3)))]
    assert known == [[3 * SECONDS]]


def test_nothing_is_known_before_its_time() -> None:
    latest = (20 + 3600) * SECONDS
    frame = pl.DataFrame(rows(4_000_000_000, 19, 22, 26, 5))  # of 2096; 2 s ahead; 6 s ahead
    found = [(k.tolist(), len(p)) for k, p in payloads_of(sales, frame, latest=latest)]
    before = 19 * SECONDS + HOUR
    # Of those ahead, what the clock's skew explains is known at last; the others with the one
    # before them in the order of their clocks.
    assert found == [([5 * SECONDS + HOUR, before, latest, latest, latest], 5)]
    early = pl.DataFrame(rows(4_000_000_000))
    assert [k.tolist() for k, _ in payloads_of(sales, early, latest=latest)] == [[latest]]
    column = frame.with_columns(learned=pl.Series([instant(s) for s in (1, 9, 4, 99, 7)]))
    (taken,) = payloads_of(sales, column, "learned", latest=10 * SECONDS)
    assert (taken[0] // SECONDS).tolist() == [1, 4, 7, 9, 9]
    with pytest.raises(FileInvalid, match="allowed: an instant that was"):
        list(payloads_of(sales, frame, latest + 1, latest))


def test_a_row_without_a_clock_takes_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    good = '{"sale":"%s","at":"1970-01-01T00:00:%02dZ","amount":1}'
    path.write_text("\n".join([good % ("a", 4), "{broken", "", good % ("b", 2), "[]"]))
    known, payloads = all_of(path)
    assert [k - HOUR for k in known] == [2 * SECONDS, 2 * SECONDS, 4 * SECONDS, 4 * SECONDS]
    assert [payload[:2] for payload in payloads] == [b'{"', b"[]", b'{"', b"{b"]
    path.write_text("nothing\nat all")
    assert all_of(path)[0] == [0, 0]
    path.write_text("")
    assert all_of(path) == ([], [])


def test_text_that_is_no_number_reaches_quarantine_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "sale,at,amount,items,refund,booked_at\n"
        "a,1970-01-01T00:00:00Z, 1.5 ,2,TRUE,\n"
        "b,1970-01-01T00:00:00Z,many,2,no,\n"
        "c,1970-01-01T00:00:00Z,1,2.5,,\n"
        "d,1970-01-01T00:00:00Z,1,2,perhaps,\n"
        "e,1970-01-01T00:00:00Z,,2,,\n"
        "f,1970-01-01 00:00:00,1,2,,\n"
        "g,1970-01-01T00:00:00Z,1,,,\n"
    )
    taken = taken_from(path)
    assert taken.events.select("sale", "amount", "items", "refund").rows() == [
        ("a", 1.5, 2, True), ("g", 1.0, None, None),
    ]  # fmt: skip
    assert [letter.reason for letter in taken.rejected] == [
        "invalid_field:amount", "invalid_field:items", "invalid_field:refund",
        "missing_field:amount", "invalid_field:at",
    ]  # fmt: skip
    assert json.loads(taken.rejected[0].payload)["amount"] == "many"


def test_missing_is_missing_and_infinite_is_refused() -> None:
    frame = pl.DataFrame(rows(1, 2, 3)).with_columns(
        amount=pl.Series([1.0, float("inf"), float("nan")]),
        items=pl.Series([float("nan"), 2.0, 2.0]),
    )
    taken = taken_from(frame)
    assert taken.events["items"].to_list() == [None]
    assert [letter.reason for letter in taken.rejected] == [
        "not_finite:amount", "missing_field:amount"
    ]  # fmt: skip


def test_a_decimal_is_the_integer_it_is() -> None:
    frame = pl.DataFrame(rows(1, 2, 3)).with_columns(
        items=pl.Series([Decimal(2**53 + 1), Decimal("2.5"), None], dtype=pl.Decimal(20, 1))
    )
    taken = taken_from(frame)
    assert taken.events["items"].to_list() == [2**53 + 1, None]
    assert [letter.reason for letter in taken.rejected] == ["invalid_field:items"]


class Mixed:
    """A table that cannot be one, as a pandas frame with a column of several kinds."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        raise TypeError("expected bytes, got a 'int' object")


def test_a_table_of_mixed_columns_is_refused_with_a_way_on() -> None:
    with pytest.raises(FileInvalid, match=r"no Arrow table .*: pandas' frame\.to_dict"):
        all_of(Mixed())


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path, text = tmp_path / "x.jsonl", json.dumps(rows(1)[0], default=str).encode()
    path.write_bytes(text)
    expected = all_of(path)
    path.write_bytes(b"\xef\xbb\xbf" + text + b"\n")
    assert all_of(path) == expected


def test_whole_mistakes_are_said_at_once(tmp_path: Path) -> None:
    frame = pl.DataFrame(rows(1))
    with pytest.raises(FileInvalid, match=r"no column 'amount'. Did you mean 'amuont'\?"):
        all_of(frame.rename({"amount": "amuont"}))
    with pytest.raises(FileInvalid, match="'at' has instants without a time zone"):
        all_of(frame.with_columns(pl.col("at").dt.replace_time_zone(None)))
    with pytest.raises(FileInvalid, match="'sale' is Binary; allowed: a string"):
        all_of(frame.with_columns(pl.col("sale").cast(pl.Binary)))
    with pytest.raises(FileInvalid, match=r"file 'x.xlsx'; allowed: .csv, .tsv"):
        all_of(tmp_path / "x.xlsx")
    (tmp_path / "x.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(FileInvalid, match=r"x.parquet: .*allowed: a parquet file"):
        all_of(tmp_path / "x.parquet")


def packed(part: bytes, codec: str) -> bytes:
    """One member of a compressed file."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(part)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_a_compressed_file_is_whole_or_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    path, frame = tmp_path / f"x{kind}{suffix}", pl.DataFrame(rows(*range(500)))
    plain = tmp_path / f"x{kind}"
    frame = frame.with_columns(pl.col("at").dt.to_string("iso:strict"))
    (frame.write_csv if kind == ".csv" else frame.write_ndjson)(plain)
    expected, codec = all_of(plain), {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}[suffix]
    halves = plain.read_bytes()[:5_000], plain.read_bytes()[5_000:]

    members = [packed(half, codec) for half in halves]
    path.write_bytes(b"".join(members))
    assert all_of(path) == expected  # one member after the other
    for damaged in (b"".join(members)[:-9], members[0][:-1], members[0][:40], b"", b"x" * 50):
        path.write_bytes(damaged)
        with pytest.raises(FileInvalid, match=rf"{path.name}: .*allowed: a whole {suffix} file"):
            all_of(path)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.tuples(
            st.text(min_size=1, max_size=8),
            st.floats(allow_nan=False, allow_infinity=False),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.booleans(),
            st.datetimes(min_value=datetime(1700, 1, 1), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001
        ),
        max_size=8,
        unique_by=lambda value: value[0],
    )
)
def test_any_frame_comes_through_unchanged(values: list[tuple[Any, ...]]) -> None:
    frame = pl.DataFrame(
        [(*value[:4], value[4].replace(tzinfo=UTC), None) for value in values],
        schema={
            "sale": pl.String, "amount": pl.Float64, "items": pl.Int64, "refund": pl.Boolean,
            "at": pl.Datetime("us", "UTC"), "booked_at": pl.Datetime("us", "UTC"),
        },
        orient="row",
    ).sort("at", maintain_order=True)  # fmt: skip
    taken = taken_from(frame)
    assert not taken.rejected
    assert taken.events.select(frame.columns).equals(frame)


@pytest.mark.parametrize("given", [None, 7])
@pytest.mark.parametrize("spoil", ["", "unordered", "no clock first", "no end"])
def test_a_long_file_is_read_by_blocks_like_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str, given: int | None
) -> None:
    lines = [json.dumps(row, default=str) for row in rows(*range(60))]
    lines.insert(9, "not JSON")
    if spoil == "unordered":
        lines.reverse()
    if spoil == "no clock first":
        lines = ["{}"] * 200 + lines
    path = tmp_path / "sales.jsonl"
    path.write_text("\n".join(lines) + ("" if spoil == "no end" else "\n\n"))
    whole = all_of(path, given)
    monkeypatch.setattr("homeostat.ingest.long_files.LONG", 0)
    monkeypatch.setattr("homeostat.ingest.lines._BLOCK", 300)
    assert all_of(path, given) == whole
    records = list(payloads_of(sales, path, given))
    assert (len(records) > 3) == (given is not None or spoil not in ("unordered", "no clock first"))
