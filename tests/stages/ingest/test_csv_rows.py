"""A CSV row that is none is one dead letter with its line, in every way in; the others are rows."""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import ManualClock
from homeostat.ingest.csv_records import GOOD, RAGGED, STRAY, UNCLOSED, records
from homeostat.ingest.csv_rows import HeaderInvalid, cells_of
from homeostat.ingest.feed import Landing
from homeostat.ingest.files import payloads_of
from homeostat.ingest.folder import FolderFeed
from homeostat.ingest.refusals import refusal_of
from homeostat.ingest.sqlite_log import SqliteLog


class Sale(hs.Event):
    sale: str
    at: hs.Timestamp
    amount: float | None
    note: str | None


SALES = hs.EventSource("sales", Sale, event_id="sale", event_time="at", lateness="520w")
HEADER = "sale,at,amount,note\n"
AT = "2024-03-04T09:00:00Z"
NOW = 1_709_600_000_000_000


def slow_record(text: str, at: int, end: int, ended: bool) -> tuple[int, int, int, int]:
    """(end, cells, kind, begin of the cell at fault) of a record, character by character."""
    cells, cell, quoted = 1, at, False
    place = at
    while place < end:
        letter = text[place]
        if quoted:
            if letter == '"' and text[place + 1 : place + 2] == '"' and place + 1 < end:
                place += 1
            elif letter == '"':
                quoted = False
                rest = text[place + 1 : min(place + 3, end)]
                if rest == "\r" and not ended:
                    return -1, 0, 0, 0
                if rest and rest[0] not in ",\n" and rest != "\r\n" and rest != "\r":
                    return place, cells, STRAY, cell
        elif letter == '"':
            if place != cell:
                return place, cells, STRAY, cell
            quoted = True
        elif letter == ",":
            cells, cell = cells + 1, place + 1
        elif letter == "\n":
            return place + 1, cells, GOOD, cell
        place += 1
    if not ended:
        return -1, 0, 0, 0
    return end, cells, UNCLOSED if quoted else GOOD, cell


def slow_records(text: str, cells: int, ended: bool) -> tuple[list[tuple[int, int, int]], int]:
    """(begin, end, kind) of each record, and how much of the text they take."""
    found: list[tuple[int, int, int]] = []
    at = 0

    def line_end(place: int) -> int:
        return text.find("\n", place) + 1 or (len(text) if ended else -1)

    while at < len(text):
        line = text[at : text.find("\n", at) + 1 or len(text)]
        if not line.strip(" \r\n"):
            if not line.endswith("\n") and not ended:
                break
            at += len(line)
            continue
        end, number, kind, cell = slow_record(text, at, len(text), ended)
        if end < 0:
            break
        if kind == GOOD and number != cells:
            kind = RAGGED
        elif kind != GOOD:
            end = line_end(cell)
            if end < 0:
                break
        begin = at + len(line)
        while kind != GOOD and begin < end:
            after = text.find("\n", begin) + 1 or len(text)
            inner = slow_record(text, begin, after, ended=True)
            if inner[:3] == (after, cells, GOOD):
                end = at + len(line)
            begin = after
        found.append((at, end, kind))
        at = end
    return found, at


@settings(max_examples=1_500, deadline=None)
@given(
    text=st.text(st.sampled_from('a,"\n\r "'), max_size=40),
    cells=st.integers(1, 4),
    ended=st.booleans(),
)
def test_records_are_found_as_character_by_character(text: str, cells: int, ended: bool) -> None:
    found, used = records(np.frombuffer(text.encode(), np.uint8), ord(","), cells, ended, 10)
    assert ([tuple(row[:3]) for row in found.tolist()], used) == slow_records(text, cells, ended)


@settings(max_examples=400, deadline=None)
@given(
    text=st.text(st.sampled_from('a,"\r '), max_size=40),
    cells=st.integers(1, 4),
    ended=st.booleans(),
)
def test_lines_that_end_with_returns_are_as_those_with_feeds(
    text: str, cells: int, ended: bool
) -> None:
    fed = np.frombuffer(text.replace("\r", "\n").encode(), np.uint8)
    found, used = records(np.frombuffer(text.encode(), np.uint8), ord(","), cells, ended, 13)
    other, so_far = records(fed, ord(","), cells, ended, 10)
    assert (found.tolist(), used) == (other.tolist(), so_far)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.text(st.sampled_from('a,"\n é')), min_size=2, max_size=2), max_size=5))
