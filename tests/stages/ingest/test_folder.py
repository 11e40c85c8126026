"""A watched folder is taken in as it comes and grows: each record once, whatever happens."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import ManualClock
from homeostat.ingest.feed import Landing
from homeostat.ingest.folder import FolderFeed, FolderInvalid
from homeostat.ingest.refusals import refusal_of
from homeostat.ingest.sqlite_log import SqliteLog

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


class Tap(hs.Event):
    tap: str
    at: hs.Timestamp
    note: str | None


TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at")


class Watched:
    """A folder, the log its files go to, and a feed that may be made anew."""

    def __init__(self, folder: Path, **given: object) -> None:
        self.folder = folder / "incoming"
        self.folder.mkdir()
        self.log = SqliteLog(folder / "log.db")
        self.clock = ManualClock(START)
        self.notes: list[str] = []
        self.feed = hs.Folder(str(self.folder), **{"files": "**/*", **given})  # type: ignore[arg-type]
        self.restart()

    def restart(self) -> None:
        source = replace(TAPS, feed=self.feed)
        self._feed = FolderFeed(self.feed, Landing(source, self.log, self.clock, self.notes.append))

    def look(self, *, after_s: int = 5, force: bool = False) -> list[str]:
        """Look once, later; return the ids of the records that came."""
        self.clock.advance_to(self.clock.now() + after_s * SECOND)
        before = self.log.end("taps").next_offset
        for _ in self._feed.take(force=force):
            pass
        return [_id(p) for p in self.log.read("taps", before - 1, 10**6).payloads]

    def every(self) -> list[str]:
        return [_id(p) for p in self.log.read("taps", -1, 10**6).payloads]


def _id(payload: bytes) -> str:
    refusal = refusal_of(payload)
    if refusal is not None:
        return refusal.received.decode(errors="replace")
    try:
        return str(json.loads(payload)["tap"])
    except ValueError:
        return payload.decode(errors="replace")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    found = Watched(tmp_path)
    yield found
    found.log.close()


def line(name: str, **more: str) -> str:
    return json.dumps({"tap": name, "at": "2023-11-14T22:00:00Z", **more}) + "\n"


def row(name: str, note: str = "") -> str:
    return f'{name},2023-11-14T22:00:00Z,"{note}"\n'


HEADER = "tap,at,note\n"


def table(*names: str) -> pl.DataFrame:
    rows = [{"tap": name, "at": "2023-11-14T22:00:00Z", "note": None} for name in names]
    return pl.DataFrame(rows, schema_overrides={"note": pl.String})


def test_every_kind_of_file_is_taken_once_in_the_order_of_names(watched: Watched) -> None:
    (watched.folder / "b.ndjson").write_text(line("b1"))
    (watched.folder / "a.csv").write_text(HEADER + row("a1") + row("a2"))
    (watched.folder / "deep").mkdir()
    (watched.folder / "deep" / "c.jsonl.gz").write_bytes(gzip.compress(line("c1").encode()))
    (watched.folder / "deep" / "f.csv.gz").write_bytes(gzip.compress((HEADER + row("f1")).encode()))
    (watched.folder / ".uploading.csv").write_text("never")
    table("d1", "d2").write_parquet(watched.folder / "d.parquet")
    table("e1").write_ipc(watched.folder / "e.arrow")
    assert watched.look() == ["a1", "a2", "b1", "d1", "d2", "c1", "f1", "e1"]
    assert watched.look() == []
    watched.restart()
    assert watched.look() == []
    with (watched.folder / "a.csv").open("a") as file:
        file.write(row("a3"))
    with (watched.folder / "b.ndjson").open("a") as file:
        file.write(line("b2"))
    assert watched.look() == ["a3", "b2"]
    assert watched.notes == []


def test_records_are_known_when_they_are_taken_or_as_declared(tmp_path: Path) -> None:
    for history in (False, True):
        (tmp_path / str(history)).mkdir()
        watched = Watched(tmp_path / str(history), history=history)
        (watched.folder / "a.ndjson").write_text(line("a1"))
        watched.look()
        happened = 1_699_999_200 * SECOND
        known = watched.log.read("taps", -1, 9).known.tolist()
        assert known == [happened if history else watched.clock.now()]
        watched.log.close()


def test_what_has_no_clock_is_known_with_the_record_before_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, history=True)
    path = watched.folder / "a.ndjson"
    path.write_text("{\n" + line("a1"))
    watched.look()
    with path.open("a") as file:
        file.write("{\n" + line("a2").replace("22:00:00", "22:00:09"))
    watched.look()
    known = watched.log.read("taps", -1, 9).known - 1_699_999_200 * SECOND
    assert known.tolist() == [0, 0, 0, 9 * SECOND]
    watched.log.close()


def test_a_clock_that_is_far_ahead_holds_up_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path, history=True)
    path = watched.folder / "a.ndjson"
    path.write_text(line("a1") + line("a2").replace("2023", "2099") + line("a3"))
    watched.look()
    (watched.folder / "b.ndjson").write_text(line("b1").replace("22:00:00", "22:00:09"))
    watched.look()
    known = watched.log.read("taps", -1, 9).known - 1_699_999_200 * SECOND
    assert known.tolist() == [0, 0, 0, 9 * SECOND]
    watched.log.close()


def test_a_last_line_without_its_end_waits_until_the_file_is_quiet(watched: Watched) -> None:
    lines, csv = watched.folder / "a.ndjson", watched.folder / "b.csv"
    lines.write_text(line("a1") + '{"tap":"a2","at":"2023-11-14T22:00:00Z"}')
    csv.write_text(HEADER + row("b1") + row("b2", "two\nlines").rstrip())
    assert watched.look() == ["a1", "b1"]
    assert watched.look(after_s=30) == []
    assert watched.look(after_s=31) == ["a2", "b2"]
    assert watched.look(after_s=90) == []
    watched.restart()
    assert watched.look(after_s=90) == []


def test_a_line_that_goes_on_after_it_was_taken_is_taken_whole(watched: Watched) -> None:
    path = watched.folder / "a.ndjson"
    path.write_text(line("a1") + '{"tap":"a2","at"')
    assert watched.look() == ["a1"]
    assert watched.look(after_s=61) == ['{"tap":"a2","at"']
    with path.open("a") as file:
        file.write(':"2023-11-14T22:00:00Z"}\n' + line("a3"))
    assert watched.look() == ["a2", "a3"]
    with path.open("a") as file:
        file.write(line("a4").rstrip())
    assert watched.look(force=True) == ["a4"]
    with path.open("a") as file:
        file.write("\n" + line("a5"))
    assert watched.look() == ["a5"]


def test_quotes_may_hold_line_breaks_and_odd_rows_stay_as_they_are(watched: Watched) -> None:
    path = watched.folder / "a.csv"
    path.write_bytes(HEADER.encode() + row("a1", "x\ny").encode() + b'a2,2023-11-14T22:00:00Z,"p\n')
    assert watched.look() == ["a1"]
    with path.open("ab") as file:
        file.write(b'q"\none,two,three,four\n\xff\xfe,x,\n' + row("a3").encode())
    assert watched.look() == ["a2", "one,two,three,four", "\ufffd\ufffd,x,", "a3"]
    assert b'"note":"p\\nq"' in watched.log.read("taps", 0, 1).payloads[0]


def test_a_table_is_taken_when_it_is_whole_and_holds_up_no_other(watched: Watched) -> None:
    whole = watched.folder / "whole.parquet"
    table("a1", "a2").write_parquet(whole)
    body = whole.read_bytes()
    whole.unlink()
    part, zipped = watched.folder / "a.parquet", watched.folder / "b.ndjson.gz"
    packed = gzip.compress(line("b1").encode())
    part.write_bytes(body[:-20])
    zipped.write_bytes(packed[:-3])
    (watched.folder / "c.ndjson").write_text(line("c1"))
    assert watched.look() == ["c1"]
    assert [note.split(":")[0] for note in watched.notes] == ["a.parquet", "b.ndjson.gz"]
    assert "its end is missing; allowed: a file that is whole" in watched.notes[0]
    assert "Truncated compressed stream; allowed: a file that is whole" in watched.notes[1]
    assert watched.look() == []
    assert len(watched.notes) == 2, "the same is said once"
    part.write_bytes(body)
    zipped.write_bytes(packed)
    assert watched.look() == ["a1", "a2", "b1"]
    assert len(watched.notes) == 2


def test_a_file_that_changed_is_taken_anew_and_said_so(watched: Watched) -> None:
    csv, packed = watched.folder / "a.csv", watched.folder / "b.parquet"
    csv.write_text(HEADER + row("a1") + row("a2"))
    table("b1").write_parquet(packed)
    watched.look()
    packed.touch()
    csv.touch()
    assert watched.look() == []
    csv.write_text(HEADER + row("x1") + row("x2") + row("x3"))
    table("y1", "y2").write_parquet(packed)
    assert watched.look() == ["x1", "x2", "x3", "y1", "y2"]
    assert [note.split(":")[0] for note in watched.notes] == ["a.csv", "b.parquet"]
    assert "it changed after it was taken" in watched.notes[0]
    csv.write_text(HEADER + row("z1"))
    assert watched.look() == ["z1"], "a shorter one, too"


def write_again(path: Path, text: str) -> None:
    """Write a file, visibly later than it was written before."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before, before + 1_000_000_000))


