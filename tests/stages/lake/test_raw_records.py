"""A raw table is the list of what was appended, byte by byte, whatever is done to its files."""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as parquet
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import from_micros
from homeostat.core.errors import SystemInvalid
from homeostat.ingest.log import LogBatch
from homeostat.lake import events, joining
from homeostat.lake.raw import RawRecords
from homeostat.lake.tables import Lake
from homeostat.lake.tiered import TieredLake

DAY = 86_400_000_000
START = 19_800 * DAY

Record = tuple[int, bytes]

payloads_st = st.one_of(
    st.binary(max_size=40), st.just(b""), st.just(b"\xff\xfe\x00"), st.just(b"\x00refused\x00"),
    st.integers(0, 255).map(lambda byte: bytes([byte]) * 1_000_000),
)  # fmt: skip
steps_st = st.lists(
    st.one_of(
        st.lists(st.tuples(st.integers(0, DAY), payloads_st), min_size=1, max_size=6),
        st.sampled_from(["compact", "tidy", "move", "vacuum"]),
    ),
    max_size=14,
)


def batch(first: int, records: list[Record]) -> LogBatch:
    offsets = np.arange(first, first + len(records))
    return LogBatch("taps", offsets, np.array([r[0] for r in records]), [r[1] for r in records])


def kept(raw: RawRecords, begin: int = 0, end: int = 2**62) -> list[tuple[int, int, bytes]]:
    found = []
    for one in raw.read(begin, end):
        found += list(zip(one.offsets.tolist(), one.known.tolist(), one.payloads, strict=True))
    return found


def by_others(folders: list[Path]) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    """Return the rows as Polars and DuckDB read them, each with its own reader."""
    frames, files = [], []
    for folder in folders:
        if (folder / "_delta_log").exists():
            frames.append(pl.scan_delta(str(folder)).select("_offset", "payload").collect())
            files += DeltaTable(str(folder)).file_uris()
    polars = sorted(pl.concat(frames).iter_rows()) if frames else []
    if not files:
        return polars, []
    rows = duckdb.execute(f"SELECT _offset, payload FROM read_parquet({files}) ORDER BY _offset")
    return polars, rows.fetchall()


