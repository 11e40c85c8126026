"""An import that is cut off goes on at the next batch; a finished one begins anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import homeostat as hs
from homeostat.ingest.imports import import_of
from homeostat.ingest.sqlite_log import SqliteLog


class Tap(hs.Event):
    tap: str
    at: hs.Timestamp


TAPS = hs.EventSource("taps", Tap, event_id="tap", event_time="at")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteLog]:
    monkeypatch.setattr("homeostat.ingest.files._CHUNK", 3)
    found = SqliteLog(tmp_path / "log.db")
    yield found
    found.close()


def write(path: Path, *names: str) -> Path:
    rows = [{"tap": name, "at": f"2023-11-14T22:00:{i:02}Z"} for i, name in enumerate(names)]
    path.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    return path


def take(log: SqliteLog, path: Path, known: int | None = None, batches: int = 99) -> list[str]:
    """Append at most so many batches; return the names that came."""
    before = log.end("taps").next_offset
    for number, (instants, payloads, steps) in enumerate(import_of(TAPS, path, known, log)):
        if number == batches:
            break
        log.append("taps", instants, payloads, steps)
    return [json.loads(p)["tap"] for p in log.read("taps", before - 1, 99).payloads]


def test_an_import_that_is_cut_off_goes_on(log: SqliteLog, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ndjson", *"abcdefgh")
    assert take(log, path, batches=1) == ["a", "b", "c"]
    assert take(log, path, batches=0) == []
    assert take(log, path, batches=1) == ["d", "e", "f"]
    assert take(log, path) == ["g", "h"]
    assert take(log, path) == list("abcdefgh"), "a whole import is one that may be repeated"


def test_another_file_or_another_clock_begins_anew(log: SqliteLog, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ndjson", *"abcdef")
    assert take(log, path, batches=1) == ["a", "b", "c"]
    assert take(log, path, known=10**17, batches=1) == ["f", "e", "d"], "in the file's own order"
    assert take(log, path, known=2 * 10**17) == ["c", "b", "a"], "any instant gives that order"
    assert take(log, write(path, *"uvwxyz"), batches=1) == ["u", "v", "w"]
    assert take(log, write(path, *"abcd")) == ["a", "b", "c", "d"]
