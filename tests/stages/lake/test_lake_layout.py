"""Closed days are sorted, small files joined, useless files deleted; rows stay what they are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.declare.schema import EventSchema, Field
from homeostat.features.event_tables import runs
from homeostat.lake.compaction import MANY, ORDER
from homeostat.lake.events import LakeEvents
from homeostat.lake.tables import Lake
from homeostat.lake.vacuum import LakeVersionGone

START = datetime(2013, 1, 1, tzinfo=UTC)
KEYS = {"taps": ("card",)}


def taps(offsets: range, per_day: int = 100, cards: int = 10) -> pl.DataFrame:
    """Return events of some cards, so many a day, each a little before it was known."""
    known = [START + timedelta(days=n // per_day, seconds=n % per_day) for n in offsets]
    return pl.DataFrame(
        {
            "card": [f"c{n * 7 % cards}" if n % 13 else None for n in offsets],
            "x": [float(n) for n in offsets],
            "_offset": list(offsets),
            "_known_time": known,
            "_event_time": [
                at - timedelta(seconds=n * 31 % 9) for n, at in zip(offsets, known, strict=True)
            ],
            "_tie": [n * 2_654_435_761 % 1000 for n in offsets],
        },
        schema_overrides={"card": pl.String},
    )


def filled(folder: Path, rows: int = 350, batch: int = 25) -> Lake:
    """Return a lake of events over a few days, appended in small batches."""
    lake = Lake(folder, keys=KEYS)
    for first in range(0, rows, batch):
        lake.append("taps", taps(range(first, min(first + batch, rows))), "fold", first)
    return lake


def everything(events: LakeEvents) -> pl.DataFrame:
    return pl.concat([events.read(part, list(events.schema)) for part in events.parts])


def test_closed_days_are_sorted_and_the_open_one_is_joined(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    before, versions = lake.read("taps"), lake.version("taps")
    assert (lake.status("taps").files, lake.status("taps").sorted_share) == (14, 0.0)
    done = lake.compact("taps")
    assert (done.days, done.rows, done.files_before, done.files_after) == (4, 350, 14, 4)
    assert lake.version("taps") == versions + 1, "one commit"
    assert lake.read("taps").equals(before)
    assert lake.read("taps", version=4).equals(before[:125])
    found = lake.status("taps")
    assert (found.rows, found.files, found.days, found.version) == (350, 4, 4, versions + 1)
    assert found.sorted_share == 300 / 350
    assert lake.compact("taps").days == 0
    *closed, newest = sorted(lake.files("taps"), key=lambda file: file.split("_day=")[1])
    for day, file in enumerate(closed):
        wanted = before[100 * day : 100 * day + 100].sort(
            "card", "_event_time", "_tie", "_offset", maintain_order=True
        )
        assert pl.read_parquet(file, hive_partitioning=False).equals(wanted)
        assert json.loads(pl.read_parquet_metadata(file)[ORDER.decode()]) == [
            "card", "_event_time", "_tie", "_offset",
        ]  # fmt: skip
    assert pl.read_parquet(newest)["_offset"].to_list() == list(range(300, 350))


def test_a_compaction_says_that_it_changed_no_data(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    lake.compact("taps")
    log = tmp_path / "taps" / "_delta_log" / f"{lake.version('taps'):020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    changed = [a[kind]["dataChange"] for a in actions for kind in ("add", "remove") if kind in a]
    assert len(changed) == 4 + 14
    assert not any(changed)
    assert lake.application_version("taps", "fold") == 325
    assert not lake.append("taps", taps(range(325, 350)), "fold", 325)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 200))
def test_a_day_of_any_size_is_sorted_in_pieces(
    tmp_path_factory: pytest.TempPathFactory, rows: int, cards: int, batch: int
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"), keys=KEYS)
    events = taps(range(200), cards=cards)
    for first in range(0, 200, batch):
        lake.append("taps", events[first : first + batch], "fold", first)
    with mock.patch("homeostat.lake.compaction.ROWS", rows):
        lake.compact("taps")
    assert lake.read("taps").equals(events)
    files = [pl.read_parquet(file) for file in lake.files("taps") if "sorted-" in file]
    assert max(file.height for file in files) <= rows, "no two events are equal"
    order = ["card", "_event_time", "_tie", "_offset"]
    ranked = events[:100].sort(order)["_offset"].to_list()
    place = {offset: rank for rank, offset in enumerate(ranked)}
    assert all(file.equals(file.sort(order)) for file in files)
    in_order = pl.concat(sorted(files, key=lambda file: place[file["_offset"][0]]))
    assert in_order.equals(events[:100].sort(order))


def test_equal_events_are_not_divided_between_files(tmp_path: Path) -> None:
    lake = Lake(tmp_path, keys=KEYS)
    same = taps(range(60)).with_columns(
        pl.lit("c").alias("card"),
        pl.lit(START).alias("_event_time"),
        pl.lit(1, pl.Int64).alias("_tie"),
    )
    lake.append("taps", same, "fold", 0)
    lake.append("taps", taps(range(60, 70), per_day=5), "fold", 1)
    with mock.patch("homeostat.lake.compaction.ROWS", 7):
        lake.compact("taps")
    heights = [pl.read_parquet(f).height for f in lake.files("taps") if "2013-01-01" in f]
    assert heights == [60]


def test_bounded_work_takes_the_oldest_days_first(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    assert lake.compact("taps", most=150).rows == 200
    assert lake.compact("taps", most=150, small=3).rows == 100, "two small files are too few"
    assert lake.compact("taps", most=150, small=3).rows == 0
    assert lake.status("taps").files == 5


def test_a_long_open_day_has_few_files(tmp_path: Path) -> None:
    lake = Lake(tmp_path, keys=KEYS)
    most = 0
    for n in range(3 * MANY):
        lake.append("taps", taps(range(n, n + 1), per_day=10_000), "fold", n)
        lake.compact("taps", small=MANY)
        most = max(most, lake.status("taps").files)
    assert (most, lake.status("taps").files) == (MANY + 1, 3)
    assert lake.read("taps").equals(taps(range(3 * MANY), per_day=10_000))


def test_a_sorted_day_is_read_by_its_row_groups_in_its_place_in_the_log(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    before = lake.read("taps")
    with mock.patch("homeostat.lake.compaction.GROUP", 20):
        lake.compact("taps")
    lake.append("taps", taps(range(350, 360)), "fold", 350)
    events = lake.events("taps")
    is_log = [events.is_log(part) for part in events.parts]
    assert is_log == [False] * 15 + [True]
    days = before[:300].with_columns(pl.col("_known_time").dt.date().alias("day"))
    order = ["day", "card", "_event_time", "_tie", "_offset"]
    wanted = pl.concat([days.sort(order).drop("day"), before[300:], taps(range(350, 360))])
    assert everything(events).equals(wanted)
    for part in events.parts:
        cards = events.read(part, ["card"])["card"].drop_nulls()
        bounds = events.bounds(part, "card")
        if len(cards):
            assert bounds is not None
            assert (cards >= bounds[0]).all()
            assert (cards <= bounds[1]).all()
    of_a_card = sum(
        low <= "c3" <= high for low, high in filter(None, map_bounds(events, "card", is_log))
    )
    assert 3 <= of_a_card <= 6, "some row groups of three days"
    together = list(runs(events, range(len(events.parts))))
    assert together == [range(15), range(15, 16)]
    whole = slice(events.parts[0].start, events.parts[14].stop)
    assert events.read(whole, ["x"]).equals(wanted[:300].select("x"))
    assert list(runs(events, [0, 1, 3, 15])) == [range(2), range(3, 4), range(15, 16)]
    with mock.patch("homeostat.features.event_tables.RUN", 45):
        assert list(runs(events, range(5))) == [range(2), range(2, 4), range(4, 5)]


def test_row_groups_whose_offsets_are_the_other_way_round_are_read_together(tmp_path: Path) -> None:
    lake = Lake(tmp_path, keys=KEYS)
    first = taps(range(40)).with_columns(pl.lit("z").alias("card"))
    lake.append("taps", first, "fold", 0)
    lake.append("taps", taps(range(40, 80)).with_columns(pl.lit("a").alias("card")), "fold", 1)
    lake.append("taps", taps(range(100, 101)), "fold", 2)
    wanted = lake.read("taps")
    with mock.patch("homeostat.lake.compaction.GROUP", 10):
        lake.compact("taps")
    events = lake.events("taps")
    assert len(events.parts) == 9
    whole = slice(events.parts[0].start, events.parts[7].stop)
    found = events.read(whole, list(events.schema))
    assert found.equals(pl.concat([events.read(p, list(events.schema)) for p in events.parts[:8]]))
    assert found.sort("_offset").equals(wanted[:80])


@pytest.mark.parametrize("compacted", [False, True])
def test_bounds_of_long_keys_hold(tmp_path: Path, compacted: bool) -> None:
    lake = Lake(tmp_path, keys=KEYS)
    long = taps(range(120), per_day=50).with_columns(
        card="é" * 99 + pl.col("x").cast(pl.String) + pl.lit("\U0010ffff")
    )
    lake.append("taps", long, "fold", 0)
    if compacted:
        lake.compact("taps")
    events = lake.events("taps")
    for part in events.parts:
        cards, bounds = events.read(part, ["card"])["card"], events.bounds(part, "card")
        assert bounds is None or cards.is_between(*bounds).all()
    if compacted:
        assert events.bounds(events.parts[0], "card") is not None


def map_bounds(events: LakeEvents, column: str, is_log: list[bool]) -> list[tuple[str, str] | None]:
    """Return the bounds of a column in each sorted part."""
    parts = zip(events.parts, is_log, strict=True)
    return [events.bounds(part, column) for part, log in parts if not log]


def test_rows_that_come_into_a_sorted_day_follow_it(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    lake.compact("taps")
    late = taps(range(350, 352)).with_columns(_known_time=pl.lit(START + timedelta(hours=1)))
    lake.append("taps", late, "fold", 350)
    wanted = lake.read("taps")
    assert wanted["_offset"].to_list() == list(range(352))
    assert lake.compact("taps").days == 1, "that day is sorted again"
    assert lake.read("taps").equals(wanted)
    assert lake.status("taps").sorted_share == 302 / 352


def test_a_renamed_key_is_sorted_and_never_left_out(tmp_path: Path) -> None:
    old = EventSchema("Tap", (Field("shop", "string"),))
    new = EventSchema("Tap", (Field("card", "string", aliases=("shop",)),))
    lake = Lake(tmp_path, {}, {"taps": old}, {"taps": ("shop",)})
    named = taps(range(100), per_day=50).with_columns(pl.col("card").fill_null("c0"))
    lake.append("taps", named.rename({"card": "shop"}).drop("x"), "fold", 0)
    lake.compact("taps")
    again = Lake(tmp_path, {}, {"taps": new}, KEYS)
    more = taps(range(100, 200), per_day=50).with_columns(pl.col("card").fill_null("c0"))
    again.append("taps", more.drop("x"), "fold", 1)
    wanted = again.read("taps")
    assert again.compact("taps").days == 3, "one was sorted by another name"
    assert again.read("taps").equals(wanted)
    events = again.events("taps")
    assert [events.bounds(part, "card") for part in events.parts] == [None] * len(events.parts)
    assert everything(events).sort("_offset").equals(wanted)
    assert not events.is_log(events.parts[0])


def test_a_compaction_that_fails_leaves_only_files_to_sweep(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    before, there = lake.read("taps"), set((tmp_path / "taps").glob("*/*.parquet"))
    with (
        mock.patch.object(DeltaTable, "create_write_transaction", side_effect=OSError("full")),
        pytest.raises(OSError, match="full"),
    ):
        lake.compact("taps")
    assert lake.read("taps").equals(before)
    left = set((tmp_path / "taps").glob("*/*.parquet")) - there
    assert len(left) == 4
    assert lake.vacuum("taps").files == 0, "younger than the retention"
    assert lake.vacuum("taps", hours=0, dry=True).files == 4
    assert left < set((tmp_path / "taps").glob("*/*.parquet"))
    assert lake.vacuum("taps", hours=0).files == 4
    assert set((tmp_path / "taps").glob("*/*.parquet")) == there
    assert lake.compact("taps").days == 4
    assert lake.read("taps").equals(before)


def test_vacuum_keeps_the_versions_in_use(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    lake.compact("taps")
    lake.append("taps", taps(range(350, 500)), "fold", 350)
    lake.compact("taps")
    now, kept = lake.read("taps"), lake.read("taps", version=5)
    assert lake.vacuum("taps", [5]).files == 0, "all are younger than a week"
    done = lake.vacuum("taps", [5, 999], hours=0)
    assert done.files == 14 - 6 + 2, "small files that version 5 has not; two of a day since closed"
    assert done.bytes > 0
    assert Lake(tmp_path).read("taps").equals(now)
    assert lake.read("taps", version=5).equals(kept)
    assert everything(lake.events("taps", version=5)).equals(kept)
    with pytest.raises(LakeVersionGone) as gone:
        lake.read("taps", version=6)
    assert str(gone.value) == (
        "lake table 'taps': version 6 is gone, 1 of its 7 files were deleted; allowed: the current "
        "version, those that registered models refer to, and those younger than the retention of "
        "`homeostat lake vacuum`; ask for one of them."
    )
    assert lake.vacuum("nothing", hours=0).files == 0
    lake.append("taps", taps(range(500, 501)), "fold", 500)
    assert lake.read("taps").height == 501