@pytest.mark.parametrize("restart", [False, True])
def test_an_edit_in_the_middle_is_seen(watched: Watched, restart: bool) -> None:
    path, names = watched.folder / "a.ndjson", [f"a{n:03}" for n in range(400)]
    text = "".join(map(line, names))
    path.write_text(text)
    assert watched.look() == names
    if restart:
        watched.restart()
    write_again(path, text)
    assert watched.look() == []
    (sums,) = {p for s, p in watched.log.positions("taps").items() if s == "file/a.ndjson"}
    assert watched.look() == []
    assert watched.log.positions("taps")["file/a.ndjson"] == sums
    edited = text.replace("a200", "b200")
    write_again(path, edited)
    assert (len(edited), edited[:4096], edited[-4096:]) == (len(text), text[:4096], text[-4096:])
    assert watched.look() == [*names[:200], "b200", *names[201:]]
    assert "it changed after it was taken" in watched.notes[0]
    with path.open("a") as file:
        file.write(line("c"))
    assert watched.look() == ["c"]
    write_again(path, edited.replace("a201", "b201") + line("c"))
    assert watched.look()[201] == "b201", "what was added is compared, too"


def test_a_line_that_went_on_is_compared_as_well(watched: Watched) -> None:
    path, half = watched.folder / "a.ndjson", line("a2").rstrip()
    path.write_text(line("a1") + half[:9])
    assert watched.look(force=True) == ["a1", half[:9]]
    path.write_text(line("a1") + half + "\n")
    assert watched.look() == ["a2"]
    write_again(path, path.read_text())
    assert watched.look() == []
    assert watched.notes == []