def test_cells_are_those_of_the_standard_reader(rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    found, _ = records(np.frombuffer(text.getvalue().encode(), np.uint8), ord(","), 2, True, 10)
    body = text.getvalue().encode()
    assert [cells_of(body[a:b].decode(), ",") for a, b, *_ in found.tolist()] == rows
    assert (found[:, 2] == GOOD).all()


def test_a_header_with_a_stray_quote_is_refused() -> None:
    for text in ('a,"b', 'a,b"', '"a"b'):
        with pytest.raises(HeaderInvalid, match="a quote"):
            cells_of(text, ",")


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\n\r') else cell


def row(name: str, note: str, quote: Callable[[str], str] = quoted) -> bytes:
    return f"{name},{AT},1.5,{quote(note)}\n".encode()


# No good note begins with a line break: behind a quote that was never closed, such a cell's opening
# quote closes the other one, and by RFC 4180 both are one cell.
NOTES = [
    "",
    "plain",
    "a, b",
    'say "so"',
    '"',
    "two\nlines",
    "x\n\ny",
    ",",
    "é,\U0001f600",
    "a,b,c\nd",
]
BAD: list[tuple[bytes, int]] = [
    (f"h,{AT},1.5,{cell}\n".encode(), 1)
    for cell in (
        '5" pipe', '"5 pipe', '"5" pipe"', '"5\\" pipe"', '"', '"""', 'x"', '"a" ', "x,extra",
        "x,y,z,,", '"a,b', '"x",', ' "padded"', '""x', '"a"b"c"',
    )
] + [
    (b"h\n", 1), (f"h,{AT}\n".encode(), 1), (f"h,{AT},1.5\n".encode(), 1), (b',"\n', 1),
    (b'"h\n', 1), (f'h,"{AT},1.5,x\n'.encode(), 1), (f'"h",{AT},"1.5,x\n'.encode(), 1),
    (f"h,{AT},1.5,\xff\xfe\n".encode("latin-1"), 1), (f"h,{AT},1.5,caf\xe9\n".encode("latin-1"), 1),
    (f'h,{AT},1.5,"two\nlines",extra\n'.encode(), 2), (b'h,"two\nlines",1.5,5" pipe\n', 2),
    (b"\xef\xbb\xbfh\n", 1), (b"{}\n", 1), (b"\x00\n", 1),
]  # fmt: skip
"""A row that is none, and how many lines it has."""


def read(path: Path) -> list[bytes]:
    return [bytes(p) for _, payloads in payloads_of(SALES, path, NOW) for p in payloads]


def watch(path: Path, log: Path, pieces: Iterator[bytes] | None = None) -> list[bytes]:
    """The records that a watched folder takes, of a file that may grow while it is looked at."""
    feed = hs.Folder(str(path.parent), path.name, every="1s", quiet="1h")
    taps, clock = SqliteLog(log), ManualClock(NOW)
    try:
        folder = FolderFeed(feed, Landing(replace(SALES, feed=feed), taps, clock, lambda _: None))
        for piece in pieces or ():
            with path.open("ab") as file:
                file.write(piece)
            clock.advance_to(clock.now() + 5_000_000)
            list(folder.take())
        list(folder.take(force=True))
        return [bytes(payload) for payload in taps.read("sales", -1, 10**6).payloads]
    finally:
        taps.close()


@pytest.mark.parametrize("seed", range(3))
def test_one_bad_row_is_one_letter_and_harms_no_other(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    for number, (bad, _) in enumerate(BAD):
        monkeypatch.setattr("homeostat.ingest.csv_rows._BLOCK", draw.choice([60, 200, 4 << 20]))
        rows = [row(f"g{i}", draw.choice(NOTES)) for i in range(8)]
        place = draw.randrange(9)
        folder = tmp_path / str(number)
        folder.mkdir()
        good, spoilt, packed = (folder / name for name in ("good.csv", "bad.csv", "bad.csv.gz"))
        good.write_bytes(HEADER.encode() + b"".join(rows))
        text = HEADER.encode() + b"".join([*rows[:place], bad, *rows[place:]])
        spoilt.write_bytes(text)
        packed.write_bytes(gzip.compress(text))
        expected = read(good)
        line = 2 + sum(each.count(b"\n") for each in rows[:place])
        for found in (
            read(spoilt), read(packed), watch(spoilt, folder / "a.db"),
            watch(packed, folder / "b.db"),
        ):  # fmt: skip
            assert [p for p in found if p[:1] == b"{"] == expected, (bad, rows, place)
            (refusal,) = (refusal for p in found if (refusal := refusal_of(p)))
            assert found.index(refusal.record()) == place
            assert refusal.reason == "malformed"
            assert refusal.detail.startswith(f"line {line}: ")
            assert refusal.received == bad.rstrip(b"\r\n")


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("seed", range(4))
def test_a_file_that_grows_gives_the_same_as_the_whole(
    tmp_path: Path, seed: int, ending: bytes
) -> None:
    draw = random.Random(seed)
    rows = [row(f"g{i}", draw.choice(NOTES)) for i in range(12)]
    rows[draw.randrange(12)] = draw.choice(BAD)[0]
    text = (HEADER.encode() + b"".join(rows)).replace(b"\r\n", b"\n").replace(b"\n", ending)
    cuts = sorted(draw.sample(range(1, len(text)), 6))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    (tmp_path / "in").mkdir()
    grown = watch(tmp_path / "in" / "x.csv", tmp_path / "log.db", iter(pieces))
    assert grown == read(tmp_path / "in" / "x.csv")
    assert len(grown) == 12


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    good = [row("a", "x"), row("b", "two\n\nlines"), row("c", "y").rstrip()]
    path.write_bytes(HEADER.encode() + b"".join(good))
    expected = read(path)
    path.write_bytes(HEADER.encode() + b"\n" + b"\r\n  \n".join(good) + b"\n\n \n")
    assert read(path) == expected
    path.write_bytes(HEADER.encode())
    assert read(path) == []
    path.write_bytes(HEADER.strip().encode())
    assert read(path) == []


def test_a_row_longer_than_a_record_may_be_is_one_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeostat.ingest.csv_rows._BLOCK", 100)
    monkeypatch.setattr("homeostat.ingest.csv_rows.LONGEST", 1_000)
    path = tmp_path / "x.csv"
    (tmp_path / "in").mkdir()
    open_ended = row("h", '"' + "\n" * 3_000, str)
    rows = [row("g1", "x"), row("h", "y" * 3_000), row("g2", "z\nz"), open_ended, row("g3", "")]
    path.write_bytes(HEADER.encode() + b"".join(rows))
    found = read(path)
    assert [p[:12] for p in found if p[:1] == b"{"] == [
        b'{"sale":"g1"', b'{"sale":"g2"', b'{"sale":"g3"',
    ]  # fmt: skip
    details = [refusal.detail for p in found if (refusal := refusal_of(p))]
    assert details == [
        "line 3: more than 1,000 bytes; its beginning stands here",
        "line 6: a quote that is not closed within 1,000 bytes",
    ]
