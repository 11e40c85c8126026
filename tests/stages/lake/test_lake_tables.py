"""The lake holds every commit once, and reads as of instants and versions."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from homeostat.core.clock import to_micros
from homeostat.core.errors import UnknownName
from homeostat.lake.sql import query
from homeostat.lake.tables import Lake, LakeFolderInvalid, LakeMismatch

INSTANT = pl.Datetime("us", "UTC")


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2013, 1, day, hour, tzinfo=UTC)


def events(*offsets: int) -> pl.DataFrame:
    """Offset n is known n hours after the first of January."""
    return pl.DataFrame(
        {
            "_offset": offsets,
            "_known_time": [at(1 + n // 24, n % 24) for n in offsets],
            "carrier": [None if n % 3 else "UA" for n in offsets],
            "parts": [[float(n), float("nan")] for n in offsets],
        },
        schema={
            "_offset": pl.Int64(),
            "_known_time": INSTANT,
            "carrier": pl.String(),
            "parts": pl.List(pl.Float64()),
        },
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_a_commit_is_applied_once(lake: Lake) -> None:
    assert lake.application_version("taps", "fold") == -1
    assert lake.append("taps", events(0, 1), "fold", 1)
    assert not lake.append("taps", events(0, 1), "fold", 1)
    assert not lake.append("taps", events(0), "fold", 0)
    assert lake.append("taps", events(2), "fold", 2)
    assert lake.append("taps", events(3), "another", 0)
    assert lake.read("taps").equals(events(0, 1, 2, 3))
    assert lake.application_version("taps", "fold") == 2
    assert lake.application_version("taps", "another") == 0


def test_rows_come_in_the_order_of_offsets(lake: Lake) -> None:
    lake.append("taps", events(50, 3, 27), "fold", 1)
    lake.append("taps", events(1, 70), "fold", 2)
    assert lake.read("taps").equals(events(1, 3, 27, 50, 70))
    assert lake.read("taps", ["carrier"]).equals(events(1, 3, 27, 50, 70).select("carrier"))


@pytest.mark.parametrize("hour", [0, 1, 23, 24, 25, 47, 48, 71, 72, 99])
def test_reads_stop_at_the_instant_and_open_only_its_days(lake: Lake, hour: int) -> None:
    every = events(*range(72))
    lake.append("taps", every, "fold", 71)
    instant = to_micros(at(1 + hour // 24, hour % 24))
    assert lake.read("taps", known_before=instant).equals(every[:hour])
    assert lake.read("taps", known_before=instant + 1).equals(every[: hour + 1])
    assert lake.read("taps", known_from=instant).equals(every[hour:])
    for file in lake.files("taps"):
        if f"_day={at(1 + hour // 24).date()}" not in file:
            Path(file).unlink()  # days that are not asked for are not opened
    one_hour = lake.read("taps", known_from=instant, known_before=instant + 1)
    assert one_hour.equals(every[hour : hour + 1])


def test_a_version_reads_as_it_was(lake: Lake) -> None:
    assert lake.version("taps") == -1
    lake.append("taps", events(0), "fold", 0)
    lake.append("taps", events(1), "fold", 1)
    assert lake.version("taps") == 1
    assert lake.read("taps", version=0).equals(events(0))
    assert lake.read("taps", version=1).equals(events(0, 1))
    with pytest.raises(LakeMismatch, match="version 2; allowed: 0 to 1"):
        lake.read("taps", version=2)


def test_compaction_changes_files_and_nothing_else(lake: Lake) -> None:
    for n in range(10):
        lake.append("taps", events(n, 30 + n), "fold", n)
    before = lake.read("taps")
    done = lake.compact("taps")
    assert (done.days, done.rows, done.files_before, done.files_after) == (2, 20, 20, 2)
    assert len(lake.files("taps")) == 2
    assert lake.read("taps").equals(before)
    assert lake.read("taps", version=3).equals(events(0, 1, 2, 3, 30, 31, 32, 33))
    assert not lake.append("taps", events(9), "fold", 9), "the application version survives"
    assert lake.compact("taps").days == 0


def test_many_commits_pass_a_checkpoint(lake: Lake) -> None:
    for n in range(102):
        lake.append("taps", events(n), "fold", n)
    other = Lake(lake.folder)
    assert other.application_version("taps", "fold") == 101
    assert other.read("taps").equals(events(*range(102)))
    assert other.read("taps", version=2).equals(events(0, 1, 2))


def test_versions_are_kept_for_good(lake: Lake) -> None:
    lake.append("taps", events(0), "fold", 0)
    settings = DeltaTable(str(lake.folder / "taps")).metadata().configuration
    assert settings == {"delta.logRetentionDuration": "interval 36500 days"}


def test_a_reader_sees_what_another_handle_commits(lake: Lake) -> None:
    reader = Lake(lake.folder, {"taps": events().schema})
    assert reader.read("taps").is_empty()
    for n in range(3):
        lake.append("taps", events(n), "fold", n)
        assert reader.read("taps").equals(events(*range(n + 1)))
        assert reader.version("taps") == n


def test_an_empty_commit_moves_the_version(lake: Lake) -> None:
    assert lake.append("taps", events(), "fold", 4)
    assert lake.application_version("taps", "fold") == 4
    assert lake.read("taps").equals(events())
    assert lake.append("taps", events(5), "fold", 5)
    assert lake.append("taps", events(), "fold", 9)
    assert lake.read("taps").equals(events(5))


def test_another_column_can_be_the_day(lake: Lake) -> None:
    frame = pl.DataFrame(
        {"prediction_id": ["b", "a", "c"], "at": [at(2), at(2), at(1)], "features": [[1.0]] * 3},
        schema_overrides={"at": INSTANT},
    )
    lake.append("predictions", frame, "step", 1, day="at")
    assert lake.read("predictions")["prediction_id"].to_list() == ["c", "a", "b"]
    early = lake.read("predictions", ["features"], known_before=to_micros(at(2)))
    assert early["features"].to_list() == [[1.0]]
    days = {file.rsplit("/", 2)[-2] for file in lake.files("predictions")}
    assert days == {f"_day={date(2013, 1, 1)}", f"_day={date(2013, 1, 2)}"}


def test_a_new_column_is_missing_in_older_rows(lake: Lake) -> None:
    lake.append("taps", events(0), "fold", 0)
    lake.append("taps", events(1).with_columns(gate=pl.lit("B7")), "fold", 1)
    assert lake.read("taps")["gate"].to_list() == [None, "B7"]
    assert lake.read("taps", version=0).columns == events().columns
    lake.append("taps", events(2), "fold", 2)
    assert lake.read("taps")["gate"].to_list() == [None, "B7", None]


def test_what_does_not_fit_is_refused_and_leaves_no_trace(lake: Lake) -> None:
    lake.append("taps", events(0), "fold", 0)
    with pytest.raises(LakeMismatch, match="column 'carrier' is Int64; allowed: String"):
        lake.append("taps", events(1).with_columns(carrier=pl.lit(1, pl.Int64)), "fold", 1)
    with pytest.raises(LakeMismatch, match="column 'parts' has no type"):
        lake.append("other", events().with_columns(parts=pl.lit(None)), "fold", 1)
    with pytest.raises(LakeMismatch, match="the day column 'carrier' is String"):
        lake.append("other", events(1), "fold", 1, day="carrier")
    with pytest.raises(LakeMismatch, match="the day column 'at' is None"):
        lake.append("other", events(1), "fold", 1, day="at")
    both = events(1).with_columns(at=pl.col("_known_time"))
    with pytest.raises(LakeMismatch, match="day='_known_time', as in the rows that are there"):
        lake.append("taps", both, "fold", 1, day="at")
    with pytest.raises(LakeMismatch, match="the name is no folder name"):
        lake.append("../taps", events(1), "fold", 1)
    assert lake.tables() == ("taps",)
    assert lake.read("taps").equals(events(0))


def test_unknown_names_are_answered_with_the_nearest(lake: Lake) -> None:
    lake.append("taps", events(0), "fold", 0)
    with pytest.raises(UnknownName, match="Did you mean 'taps'"):
        lake.read("tabs")
    with pytest.raises(UnknownName, match="Did you mean 'carrier'"):
        lake.read("taps", ["carier"])


def test_declared_tables_answer_before_their_first_row(tmp_path: Path) -> None:
    lake = Lake(tmp_path, {"taps": events().schema})
    assert lake.tables() == ("taps",)
    assert lake.read("taps").equals(events())
    assert lake.read("taps", ["carrier"], known_before=0).schema == {"carrier": pl.String}
    assert lake.schema("taps") == events().schema
    assert (lake.files("taps"), lake.compact("taps").days) == ([], 0)
    with pytest.raises(UnknownName, match="column"):
        lake.read("taps", ["x"])


@pytest.mark.parametrize("name", ["my lake", "é", "a#b", "it's", "a+b=c&d", "a:b", "{a}~$`<>@;"])
def test_any_readable_folder_will_do(tmp_path: Path, name: str) -> None:
    lake = Lake(tmp_path / name)
    lake.append("taps", events(0), "fold", 0)
    assert lake.read("taps").equals(events(0))
    assert query(lake, "SELECT _offset FROM taps").item() == 0
    assert Lake(lake.folder).application_version("taps", "fold") == 0


@pytest.mark.parametrize("odd", "%*?[]^|\\\t")
def test_a_folder_the_engines_cannot_open_is_refused(tmp_path: Path, odd: str) -> None:
    with pytest.raises(LakeFolderInvalid, match="choose another folder"):
        Lake(tmp_path / f"a{odd}b")


def test_a_relative_folder_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lake(Path("state/lake"))
    lake.append("taps", events(0), "fold", 0)
    assert lake.read("taps").equals(events(0))
    assert query(lake, "SELECT _offset FROM taps").item() == 0


APPENDER = """
import sys
from pathlib import Path
import polars as pl
from homeostat.lake.tables import Lake
lake = Lake(Path(sys.argv[1]))
while True:
    for version in range(lake.application_version("a", "fold"), 10_000):
        rows = pl.select(pl.int_range(0, 3) + 3 * version).to_series()
        instants = (rows * 3_600_000_000).cast(pl.Datetime("us", "UTC"))
        frame = pl.DataFrame({"_offset": rows, "_known_time": instants})
        if version >= 0:  # begins with one that may be there already
            lake.append("a", frame, "fold", version)
            print(version, flush=True)
"""


def test_sigkill_neither_loses_nor_doubles_a_commit(tmp_path: Path) -> None:
    for acknowledgements in (1, 2, 3, 5, 9):
        child = subprocess.Popen([sys.executable, "-c", APPENDER, tmp_path], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(acknowledgements):
            acknowledged = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        child.communicate()
        lake = Lake(tmp_path)
        applied = lake.application_version("a", "fold")
        assert applied >= acknowledged
        assert lake.read("a")["_offset"].to_list() == list(range(3 * (applied + 1)))
