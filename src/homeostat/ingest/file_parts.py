"""A file in parts, each with how far the file is then taken: where to go on after a crash.

Text that is not compressed (CSV, JSON lines) is taken as it grows, up to its last whole line;
tables, compressed files and JSON that is one text are taken when they are whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from homeostat.core.errors import HomeostatError
from homeostat.declare.sources import EventSource
from homeostat.ingest.csv_rows import CsvPart, CsvRows, first_record
from homeostat.ingest.files import (
    COMPRESSED,
    CSV,
    LINES,
    column_notes,
    csv_rows,
    kind_of,
    read_table,
    row_payloads,
    unpacked,
)
from homeostat.ingest.json_files import HEAD, JsonUnended, is_whole_text, records_in
from homeostat.ingest.lines import (
    BEGINNING,
    BOM,
    LONGEST,
    ByteReader,
    blocks,
    with_feeds,
)
from homeostat.ingest.table_columns import key_notes

__all__ = ["FileIncomplete", "Mark", "Reached", "mark_of", "parts_of"]

_ROWS = 25_000
_EDGE = 4_096
_PIECE = 1 << 20
_MAGIC = {".parquet": b"PAR1", ".arrow": b"ARROW1", ".feather": b"ARROW1", ".ipc": b"ARROW1"}
"""What stands at the end of a table that is whole."""

Mark = tuple[int, int]
"""Size and time of the last change (nanoseconds) of a file, as the file system says."""


class FileIncomplete(HomeostatError):
    """A file that is not all there yet."""

    retryable = True

    def __init__(self, source: str, name: str, why: str) -> None:
        super().__init__(
            f"import into {source!r}: {name}: {why}; allowed: a file that is whole; it is taken "
            "when it is, or write it again"
        )


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a file is taken.

    Attributes:
        at: bytes of a text, or rows of a table.
        rows: the records that were taken.
        check: a digest of what was taken: the edges of a growing text, all of another file.
        loose: where a last line begins that was taken without its end, -1 for none.
        mark: of a file that is taken when it is whole, its mark when all of it was taken.
        sum: of a growing text, a checksum of all that was taken.
        changed: of a growing text that was taken to its end, when it had changed last.
    """

    at: int = 0
    rows: int = 0
    check: str = ""
    loose: int = -1
    mark: Mark | None = None
    sum: int = 0
    changed: int = 0

    def text(self) -> str:
        """Return the line that the log keeps."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def covers(self, mark: Mark) -> bool:
        """Return whether all of the file is taken that has this mark."""
        if self.mark is not None:
            return self.mark == mark
        return self.at == mark[0] and (not self.at or self.changed == mark[1])

    @classmethod
    def of(cls, text: str | None) -> Reached:
        """Return what a kept line says; of None, the beginning.

        >>> Reached.of(Reached(7, 2, "ab", mark=(7, 1)).text()).mark
        (7, 1)
        """
        if text is None:
            return cls()
        said = json.loads(text)
        return cls(**{**said, "mark": None if said["mark"] is None else tuple(said["mark"])})


Part = tuple[list[bytes], Reached]


def mark_of(path: Path) -> Mark:
    """Return the mark of a file; raises `OSError` if it cannot be looked at."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def parts_of(
    source: EventSource,
    path: Path,
    said: Reached,
    told: Callable[[str], None] = lambda note: None,
    *,
    ended: bool,
) -> Generator[Part]:
    """Yield (payloads, how far the file is then taken), from where `said` leaves off.

    A file that is not the one of which `said` speaks is taken from its beginning. With `ended` a
    last line without its end is taken, too. `told` hears of fields that no column
    fills. Raises `FileInvalid`, `FileIncomplete`, `OSError`.
    """
    kind = kind_of(source, path)
    text = _Text(source, path, kind, told)
    if path.suffix.lower() not in COMPRESSED and not text.is_whole():
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            whole = _Body(file, found.st_size, found.st_mtime_ns)
            start = said if whole.begins_with(said) else Reached()
            if start.at and start.at == whole.size:
                if start.changed != whole.changed:
                    yield [], replace(start, changed=whole.changed)
                return
            yield from _text(text, whole, start, ended=ended)
        return
    mark = mark_of(path)
    if said.mark == mark:
        return
    body = path.read_bytes()
    if mark_of(path) != mark:
        raise FileIncomplete(source.name, path.name, "it is being written")
    check = hashlib.blake2b(body, digest_size=16).hexdigest()
    start = said if said.check == check else Reached(check=check)
    for payloads, reached in _whole(text, body, start):
        yield payloads, reached
        start = reached
    yield [], Reached(start.at, start.rows, check, mark=mark)


@dataclass(frozen=True, slots=True)
class _Text:
    """A file and how its records are read."""

    source: EventSource
    path: Path
    kind: str
    told: Callable[[str], None]

    def is_whole(self) -> bool:
        """Return whether the file is taken when it is whole, and not as it grows."""
        if self.kind not in LINES:
            return self.kind not in CSV
        with self.path.open("rb") as file:
            return is_whole_text(file.read(HEAD))

    def csv(self, file: ByteReader, size: int) -> tuple[CsvRows, int] | None:
        """Return what reads the records, and where they begin; None before the header is there."""
        header = first_record(file, size)
        if header is None:
            return None
        return csv_rows(self.source, self.path, self.kind, header, self.told), len(header)


