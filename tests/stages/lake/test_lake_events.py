"""A table read in parts: in the order of its log, only what is asked for, under today's schema."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from pyarrow import parquet

from homeostat.core.clock import to_micros
from homeostat.declare.schema import EventSchema, Field
from homeostat.lake.events import LakeEvents, Span
from homeostat.lake.tables import Lake, LakeMismatch

DAY = datetime(2013, 1, 1, tzinfo=UTC)


def frame(first: int, rows: int, **columns: object) -> pl.DataFrame:
    """Return events with offsets from `first` on, an hour apart."""
    offsets = range(first, first + rows)
    return pl.DataFrame(
        {
            "_offset": offsets,
            "_known_time": [DAY + timedelta(hours=n, microseconds=n) for n in offsets],
            "x": [float(n) for n in offsets],
            **columns,
        }
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Return a lake of 300 events over 13 days, appended ten at a time."""
    found = Lake(tmp_path)
    for first in range(0, 300, 10):
        found.append("taps", frame(first, 10), "fold", first)
    return found


def everything(events: LakeEvents, columns: list[str]) -> pl.DataFrame:
    return pl.concat([events.read(part, columns) for part in events.parts])


@pytest.mark.parametrize("part", [1, 25, 10_000])
@pytest.mark.parametrize("compacted", [False, True])
def test_parts_are_the_log(
    lake: Lake, part: int, compacted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compacted:  # by somebody else
        DeltaTable(str(lake.folder / "taps")).optimize.compact()
        stored = [pl.read_parquet(file)["_offset"] for file in lake.files("taps")]
        assert not all(offsets.is_sorted() for offsets in stored), "compaction disorders rows"
    monkeypatch.setattr("homeostat.lake.events.PART", part)
    events = lake.events("taps")
    assert everything(events, ["x", "_offset"]).equals(lake.read("taps", ["x", "_offset"]))
    ends = [(p.start, p.stop) for p in events.parts]
    assert [begin for begin, _ in ends] == [0, *(end for _, end in ends[:-1])]
    assert (events.rows, ends[-1][1], set(events.files)) == (300, 300, set(lake.files("taps")))
    if part == 10_000:
        assert len(ends) == 1
    if part == 25:
        assert len(ends) > 10


def test_overlapping_files_are_read_together(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homeostat.lake.events.PART", 1)
    odd, even = (frame(300, 24).gather_every(2, offset) for offset in (1, 0))
    lake.append("taps", odd, "other", 1)
    lake.append("taps", even, "other", 2)
    events = lake.events("taps")
    assert everything(events, ["_offset"])["_offset"].to_list() == list(range(324))


def test_only_files_of_the_span_are_opened(lake: Lake) -> None:
    begin, end = (to_micros(DAY + timedelta(days=days)) for days in (5, 7))
    events = lake.events("taps", Span(begin, end))
    offsets = everything(events, ["_offset"])["_offset"].to_list()
    assert {n for n in range(300) if 5 * 24 <= n < 7 * 24} <= set(offsets)
    assert offsets == list(range(offsets[0], offsets[-1] + 1))
    assert len(offsets) <= 2 * 24 + 20, "at most the rest of the first and last file"
    for file in set(lake.files("taps")) - set(events.files):
        Path(file).unlink()
    again = lake.events("taps", Span(begin, end))
    assert everything(again, ["_offset"])["_offset"].to_list() == offsets
    Path(events.files[0]).unlink()
    with pytest.raises(FileNotFoundError):
        lake.events("taps", Span(begin, end))


def test_sizes_are_those_of_the_files(lake: Lake) -> None:
    events = lake.events("taps")
    stored = 0
    for file in lake.files("taps"):
        group = parquet.read_metadata(file).row_group(0)
        columns = [group.column(n) for n in range(group.num_columns)]
        stored += sum(c.total_compressed_size for c in columns if c.path_in_schema != "_known_time")
    assert events.size(["x"]) == stored  # the offsets are read with it
    assert events.size(["x", "_known_time"]) > stored


def test_a_version_is_read_as_it_was(lake: Lake) -> None:
    events = lake.events("taps", version=4)
    assert everything(events, ["_offset"])["_offset"].to_list() == list(range(50))
    assert (events.version, lake.events("taps").version) == (4, 29)


def test_renamed_widened_and_filled_columns(tmp_path: Path) -> None:
    first = EventSchema("Tap", (Field("n", "integer"), Field("shop", "string")))
    second = EventSchema(
        "Tap",
        (
            Field("n", "float"),
            Field("merchant", "string", aliases=("shop",)),
            Field("currency", "string", default="EUR"),
            Field("note", "string", nullable=True),
        ),
    )
    old = Lake(tmp_path, {}, {"taps": first})
    for at in (0, 2):
        old.append("taps", frame(at, 2, n=[at, at + 1], shop=["a", "b"]).drop("x"), "fold", at)
    old.compact("taps")
    new = Lake(tmp_path, {}, {"taps": second})
    before = everything(new.events("taps"), list(new.schema("taps")))
    assert before.equals(new.read("taps"))
    added = frame(4, 2, n=[4.5, 5.5], merchant=["c", "d"], currency=["USD"] * 2, note=["x", None])
    new.append("taps", added.drop("x"), "fold", 9)
    events = new.events("taps")
    found = everything(events, list(events.schema))
    assert found.equals(new.read("taps"))
    assert found["currency"].to_list() == ["EUR"] * 4 + ["USD"] * 2
    assert found["merchant"].to_list() == ["a", "b", "a", "b", "c", "d"]
    assert not events.gaps("_offset")
    assert events.gaps("note")


def test_events_that_wait_follow(lake: Lake) -> None:
    tail = frame(300, 3).with_columns(x=pl.Series([None, 1.0, 2.0]))
    events = lake.events("taps").followed_by(tail)
    assert not lake.events("taps").gaps("x")
    assert events.gaps("x")
    assert everything(events, ["_offset"])["_offset"].to_list() == list(range(303))
    assert everything(events, ["x"])["x"].to_list()[-2:] == [1.0, 2.0]


def test_a_table_without_events(tmp_path: Path) -> None:
    lake = Lake(tmp_path, {"taps": pl.Schema({"x": pl.Float64, "_offset": pl.Int64})})
    events = lake.events("taps")
    assert (events.rows, events.files, list(events.parts)) == (0, (), [slice(0, 0)])
    assert events.read(events.parts[0], ["x"]).schema == {"x": pl.Float64()}
    lake.append("plain", frame(0, 2).drop("_offset"), "fold", 0)
    with pytest.raises(LakeMismatch, match="no place in a log; allowed: tables of events"):
        lake.events("plain")
