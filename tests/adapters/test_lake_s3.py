"""The lake in an object store does what it does in a folder, and two writers at once are safe.

The store is moto's S3 server, a process of its own on this machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import polars as pl
import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.errors import UnknownName
from homeostat.core.storage import StorageFailed
from homeostat.declare.schema import EventSchema, Field
from homeostat.ingest.log import LogBatch
from homeostat.lake.events import Span
from homeostat.lake.locations import LakeFolderInvalid, LakeSchemeUnknown
from homeostat.lake.raw import RawRecords
from homeostat.lake.report import measure
from homeostat.lake.sql import QueryRefused, connect, query
from homeostat.lake.tables import Lake, LakeMismatch
from homeostat.lake.tiered import TieredLake
from homeostat.lake.vacuum import LakeVersionGone
from homeostat.runtime.app import App
from homeostat.runtime.same_lake import OtherLake
from homeostat.testing.toy import TOY_START, toy_events, toy_system

START = datetime(2024, 2, 27, tzinfo=UTC)


def events(first: int, count: int, **more: pl.Expr) -> pl.DataFrame:
    """Return consecutive events, one every 5 hours."""
    offsets = range(first, first + count)
    return pl.DataFrame(
        {
            "_offset": offsets,
            "_known_time": [START + timedelta(hours=5 * n) for n in offsets],
            "card": [f"card {n % 3}" for n in offsets],
            "amount": [None if n % 4 == 0 else n for n in offsets],
        },
        schema={
            "_offset": pl.Int64(), "_known_time": pl.Datetime("us", "UTC"), "card": pl.String(),
            "amount": pl.Int64(),
        },
    ).with_columns(**more)  # fmt: skip


def received(lake: Lake) -> Iterator[tuple[int, bytes]]:
    """Archive records of several days in many commits, join the files, and yield what is read."""
    raw = RawRecords(lake, "taps")
    for first in range(0, 40, 4):
        known = np.array(
            [to_micros(START + timedelta(hours=5 * n)) for n in range(first, first + 4)]
        )
        payloads = [b"", b"\xff\x00", b"{}", b"x" * 100_000]
        assert raw.append(LogBatch("taps", np.arange(first, first + 4), known, payloads))
    lake.compact(raw.table)
    assert len(lake.files(raw.table)) < 15
    for batch in raw.read(2, 38):
        yield from zip(batch.offsets.tolist(), batch.payloads, strict=True)


WIDER = EventSchema(
    "Tap",
    (
        Field("card", "string"),
        Field("value", "float", nullable=True, aliases=("amount",)),
        Field("place", "string", default="shop"),
    ),
)


def told(where: Path | str) -> Iterator[tuple[str, object]]:
    """Do everything a lake can, and yield what came of it."""
    lake = Lake(where, {"taps": events(0, 0).schema, "later": events(0, 0).schema})
    yield "nothing there", (lake.version("taps"), lake.tables(), lake.read("taps").rows())
    yield "first", lake.append("taps", events(0, 9), "fold", 8)
    yield "again", lake.append("taps", events(0, 9), "fold", 8)
    for first in range(9, 30, 3):
        lake.append("taps", events(first, 3), "fold", first + 2)
    yield "rows", lake.read("taps").rows()
    yield "columns", lake.read("taps", ["amount", "card"]).rows()
    instant = to_micros(START + timedelta(hours=52))
    yield "before", lake.read("taps", known_before=instant).rows()
    yield "from", lake.read("taps", known_from=instant).rows()
    yield "version 3", lake.read("taps", version=3).rows()
    yield "number of files", len(lake.files("taps"))
    lake.compact("taps")
    yield "compacted", (len(lake.files("taps")), lake.read("taps").rows())
    known = "SELECT * FROM taps_known_at(TIMESTAMPTZ '2024-03-01') ORDER BY _offset"
    yield "known", query(lake, known).rows()
    yield (
        "tables",
        (Lake(where).tables(), lake.tables(), Lake(where).application_version("taps", "fold")),
    )
    other = Lake(where, events={"taps": WIDER})
    yield "new columns", other.read("taps").rows()
    yield "evolved", other.evolve("taps")
    lake = Lake(where)
    lake.append(
        "taps",
        events(30, 2, place=pl.lit("kiosk"))
        .rename({"amount": "value"})
        .cast({"value": pl.Float64}),
        "fold",
        31,
    )
    yield "both", Lake(where, events={"taps": WIDER}).read("taps").rows()
    parts = Lake(where, events={"taps": WIDER}).events("taps", Span(instant, None))
    names = ["_offset", "value", "place"]
    yield "parts", pl.concat(parts.read(part, names) for part in parts.parts).rows()
    yield "counted", (parts.rows, len(parts.files), parts.gaps("value"), parts.gaps("card"))
    asked = (
        "SELECT card, place, sum(value), min(_day), count(*) FROM taps GROUP BY ALL ORDER BY ALL"
    )
    yield "sql", query(Lake(where, events={"taps": WIDER}), asked).rows()
    yield "past", Lake(where).read("taps", version=8).rows()
    yield "raw", list(received(Lake(where)))
    there = lake.status("taps")
    yield "status", (there.rows, there.files, there.days, there.version)
    yield (
        "a vacuum",
        (
            lake.vacuum("taps", [3], hours=0, dry=True).files,
            lake.vacuum("taps", [3], hours=0).files,
            lake.vacuum("taps", [3], hours=0).files,
        ),
    )
    yield "kept", (lake.read("taps").rows(), lake.read("taps", version=3).rows())
    with pytest.raises(LakeVersionGone) as gone:
        lake.read("taps", version=6)
    yield "gone", str(gone.value)


def test_a_store_that_does_not_answer_is_said(bucket: str) -> None:
    with pytest.raises(StorageFailed, match=r"(?s)nowhere/lake/taps: .*allowed: an object store"):
        Lake("s3://nowhere/lake").append("taps", events(0, 1), "fold", 0)


def test_the_warehouse_reads_an_object_store(bucket: str, tmp_path: Path) -> None:
    lake = TieredLake(f"{bucket}/hot", tmp_path / "cold")
    lake.append("taps", events(0, 30), "fold", 0)
    lake.move("taps", START.date() + timedelta(days=2))
    asked = "SELECT sum(_offset), count(*) FROM taps"
    with connect(lake) as warehouse, warehouse.cursor() as other:
        assert warehouse.sql(asked).fetchall() == other.sql(asked).fetchall() == [(435, 30)]
        lake.append("taps", events(30, 1), "fold", 1)
        warehouse.refresh()
        assert warehouse.sql(asked).fetchall() == [(465, 31)]
        assert other.sql(asked).fetchall() == [(435, 30)]
        with pytest.raises(QueryRefused):
            warehouse.execute("COPY taps TO 'taps.csv'")


def test_it_does_what_a_folder_does(bucket: str, tmp_path: Path) -> None:
    for here, there in zip(told(tmp_path / "lake"), told(f"{bucket}/some/lake"), strict=True):
        assert there == here


def test_days_move_to_an_object_store_and_are_counted_there(bucket: str, tmp_path: Path) -> None:
    """From a folder to a bucket, from a bucket to another place in it, and between folders."""
    places: list[tuple[Path | str, Path | str]] = [
        (tmp_path / "a", tmp_path / "b"), (tmp_path / "c", f"{bucket}/c"),
        (f"{bucket}/d", f"{bucket}/e"),
    ]  # fmt: skip
    found = []
    for hot, cold in places:
        lake = TieredLake(hot, cold)
        for first in range(0, 30, 6):
            lake.append("taps", events(first, 6), "fold", first)
        before = lake.read("taps")
        assert lake.move("taps", START.date() + timedelta(days=3)) == 20
        assert lake.sweep("taps", 1) == 0
        freed = lake.sweep("taps", 0)
        assert freed > 0
        assert lake.read("taps").equals(before)
        past = lake.read("taps", version=2)
        assert past.equals(before[:18])
        lake.delete("taps", START.date())
        assert lake.sweep("taps", 0) > 0
        assert lake.read("taps").equals(before[5:])
        assert query(lake, "SELECT count(*), sum(_offset) FROM taps").row(0) == (25, 425)
        found.append((freed, measure(lake, "taps", {"hot": 1.0})))
    assert found[0] == found[1] == found[2]


def test_mistakes_read_the_same(bucket: str) -> None:
    lake = Lake(bucket)
    with pytest.raises(UnknownName, match="no table named 'taps'"):
        lake.read("taps")
    lake.append("taps", events(0, 1), "fold", 0)
    with pytest.raises(LakeMismatch, match="version 7; allowed: 0 to 0"):
        lake.read("taps", version=7)
    with pytest.raises(LakeFolderInvalid, match="choose another"):
        Lake(f"{bucket}/a%b")
    with pytest.raises(LakeSchemeUnknown, match="allowed: a folder, or s3://BUCKET/PREFIX"):
        Lake("ftp://somewhere/lake")


WRITER = """
import sys
from pathlib import Path
from homeostat.lake.tables import Lake
sys.path.insert(0, sys.argv[1])
from test_lake_s3 import events
where, application, own = sys.argv[2:5]
lake = Lake(where)
print("ready", flush=True)
sys.stdin.readline()
for number in range(12):
    first = 3 * number + (1000 if own == "own" else 0)
    print(int(lake.append("taps", events(first, 3), application, number)), flush=True)
