"""JSON files: lines, or one text that is taken when it is whole; however they are cut or grow."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import ManualClock
from homeostat.ingest.feed import Landing
from homeostat.ingest.files import FileInvalid, payloads_of
from homeostat.ingest.folder import FolderFeed
from homeostat.ingest.json_files import JsonUnended, records_in
from homeostat.ingest.sqlite_log import SqliteLog

NOW = 1_709_600_000_000_000


class Sale(hs.Event):
    sale: str
    at: hs.Timestamp
    note: str | None


SALES = hs.EventSource("sales", Sale, event_id="sale", event_time="at", lateness="520w")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["[", "},"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=4)


def events(count: int) -> list[dict[str, Any]]:
    notes = ["x", "a, b", "[1]", "two\nlines", None]
    return [
        {"sale": f"s{i}", "at": "2024-03-04T09:00:00Z", "note": notes[i % 5]} for i in range(count)
    ]


def written(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {
        "lines": "".join(json.dumps(row) + "\n" for row in rows),
        "returns": "".join(json.dumps(row) + "\r" for row in rows),
        "returns and feeds": "".join(json.dumps(row) + "\r\n" for row in rows),
        "array": json.dumps(rows),
        "pretty array": json.dumps(rows, indent=2),
        "a row a line": "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
        "pretty values": "\n".join(json.dumps(row, indent=1) for row in rows),
    }


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(p) for _, payloads in payloads_of(SALES, path, NOW) for p in payloads]


@given(rows=st.lists(objects, max_size=6))
@settings(deadline=None, max_examples=100)
def test_every_form_says_the_same(rows: list[dict[str, Any]]) -> None:
    for name, text in written(rows).items():
        if name == "pretty values" and any(not row for row in rows):
            continue  # "{}" on its line is JSON lines
        assert [json.loads(p) for p in records_in(text.encode())] == rows, name
        assert [json.loads(p) for p in records_in(b"\xef\xbb\xbf" + text.encode())] == rows, name


def test_a_bad_element_is_one_record() -> None:
    found = list(records_in(b'[{"a": 1}, nul, {"b": [nope]}, {"c": 2}]'))
    assert found[0] == b'{"a": 1}'
    assert found[1] == b"nul"
    assert found[-1] == b'{"c": 2}'
    assert list(records_in(b"[]")) == list(records_in(b"")) == []


@pytest.mark.parametrize(
    "text", ["[", '[{"a": 1},', '[{"a": 1}', '[{"a": "x', '{\n "a": 1', '[{"a": 1}]]', "[1,]2"]
)
def test_what_never_ends_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(JsonUnended):
        records_in(text.encode())
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(FileInvalid, match="allowed: JSON lines, or one array"):
        read(path)


def test_a_field_that_no_record_has_is_said_with_the_key_like_it(tmp_path: Path) -> None:
    rows = [{"sale": f"s{i}", "at": "2024-03-04T09:00:00Z", "notes": "x"} for i in range(3)]
    feed = hs.Folder(str(tmp_path / "in"), quiet="0s")
    system = hs.System("shop", sources=(replace(SALES, feed=feed),))
    words = "none of the first 3 records has 'note'; 'notes' is nearest"
    with hs.open(system, tmp_path / "home", ManualClock(NOW)) as app:
        assert app.ingest("sales", rows).notes == (words,)
        assert app.ingest("sales", [*rows, {**rows[0], "note": "y"}]).notes == ()
        (tmp_path / "in").mkdir()
        for name, text in written(rows).items():
            path = tmp_path / "in" / f"{name}.json"
            path.write_text(text)
            assert app.ingest("sales", path).notes == (words,), name
            assert app.pull("sales").notes == (f"sales: {name}.json: {words}",), name
        assert app.pull("sales").notes == ()


def test_a_bad_first_line_costs_no_other() -> None:
    assert list(records_in(b'[1, 2]\n{"a": 1}\n')) == [b"[1, 2]", b'{"a": 1}']
    assert list(records_in(b'{\n{"a": 1}\n')) == [b"{", b'{"a": 1}']


@pytest.mark.parametrize("form", written([]))
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_grows_gives_each_record_once(tmp_path: Path, form: str, packed: bool) -> None:
    rows, draw = events(12), random.Random(form)
    text = written(rows)[form].encode()
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / ("x.json.gz" if packed else "x.json")
    feed = hs.Folder(str(folder), every="1s", quiet="1h")
    log, clock, told = SqliteLog(tmp_path / "log.db"), ManualClock(NOW), list[str]()
    taken = FolderFeed(feed, Landing(replace(SALES, feed=feed), log, clock, told.append))
    cuts = sorted(draw.sample(range(1, len(text)), 5))
    body = gzip.compress(text) if packed else text  # once: its head holds the instant
    for end in [*cuts, len(text)]:
        path.write_bytes(body[: end if end < len(text) else None])
        clock.advance_to(clock.now() + 5_000_000)
        list(taken.take())
    list(taken.take(force=True))
    found = [json.loads(payload) for payload in log.read("sales", -1, 10**6).payloads]
    log.close()
    assert found == read(path) == rows
    waits = form in ("array", "pretty array", "a row a line", "pretty values") and not packed
    assert (len(told) > 0) == waits or packed


def test_an_array_that_is_written_again_is_taken_again(tmp_path: Path) -> None:
    system = hs.System("shop", sources=(replace(SALES, feed=hs.Folder(str(tmp_path / "in"))),))
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "x.json"
    with hs.open(system, tmp_path / "home", ManualClock(NOW)) as app:
        for count in (3, 5):
            path.write_text(json.dumps(events(count), indent=1))
            app.pull("sales")
            assert app.pull("sales").records == 0
        assert app.sql("SELECT COUNT(*) FROM sales").item() == 5
