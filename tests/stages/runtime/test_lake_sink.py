"""Commits to the lake beside the fold: each event once, in order, and no failure unheard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, current_thread
from threading import enumerate as threads

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.lake.tables import Lake
from homeostat.runtime.lake_sink import LakeSink

ANY, NEVER = (1, 1), (2**62, 2**62)
"""So little that it is always enough; and so much that it never is."""


class Tap(hs.Event):
    tap: str
    at: hs.Timestamp


TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at")
PAYS = hs.EventSource("pays", Tap, event_id="tap", event_time="at")


class Broken(Exception):
    """What a lake raises here."""


class Lakes(Lake):
    """A lake that waits until it may go on, and fails when it is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may_go, self.began = Event(), Event()
        self.may_go.set()
        self.failures: list[str] = []
        self.by: list[str] = []

    def append(
        self,
        table: str,
        frame: pl.DataFrame,
        application: str,
        version: int,
        day: str = "_known_time",
    ) -> bool:
        self.by.append(current_thread().name)
        self.began.set()
        assert self.may_go.wait(60)
        how = self.failures.pop(0) if self.failures else ""
        if how == "before":
            raise Broken(how)
        done = super().append(table, frame, application, version, day)
        if how == "after":
            raise Broken(how)
        return done


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lakes]:
    yield Lakes(tmp_path)
    assert not [thread for thread in threads() if thread.name.startswith("homeostat-lake")]


def events(first: int, count: int) -> pl.DataFrame:
    offsets = pl.Series("_offset", range(first, first + count), pl.Int64)
    known = (offsets * 1_000_000).cast(pl.Datetime("us", "UTC")).alias("_known_time")
    return pl.DataFrame([offsets, known])


def held(lake: Lake, source: str = "taps") -> list[int]:
    return lake.read(source)["_offset"].to_list() if lake.location.has_table(source) else []


def test_events_come_while_a_commit_is_under_way(lake: Lakes) -> None:
    sink = LakeSink(lake, (TAPS,))
    sink.add("taps", events(0, 5), 4)
    lake.may_go.clear()
    sink.flush_behind(*ANY)
    assert lake.began.wait(60)
    sink.add("taps", events(5, 3), 9)
    assert sink.waiting()[0] == 3
    assert sink.taken_to("taps") == 9
    sink.flush_behind(*NEVER)  # which waits for nothing
    assert held(Lake(lake.folder)) == []
    lake.may_go.set()
    sink.flush()
    assert held(lake) == list(range(8))
    assert lake.application_version("taps", "fold/taps") == 9
    assert sink.waiting() == (0, 0)
    assert lake.by[0].startswith("homeostat-lake")
    assert lake.by[1] == current_thread().name


def test_the_tail_is_what_the_lake_does_not_have(lake: Lakes) -> None:
    sink = LakeSink(lake, (TAPS,))
    assert sink.tail("taps") is None
    sink.add("taps", events(0, 5), 4)
    sink.flush_behind(*ANY)
    sink.add("taps", events(5, 3), 7)
    tail = sink.tail("taps")
    assert tail is not None
    assert held(lake) + tail["_offset"].to_list() == list(range(8))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_that_fails_is_heard_and_made_again(lake: Lakes, when: str) -> None:
    """Also if it is in the lake when it is said to have failed."""
    sink = LakeSink(lake, (TAPS,))
    lake.failures = [when]
    sink.add("taps", events(0, 5), 4)
    sink.flush_behind(*ANY)
    sink.add("taps", events(5, 3), 7)
    with pytest.raises(Broken, match=when):
        sink.settle()
    assert sink.waiting()[0] == 8
    sink.flush_behind(*ANY)
    sink.settle()
    assert held(lake) == list(range(8))


def test_after_a_failure_the_next_commit_is_waited_for(lake: Lakes) -> None:
    """So that who tries again and again fails again and again, and rests longer each time."""
    sink = LakeSink(lake, (TAPS,))
    lake.failures = ["before"] * 3
    sink.add("taps", events(0, 5), 4)
    sink.flush_behind(*ANY)
    with pytest.raises(Broken):
        sink.settle()
    for _ in range(2):
        with pytest.raises(Broken):
            sink.flush_behind(*ANY)
    sink.flush_behind(*ANY)
    assert held(lake) == list(range(5))
    sink.add("taps", events(5, 3), 7)
    sink.flush_behind(*ANY)
    sink.settle()
    assert [name.startswith("homeostat-lake") for name in lake.by] == [
        True, False, False, False, True,
    ]  # fmt: skip


def test_one_source_that_fails_doubles_nothing_of_another(lake: Lakes) -> None:
    sink = LakeSink(lake, (TAPS, PAYS))
    lake.failures = ["", "before"]
    for source in ("taps", "pays"):
        sink.add(source, events(0, 5), 4)
    with pytest.raises(Broken):
        sink.flush()
    for source in ("taps", "pays"):
        sink.add(source, events(5, 3), 7)
    sink.flush()
    assert held(lake, "taps") == held(lake, "pays") == list(range(8))


def test_events_that_were_taken_before_are_left_out(lake: Lakes) -> None:
    """A fold that failed in the store is made again, in other cuts."""
    sink = LakeSink(lake, (TAPS,))
    sink.add("taps", events(0, 5), 4)
    sink.flush_behind(*ANY)
    sink.add("taps", events(0, 9), 8)
    sink.flush()
    again = LakeSink(Lake(lake.folder), (TAPS,))
    again.add("taps", events(3, 9), 11)
    again.flush()
    assert held(lake) == list(range(12))


@settings(max_examples=30, deadline=None)
@given(
    acts=st.lists(
        st.sampled_from(["add", "again", "behind", "behind", "flush", "settle", "new"]), max_size=14
    ),
    failures=st.lists(st.sampled_from(["", "", "before", "after"]), max_size=6),
)
def test_whatever_happens_the_lake_has_each_event_once(
    acts: list[str], failures: list[str]
) -> None:
    with TemporaryDirectory() as folder:
        lake = Lakes(Path(folder))
        sink, end, lake.failures = LakeSink(lake, (TAPS,)), 0, failures
        for act in [*acts, "add", *["flush"] * 8]:
            try:
                if act == "add":
                    sink.add("taps", events(end, 3), end + 3)
                    end += 4
                elif act == "again" and end:
                    sink.add("taps", events(end - 4, 3), end - 1)
                elif act == "behind":
                    sink.flush_behind(4, 2**62)
                elif act == "flush":
                    sink.flush()
                elif act == "settle":
                    sink.settle()
                elif act == "new":  # another process takes up where the lake stands
                    sink.flush()
                    sink = LakeSink(lake, (TAPS,))
            except Broken:
                continue
        assert held(lake) == [offset for offset in range(end) if offset % 4 != 3]