@dataclass(frozen=True, slots=True)
class _Body:
    """The bytes of a text, how many there are, and when they had changed last."""

    file: BinaryIO | io.BytesIO
    size: int
    changed: int = 0

    def begins_with(self, said: Reached) -> bool:
        """Return whether the text still begins with what was taken of it.

        Where it has grown the edges of that are compared; where it has not, and was changed since,
        all of it.
        """
        if not said.at or said.at > self.size:
            return not said.at
        if said.at == self.size and said.changed != self.changed:
            return self._sum(0, said.at, 0) == said.sum
        return self._edges(said.at) == said.check

    def reached(self, at: int, rows: int, before: Reached, loose: int = -1) -> Reached:
        """Return how far the text is taken, after it was taken as far as `before`."""
        begin, so_far = (before.at, before.sum) if before.at <= at else (0, 0)
        return Reached(
            at, rows, self._edges(at), loose, None, self._sum(begin, at, so_far),
            self.changed if at == self.size else 0,
        )  # fmt: skip

    def _edges(self, at: int) -> str:
        """Return a digest of the first and the last bytes before `at`."""
        digest = hashlib.blake2b(digest_size=16)
        for begin in (0, max(0, at - _EDGE)):
            self.file.seek(begin)
            digest.update(self.file.read(min(_EDGE, at)))
        return digest.hexdigest()

    def _sum(self, begin: int, end: int, so_far: int) -> int:
        """Return a checksum of the bytes before `end`, of which those before `begin` are summed."""
        self.file.seek(begin)
        while begin < end and (piece := self.file.read(min(_PIECE, end - begin))):
            so_far, begin = zlib.crc32(piece, so_far), begin + len(piece)
        return so_far


def _text(text: _Text, body: _Body, said: Reached, *, ended: bool) -> Iterator[Part]:
    """Yield the parts of a text, from where `said` leaves off."""
    file: ByteReader = body.file
    size = body.size
    rows_of, begin = None, 0
    if text.kind in CSV:
        found = text.csv(file, size)
        if found is None:
            return
        rows_of, begin = found
    at, rows, done = max(said.at, begin), said.rows, said
    ending = b"\n" if rows_of is None else rows_of.ending
    file = with_feeds(file) if rows_of is None else file
    if said.loose >= 0 and at < size:
        file.seek(at)
        after = file.read(2)
        if after[:1] == ending or after == b"\r\n":
            at += after.index(ending) + 1
            done = body.reached(at, rows, done)
            yield [], done
        else:
            at = said.loose  # the line goes on: it is taken anew, as a whole
    taken = _lines(file, at, size, ended) if rows_of is None else (
        rows_of.parts(file, at, size, ended=ended)
    )  # fmt: skip
    is_first = rows_of is None and at == 0
    for payloads, end, loose in taken:
        for note in key_notes(text.source.schema, payloads) if is_first else ():
            text.told(note)
        is_first = False
        at, rows = end, rows + len(payloads)
        done = body.reached(at, rows, done, loose=loose)
        yield payloads, done
    if at == begin > said.at:
        done = body.reached(at, rows, done)
        yield [], done


def _lines(file: ByteReader, at: int, size: int, ended: bool) -> Iterator[CsvPart]:
    """Yield the lines of a text from `at` on, as `CsvRows.parts` yields records."""
    for block, end in blocks(file, at, size):
        yield _not_blank(block.removeprefix(BOM) if at == 0 else block), end, -1
        at = end
    if ended and at < size:
        file.seek(at)
        rest = file.read(min(size - at, LONGEST))
        yield _not_blank(rest if at + len(rest) == size else rest[:BEGINNING]), size, at


def _not_blank(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if line.strip()]


def _whole(text: _Text, body: bytes, said: Reached) -> Iterator[Part]:
    """Yield the parts of a file that is whole: a table, or anything compressed."""
    source, path, kind = text.source, text.path, text.kind
    if path.suffix.lower() in COMPRESSED:
        body = _decompressed(source, path, body)
    if kind in LINES and is_whole_text(body[:HEAD]):
        try:
            events = records_in(body)
        except JsonUnended as unended:
            raise FileIncomplete(source.name, path.name, str(unended)) from unended
        for note in key_notes(source.schema, events):
            text.told(note)
        for begin in range(said.at, len(events), _ROWS):
            records = list(events[begin : begin + _ROWS])
            yield records, Reached(begin + len(records), begin + len(records), said.check)
        return
    if kind in (*CSV, *LINES):
        start = Reached(said.at, said.rows)
        for payloads, reached in _text(text, _Body(io.BytesIO(body), len(body)), start, ended=True):
            yield payloads, Reached(reached.at, reached.rows, said.check)
        return
    if not body.endswith(_MAGIC[kind]):
        raise FileIncomplete(source.name, path.name, "its end is missing")
    table = read_table(source, path, kind, body)
    for note in column_notes(source, table.columns):
        text.told(note)
    for begin in range(said.at, table.height, _ROWS):
        part = row_payloads(source, table.slice(begin, _ROWS), is_text=False)
        end = begin + len(part)
        yield part, Reached(end, end, said.check)


def _decompressed(source: EventSource, path: Path, body: bytes) -> bytes:
    try:
        return unpacked(path, body)
    except OSError as error:
        raise FileIncomplete(source.name, path.name, str(error)) from error