"""


def writer(where: str, application: str, own: str = "") -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WRITER, str(Path(__file__).parent), where, application, own]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(*writers: subprocess.Popen[str]) -> list[list[int]]:
    """Let writers go at once; return what every append of each answered."""
    for one in writers:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in writers:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    answers = [[int(word) for word in one.communicate()[0].split()] for one in writers]
    assert [one.returncode for one in writers] == [0] * len(writers)
    return answers


def test_two_writers_at_once_lose_and_double_nothing(bucket: str) -> None:
    where = f"{bucket}/lake"
    assert go(writer(where, "one"), writer(where, "two", "own")) == [[1] * 12, [1] * 12]
    lake = Lake(where)
    assert lake.read("taps")["_offset"].to_list() == [*range(36), *range(1000, 1036)]
    assert [lake.application_version("taps", name) for name in ("one", "two")] == [11, 11]


def test_a_table_is_begun_once(bucket: str, tmp_path: Path) -> None:
    for number, place in enumerate([bucket, tmp_path] * 8):
        answers: list[bool] = []
        together = Barrier(2)

        def begin(where: str = f"{place}/{number}") -> None:
            lake = Lake(where)
            together.wait()  # noqa: B023
            answers.append(lake.append("taps", events(0, 3), "fold", 1))  # noqa: B023

        threads = [Thread(target=begin) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [False, True]
        assert Lake(f"{place}/{number}").read("taps")["_offset"].to_list() == [0, 1, 2]


def test_of_two_equal_commits_one_is_kept_out(bucket: str) -> None:
    where = f"{bucket}/lake"
    first, second = go(writer(where, "fold"), writer(where, "fold"))
    assert [a + b for a, b in zip(first, second, strict=True)] == [1] * 12
    assert Lake(where).read("taps")["_offset"].to_list() == list(range(36))


@pytest.mark.parametrize("acknowledged", [1, 2, 4, 7])
def test_a_writer_that_is_killed_leaves_a_table(bucket: str, acknowledged: int) -> None:
    where = f"{bucket}/lake"
    one = writer(where, "fold")
    assert one.stdin is not None
    assert one.stdout is not None
    assert one.stdout.readline() == "ready\n"
    one.stdin.write("go\n")
    one.stdin.flush()
    for _ in range(acknowledged):
        assert one.stdout.readline() == "1\n"
    os.kill(one.pid, signal.SIGKILL)
    one.communicate()
    done = Lake(where).application_version("taps", "fold")
    assert done >= acknowledged - 1
    assert Lake(where).read("taps")["_offset"].to_list() == list(range(3 * (done + 1)))
    [answers] = go(writer(where, "fold"))
    assert answers == [0] * (done + 1) + [1] * (11 - done)
    assert Lake(where).read("taps")["_offset"].to_list() == list(range(36))


def lived(home: Path, storage: hs.Storage) -> App:
    """Let a system take in four days, train and answer."""
    clock = ManualClock(to_micros(TOY_START))
    app = hs.open(toy_system(), home, clock, storage=storage)
    for source, frame in toy_events(days=4).items():
        app.ingest(source, frame, known_time="known_at")
    clock.advance_to(to_micros(TOY_START + timedelta(days=5)))
    app.step()
    return app


def test_a_home_keeps_its_lake_in_an_object_store(bucket: str, tmp_path: Path) -> None:
    elsewhere = hs.Storage(location=f"{bucket}/shop")
    with (
        lived(tmp_path / "here", hs.Storage()) as here,
        lived(tmp_path / "away", elsewhere) as away,
    ):
        assert not (tmp_path / "away" / "lake").exists()
        table = here.training_set("fraud")
        assert table.height > 100
        assert away.training_set("fraud").equals(table)
        count = "SELECT count(*), max(amount), sum(amount::DECIMAL(18, 2)) FROM payments"
        assert away.sql(count).equals(here.sql(count))
        assert away.state("fraud").champion == here.state("fraud").champion == 1
        with hs.connect(toy_system(), tmp_path / "away") as beside:
            assert beside.sql(count).pl().equals(here.sql(count))
    with pytest.raises(OtherLake, match=f"in '{bucket}/shop', and the profile says 'lake'"):
        hs.open(toy_system(), tmp_path / "away")
    with hs.open(toy_system(), tmp_path / "away", storage=elsewhere) as again:
        assert again.training_set("fraud").equals(table)