def test_what_cannot_be_read_is_said_once_and_tried_again(watched: Watched) -> None:
    loop, wrong = watched.folder / "a.csv", watched.folder / "b.csv"
    loop.symlink_to(loop)
    os.mkfifo(watched.folder / "pipe.csv")
    wrong.write_text("tip,at\nb1,2023-11-14T22:00:00Z\n")
    (watched.folder / "c.xlsx").write_text("?")
    (watched.folder / "d.parquet").write_bytes(b"PAR1 no table PAR1")
    (watched.folder / "e.ndjson").write_text(line("e1"))
    assert watched.look() == ["e1"]
    said = dict(note.split(": ", 1) for note in watched.notes)
    assert sorted(said) == ["a.csv", "b.csv", "c.xlsx", "d.parquet"]
    assert "cannot be read" in said["a.csv"]
    assert "Did you mean 'tip'?" in said["b.csv"]
    assert "allowed: .csv" in said["c.xlsx"]
    watched.look()
    assert len(watched.notes) == 4
    loop.unlink()
    loop.write_text(HEADER + row("a1"))
    wrong.write_text(HEADER + row("b1"))
    assert watched.look() == ["a1", "b1"]


def test_a_file_that_vanished_before_its_end_is_said(watched: Watched) -> None:
    done, half = watched.folder / "a.ndjson", watched.folder / "b.ndjson"
    done.write_text(line("a1"))
    half.write_text(line("b1") + '{"tap"')
    assert watched.look() == ["a1", "b1"]
    done.unlink()
    half.unlink()
    assert watched.look() == []
    assert watched.notes == ["b.ndjson: it is gone, and its end was not taken"]


