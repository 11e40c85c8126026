"""The log keeps every record, in order, once, through any cut and any kill."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import sleep

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.core.errors import HomeostatError
from homeostat.ingest import segments
from homeostat.ingest.log import LogDamaged, LogEnd, PayloadTooLarge
from homeostat.ingest.sqlite_log import SqliteLog

appends = st.lists(
    st.lists(st.tuples(st.integers(-(2**60), 2**60), st.binary(max_size=12)), max_size=9),
    max_size=6,
)


@settings(max_examples=30, deadline=None)
@given(batches=appends, limits=st.lists(st.integers(1, 7), min_size=1), records=st.integers(1, 5))
def test_what_is_appended_is_read_back_in_any_cut(
    batches: list[list[tuple[int, bytes]]], limits: list[int], records: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "RECORDS", records)
        patch.setattr(segments, "OCTETS", 20)
        log = SqliteLog(Path(folder) / "log.sqlite")
        written: list[tuple[int, bytes]] = []
        for batch in batches:
            first = log.append("a", [known for known, _ in batch], [body for _, body in batch])
            assert first == len(written)
            for known, body in batch:
                written.append((max(known, written[-1][0]) if written else known, body))
        log.append("b", [0], [b"other"])
        last = written[-1][0] if written else None
        assert log.end("a") == LogEnd(len(written), last)
        seen: list[tuple[int, bytes]] = []
        for turn in range(len(written) + 1):
            found = log.read("a", len(seen) - 1, limits[turn % len(limits)])
            assert found.offsets.tolist() == list(range(len(seen), len(seen) + len(found)))
            seen += zip(found.known.tolist(), found.payloads, strict=True)
        assert seen == written
        for instant in [known for known, _ in written]:
            before = log.read("a", -1, 1_000, known_before=instant)
            assert list(before.payloads) == [body for known, body in written if known < instant]
        log.close()


def test_a_read_starts_anywhere_and_again(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    payloads = [str(i).encode() for i in range(20_000)]
    log.append("a", np.arange(20_000), payloads)
    for after in (-1, 8_190, 8_191, 8_192, 19_998, 3, 19_999, 50_000, -7):
        found = log.read("a", after, 5)
        assert list(found.payloads) == payloads[max(after, -1) + 1 :][:5]
    assert list(log.read("a", 100, 18_000).payloads) == payloads[101:18_101]
    assert len(log.read("nothing", -1, 5)) == 0
    assert log.end("nothing") == LogEnd(0, None)
    log.close()


def test_a_sequential_read_opens_each_segment_once(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    log.append("a", [0] * 20_000, [b"x"] * 20_000)
    opened: list[str] = []
    log._db.set_trace_callback(opened.append)
    after = -1
    while batch := log.read("a", after, 100):
        after = int(batch.offsets[-1])
    assert after == 19_999
    assert len(opened) <= 4, "one statement per segment and one at the end"
    log.close()


def test_two_handles_share_one_log(tmp_path: Path) -> None:
    one, two = SqliteLog(tmp_path / "log.sqlite"), SqliteLog(tmp_path / "log.sqlite")
    assert one.append("a", [5], [b"x"]) == 0
    assert len(two.read("a", -1, 9)) == 1
    assert two.append("a", [4, 6], [b"y", b"z"]) == 1
    assert one.read("a", -1, 9).payloads == [b"x", b"y", b"z"]
    assert one.read("a", -1, 9).known.tolist() == [5, 5, 6]
    one.close()
    two.close()


def test_mistakes_are_refused_and_leave_no_trace(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    with pytest.raises(HomeostatError, match="2 known times for 1 payloads"):
        log.append("a", [1, 2], [b"x"])
    with pytest.raises(PayloadTooLarge, match=r"'a': a payload has 67,108,865 bytes"):
        log.append("a", [1, 2], [b"x", b"y" * (2**26 + 1)])
    with pytest.raises(OverflowError):
        log.append("a", [2**63], [b"x"])
    assert log.end("a") == LogEnd(0, None)
    assert log.append("a", [1], [b"after"]) == 0
    log.close()


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    log.append("a", [1], [b"x"])
    log.close()
    with sqlite3.connect(tmp_path / "log.sqlite") as database:
        database.execute("UPDATE segments SET body = ?", (b"y",))
    database.close()
    log = SqliteLog(tmp_path / "log.sqlite")
    with pytest.raises(LogDamaged, match="from offset 0 fail their checksum"):
        log.read("a", -1, 1)
    log.close()


APPENDER = """
import sys
from pathlib import Path
from homeostat.ingest.sqlite_log import SqliteLog
log = SqliteLog(Path(sys.argv[1]))
while True:
    first = log.end("a").next_offset
    log.append("a", range(first, first + 50), [str(first + i).encode() * 40 for i in range(50)])
    print(first + 50, flush=True)
"""


def test_sigkill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    for acknowledgements in (1, 2, 5, 17, 40):
        child = subprocess.Popen([sys.executable, "-c", APPENDER, path], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(acknowledgements):
            acknowledged = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        child.communicate()
        log = SqliteLog(path)
        found = log.read("a", -1, 1_000_000)
        log.close()
        assert len(found) >= acknowledged
        assert len(found) % 50 == 0, "a batch is there whole or not at all"
        assert found.known.tolist() == list(range(len(found)))
        assert list(found.payloads) == [str(i).encode() * 40 for i in range(len(found))]


def test_reading_waits_for_no_append(tmp_path: Path) -> None:
    """Another process holds the file's write lock, so an append of this one waits meanwhile."""
    log = SqliteLog(tmp_path / "log.db")
    log.append("taps", [1, 2], [b"a", b"b"])
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    appending = Thread(target=log.append, args=("taps", [3], [b"c"]))
    appending.start()
    while not log._lock.locked():
        sleep(0.001)
    found = (list(log.read("taps", -1, 10).payloads), log.end("taps").next_offset)
    assert appending.is_alive()
    other.execute("COMMIT")
    other.close()
    appending.join()
    assert found == ([b"a", b"b"], 2)
    assert (list(log.read("taps", 1, 10).payloads), log.end("taps").next_offset) == ([b"c"], 3)
    log.close()