@given(steps_st, st.randoms(use_true_random=False))
def test_it_is_the_list_of_what_was_appended(
    steps: list[list[Record] | str], draw: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hot, cold = Path(folder, "hot"), Path(folder, "cold")
        lake = TieredLake(hot, cold)
        raw = RawRecords(lake, "taps")
        expected: list[tuple[int, int, bytes]] = []
        known = START
        for step in steps:
            match step:
                case "compact":
                    lake.compact("raw_taps")
                case "tidy":
                    lake.compact("raw_taps", most=1, small=3)
                case "vacuum":
                    lake.vacuum("raw_taps", hours=0)
                case "move":
                    days = lake.days("raw_taps")
                    if len(days) > 1:
                        lake.move("raw_taps", days[0])
                case list():
                    records = []
                    for after, payload in step:
                        known += after
                        records.append((known, payload))
                    first = raw.last_offset + 1
                    assert raw.append(batch(first, records))
                    assert not raw.append(batch(first, records)), "it is there already"
                    expected += [(first + n, *record) for n, record in enumerate(records)]
            raw = RawRecords(TieredLake(hot, cold), "taps")
        assert kept(raw) == expected
        begin, end = sorted(draw.randrange(len(expected) + 2) for _ in range(2))
        assert kept(raw, begin, end) == expected[begin:end]
        assert raw.first_offset == (0 if expected else None)
        instant = START + draw.randrange(2 * DAY)
        late = [offset for offset, at, _ in expected if at >= instant]
        assert raw.first_known(instant, START + 1_000 * DAY) == min(late, default=None)
        wanted = [(offset, payload) for offset, _, payload in expected]
        assert by_others([hot / "raw_taps", cold / "raw_taps"]) == (wanted, wanted)


def filled(folder: Path, files: int, payload: bytes = b"{}", day: int = 0) -> Lake:
    lake = Lake(folder)
    raw = RawRecords(lake, "taps")
    for _ in range(files):
        first = raw.last_offset + 1
        raw.append(batch(first, [(START + day * DAY + first, payload)] * 5))
    return lake


def test_small_files_are_put_together(tmp_path: Path) -> None:
    lake = filled(tmp_path, 9)
    before = lake.read("raw_taps")
    assert lake.compact("raw_taps", small=10).days == 0, "the open day has few"
    assert lake.compact("raw_taps", small=9).files_after == 1
    filled(tmp_path, 3, day=1)
    done = lake.compact("raw_taps", small=9)
    assert done.days == 0, "a closed day of one file is done"
    assert lake.compact("raw_taps").files_before == 3
    status = lake.status("raw_taps")
    assert (status.files, status.days, status.rows, status.sorted_share) == (2, 2, 60, None)
    assert lake.read("raw_taps", version=8).equals(before)


def test_large_files_stay_and_work_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "FILE_BYTES", 45_000)
    monkeypatch.setattr(joining, "GROUP_BYTES", 25_000)
    noise = random.Random(1)
    lake = Lake(tmp_path)
    raw = RawRecords(lake, "taps")
    for first in range(12):
        raw.append(
            batch(first, [(START + first, noise.randbytes(100_000 if first == 5 else 9_000))])
        )
    raw.append(batch(12, [(START + DAY, b"")]))
    expected = kept(raw)
    calls = []
    while (done := lake.compact("raw_taps", most=1)).days:
        calls.append((done.files_before, done.files_after))
        assert kept(raw) == expected
    assert calls == [(8, 2), (2, 1)], "0 to 3 and 6 to 9, then 10 and 11"
    files = [path for path in lake.files("raw_taps") if "joined-" in path]
    groups = [parquet.read_metadata(file).num_row_groups for file in files]
    assert sorted(groups) == [1, 2, 2], "two records of 9 kB fit into a row group"
    assert lake.status("raw_taps").files == 6


def test_parts_are_read_within_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PART_BYTES", 100_000)
    lake = filled(tmp_path, 10, payload=random.Random(1).randbytes(9_000))
    sizes = [len(one) for one in RawRecords(lake, "taps").read(0, 99)]
    assert (sum(sizes), max(sizes)) == (50, 10)


def test_no_received_byte_is_in_statistics(tmp_path: Path) -> None:
    secret = b"4111 1111 1111 1111"
    lake = filled(tmp_path, 3, secret)
    for small in (99, 3):
        lake.compact("raw_taps", small=small)
        for file in lake.files("raw_taps"):
            column = parquet.read_metadata(file).row_group(0).column(2)
            assert column.path_in_schema == "payload"
            assert column.statistics is None or not column.statistics.has_min_max
            assert column.compression == "ZSTD"
    logged = b"".join(path.read_bytes() for path in tmp_path.glob("raw_taps/_delta_log/*.json"))
    assert secret not in logged


def test_days_leave_it(tmp_path: Path) -> None:
    lake = TieredLake(tmp_path)
    raw = RawRecords(lake, "taps")
    for day in range(3):
        raw.append(batch(day, [(START + day * DAY, b"%d" % day)]))
    lake.delete("raw_taps", from_micros(START).date())
    assert [payload for _, _, payload in kept(raw)] == [b"1", b"2"]
    assert (raw.first_offset, raw.last_offset) == (1, 2)


def test_no_source_may_have_its_name() -> None:
    class Tap(hs.Event):
        tap: str
        at: hs.Timestamp

    taps = hs.EventSource("taps", Tap, event_id="tap", event_time="at")
    raw = replace(taps, name="raw_taps")
    assert hs.System("gate", sources=(raw,)).source("raw_taps") == raw
    with pytest.raises(SystemInvalid, match="the lake has the received bytes of 'taps'"):
        hs.System("gate", sources=(taps, raw))