def test_a_folder_that_is_not_there_is_an_error_until_it_is(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.folder.rmdir()
    with pytest.raises(FolderInvalid, match="there is no such folder; allowed"):
        watched.look()
    watched.folder.mkdir()
    (watched.folder / "a.ndjson").write_text(line("a1"))
    assert watched.look() == ["a1"]
    watched.log.close()


def test_nothing_is_written_into_the_folder(watched: Watched) -> None:
    (watched.folder / "a.ndjson").write_text(line("a1"))
    watched.folder.chmod(0o500)
    before = watched.folder.stat().st_mtime_ns
    assert watched.look() == ["a1"]
    assert watched.folder.stat().st_mtime_ns == before
    assert [path.name for path in watched.folder.iterdir()] == ["a.ndjson"]


def test_a_folder_is_looked_at_as_often_as_declared(tmp_path: Path) -> None:
    watched = Watched(tmp_path, every="10s")
    names = iter(["a1", "a2", "a3", "a4"])

    def look(after_s: int) -> list[str]:
        with (watched.folder / "a.ndjson").open("a") as file:
            file.write(line(next(names)))
        return watched.look(after_s=after_s)

    assert [look(0), look(9), look(1)] == [["a1"], [], ["a2", "a3"]]
    watched.log.close()


def test_a_folder_with_a_cron_expression_waits_for_its_instants(tmp_path: Path) -> None:
    watched = Watched(tmp_path, cron="0 * * * *")  # the clock begins at 22:13:20
    (watched.folder / "a.ndjson").write_text(line("a1"))
    assert watched.look(after_s=0) == []
    assert watched.look(after_s=46 * 60) == []
    assert watched.look(after_s=60) == ["a1"]
    (watched.folder / "b.ndjson").write_text(line("b1"))
    watched.restart()
    assert watched.look(after_s=60) == [], "the run of this hour was made"
    watched.restart()
    assert watched.look(after_s=7200) == ["b1"], "the runs missed are caught up by one"
    watched.log.close()


def test_a_line_longer_than_any_event_is_cut_and_the_next_one_taken(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeostat.ingest.lines.LONGEST", 8 << 20)
    path = watched.folder / "a.ndjson"
    path.write_text(line("a1") + '{"tap":"' + "x" * (20 << 20))
    assert watched.look() == ["a1"]
    with path.open("a") as file:
        file.write('"}\n' + line("a2"))
    cut, after = watched.look()
    assert (len(cut), after) == (64 << 10, "a2")


@given(
    csv=st.booleans(),
    notes=st.lists(st.text(st.sampled_from('a",\n\r'), max_size=6), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 1 << 16), max_size=8),
    seed=st.integers(0, 2**32),
)
def test_however_a_file_grows_and_whenever_a_look_is_cut_off_each_record_comes_once(
    tmp_path_factory: pytest.TempPathFactory,
    csv: bool,
    notes: list[str],
    cuts: list[int],
    seed: int,
) -> None:
    draw = random.Random(seed)
    names = [f"n{i}" for i in range(len(notes))]
    if csv:
        doubled = [note.replace('"', '""') for note in notes]
        text = HEADER + "".join(row(n, note) for n, note in zip(names, doubled, strict=True))
    else:
        text = "".join(line(n, note=note) for n, note in zip(names, notes, strict=True))
    body = text.encode()
    watched = Watched(tmp_path_factory.mktemp("grows"))
    path = watched.folder / ("a.csv" if csv else "a.ndjson")
    ends = sorted({cut % (len(body) + 1) for cut in cuts} | {len(body)})
    for end in ends:
        path.write_bytes(body[:end])
        if draw.random() < 0.5:
            for _ in watched._feed.take():
                break  # as if killed between two commits
            watched.restart()
        watched.look(after_s=draw.choice([1, 5, 20]))
        if draw.random() < 0.3:
            watched.restart()
    watched.look(after_s=10)
    assert watched.every() == names
    said = [json.loads(p).get("note") for p in watched.log.read("taps", -1, 99).payloads]
    assert [note or "" for note in said] == notes
    watched.log.close()
