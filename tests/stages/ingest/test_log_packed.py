"""A log is compressed and packed as it ages: every record is read as it was written."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from homeostat.ingest import segments, sqlite_log
from homeostat.ingest.log import LogDamaged
from homeostat.ingest.sqlite_log import SqliteLog


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let segments be full soon, so that a few records show it."""
    for module in (segments, sqlite_log):
        monkeypatch.setattr(module, "RECORDS", 50)
        monkeypatch.setattr(module, "WORTH", 300)
    monkeypatch.setattr(segments, "OCTETS", 20_000)


def payload(draw: random.Random) -> bytes:
    """Return what compresses, what does not, nothing, and what fills a segment by itself."""
    kind = draw.random()
    if kind < 0.05:
        return b""
    if kind < 0.1:
        return draw.randbytes(draw.randrange(2_000))
    if kind < 0.12:
        return b"long" * draw.randrange(8_000)
    return b'{"card": "card-%d", "amount": %d}' % (draw.randrange(20), draw.randrange(1000))


def plain_release(path: Path) -> None:
    """Make the file as the release before did, with some plain segments."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "CREATE TABLE segments (source TEXT NOT NULL, first INTEGER NOT NULL, "
            "records INTEGER NOT NULL, last_known INTEGER NOT NULL, checksum INTEGER NOT NULL, "
            "known BLOB NOT NULL, ends BLOB NOT NULL, body BLOB NOT NULL, "
            "PRIMARY KEY (source, first))"
        )
        for first in range(0, 200, 40):
            known = np.arange(first, first + 40).astype("<i8").tobytes()
            ends = np.arange(1, 41).astype("<u4").tobytes()
            body = b"x" * 40
            row = ("taps", first, 40, first + 39, segments._checksum(known, ends, body))
            db.execute("INSERT INTO segments VALUES (?,?,?,?,?,?,?,?)", (*row, known, ends, body))
        db.commit()


def rows(path: Path) -> list[tuple[int, int, int | None]]:
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT first, records, size FROM segments ORDER BY first")
        return [(int(first), int(records), size) for first, records, size in found]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_read_is_what_was_written_whatever_is_packed(tmp_path: Path, seed: int) -> None:
    draw, written = random.Random(seed), list[tuple[int, bytes]]()
    path, gone = tmp_path / "log.db", 0
    if seed % 3 == 0:
        plain_release(path)
        written = [(n, b"x") for n in range(200)]
    log, other = SqliteLog(path), SqliteLog(path)
    for _ in range(60):
        match draw.choice(("append", "append", "one", "pack", "read", "read", "trim", "reopen")):
            case "append" | "one" as how:
                count = 1 if how == "one" else draw.randrange(120)
                last = written[-1][0] if written else 0
                known = [max(last + draw.randrange(-5, 50), 0) for _ in range(count)]
                payloads = [payload(draw) for _ in range(count)]
                log.append("taps", known, payloads)
                written += zip(
                    np.maximum.accumulate([last, *known])[1:].tolist(), payloads, strict=True
                )
            case "pack":
                draw.choice((log, other)).pack("taps")
            case "trim":
                log.trim("taps", draw.randrange(len(written) + 1) // 4)
                gone = log.end("taps").first_offset
            case "reopen":
                log.close()
                log = SqliteLog(path)
            case _:
                after = draw.randrange(gone - 1, len(written)) if len(written) > gone else gone - 1
                limit = draw.randrange(1, 200)
                batch = draw.choice((log, other)).read("taps", after, limit)
                found = list(zip(batch.known.tolist(), batch.payloads, strict=True))
                assert found == written[after + 1 : after + 1 + len(found)]
                assert len(found) == min(limit, max(len(written) - after - 1, 0))
        assert log.end("taps").next_offset == len(written)
    while log.pack("taps"):
        pass
    batch = other.read("taps", gone - 1, len(written) + 1)
    assert list(zip(batch.known.tolist(), batch.payloads, strict=True)) == written[gone:]
    log.close()
    other.close()


def test_pushes_of_single_records_become_full_compressed_segments(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path)
    for n in range(230):
        log.append("taps", [n], [b'{"card": "card-%d", "amount": 12}' % (n % 7)])
    assert len(rows(path)) == 230
    assert [log.pack("taps") for _ in range(6)] == [50, 50, 50, 50, 0, 0]
    assert [(first, count) for first, count, _ in rows(path)[:5]] == [
        (0, 50), (50, 50), (100, 50), (150, 50), (200, 1)
    ]  # fmt: skip
    assert all(size is not None for _, _, size in rows(path)[:4])
    log.close()


def test_what_a_release_before_wrote_is_packed_once(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    plain_release(path)
    log = SqliteLog(path)
    log.append("taps", [500] * 60, [b"y" * 20] * 60)
    packed = [log.pack("taps") for _ in range(8)]
    assert packed[-1] == 0
    before = rows(path)
    assert [log.pack("taps") for _ in range(3)] == [0, 0, 0]
    log.close()
    again = SqliteLog(path)
    while again.pack("taps"):
        pass
    assert rows(path) == before
    batch = again.read("taps", -1, 1_000)
    assert list(batch.payloads) == [b"x"] * 200 + [b"y" * 20] * 60
    again.close()


def test_a_flipped_byte_is_named_and_never_packed_away(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path)
    for n in range(4):
        log.append("taps", list(range(20 * n, 20 * n + 20)), [b"a payload of its own"] * 20)
    with closing(sqlite3.connect(path)) as db:
        (body,) = db.execute("SELECT body FROM segments WHERE first = 20").fetchone()
        flipped = bytes([body[0] ^ 1]) + body[1:]
        db.execute("UPDATE segments SET body = ? WHERE first = 20", (flipped,))
        db.commit()
    with pytest.raises(LogDamaged, match="20"):
        log.pack("taps")
    with pytest.raises(LogDamaged):
        log.read("taps", 19, 10)
    assert len(log.read("taps", -1, 20)) == 20
    log.close()
