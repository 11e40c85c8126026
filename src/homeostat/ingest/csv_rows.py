"""CSV becomes payloads, record by record: one that is no row is refused alone, with its line.

Where records are is found by compiled loops; those that are rows are read together, all columns as
text. `cells_of` reads one record by itself, slowly, and says the same.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.core.errors import HomeostatError
from homeostat.declare.sources import EventSource
from homeostat.ingest.field_names import stripped
from homeostat.ingest.lines import BEGINNING, BOM, LONGEST, ByteReader, end_of_line
from homeostat.ingest.refusals import Refusal

__all__ = ["CsvPart", "CsvRows", "HeaderInvalid", "RowWriter", "cells_of", "first_record"]

_BLOCK = 4 << 20
_LINE_END = re.compile(rb"\r?\n|\r")
_CELL = re.compile(r'"((?:[^"]|"")*)"|([^"]*)', re.DOTALL)

CsvPart = tuple[list[bytes], int, int]
"""Payloads, where in the text they end, and where a last line begins that has no end (or -1)."""


class HeaderInvalid(HomeostatError, ValueError):
    """A first line that names no columns."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"the first line of a CSV: {found}; allowed: the names of the columns; write it again"
        )


class RowWriter(Protocol):
    """Writes the rows of a table of texts as payloads, one each."""

    def __call__(self, source: EventSource, frame: pl.DataFrame, is_text: bool) -> list[bytes]: ...


def cells_of(record: str, separator: str) -> list[str | None]:
    r"""Return the cells of one record, None where there is nothing, not even quotes.

    >>> cells_of('a,"b ""c"",\n",,""\r\n', ",")
    ['a', 'b "c",\n', None, '']
    """
    text = record.removesuffix("\n").removesuffix("\r")
    cells: list[str | None] = []
    at = 0
    while at <= len(text):
        end = text.find(separator, at)
        if text[at : at + 1] == '"':
            found = _CELL.match(text, at)
            if found is None or found[1] is None:
                raise HeaderInvalid("a quote that is not closed")
            cells.append(found[1].replace('""', '"'))
            end = found.end()
            if end < len(text) and text[end] != separator:
                raise HeaderInvalid("a quote inside of a cell")
        else:
            end = len(text) if end < 0 else end
            cell = text[at:end]
            if '"' in cell:
                raise HeaderInvalid("a quote inside of a cell")
            cells.append(cell or None)
        at = end + 1
    return cells


def first_record(file: ByteReader, size: int) -> bytes | None:
    """Return the header of a CSV text with its line break, None while it is not all there."""
    file.seek(0)
    text = file.read(min(size, 1 << 20))
    for found in _LINE_END.finditer(text):
        if found[0] == b"\r" and found.end() == len(text):
            return None  # a line feed may follow
        if text.count(b'"', 0, found.start()) % 2 == 0:
            return text[: found.end()]
    return None


class CsvRows:
    """Reads the records of a CSV text that follow its header.

    Args:
        source: the event source.
        header: the bytes of the line with the columns.
        separator: what is between cells.
        write: makes payloads of the rows; it raises if the columns are not the event's.

    Attributes:
        ending: what ends a line, as it does the header: a line feed, or a return alone.
        columns: the names in the header.
    """

    def __init__(
        self, source: EventSource, header: bytes, separator: str, write: RowWriter
    ) -> None:
        self._source, self._separator, self._write = source, separator, write
        try:
            text = header.removeprefix(BOM).decode()
        except UnicodeDecodeError as odd:
            raise HeaderInvalid("it is not valid UTF-8") from odd
        self.ending = b"\r" if header.endswith(b"\r") else b"\n"
        self.columns = tuple(stripped(cell or "") for cell in cells_of(text, separator))
        named = {f.name for f in source.schema.fields}
        named.update(alias for f in source.schema.fields for alias in f.aliases)
        twice = next((n for n in self.columns if n in named and self.columns.count(n) > 1), None)
        if twice is not None:
            raise HeaderInvalid(f"two columns are named {twice!r}")
        names = [
            name if name not in self.columns[:place] else f"{name}_duplicated_{place}"
            for place, name in enumerate(self.columns)
        ]
        self._schema = dict.fromkeys(names, pl.String())
        write(source, pl.DataFrame(schema=self._schema), True)
        self._counted = (0, 1)

    def parts(self, file: ByteReader, start: int, size: int, *, ended: bool) -> Iterator[CsvPart]:
        """Yield the records from `start` on, of a text of `size` bytes, by blocks of megabytes.

        With `ended` nothing follows: a last record without its end is one, and a quote that is not
        closed is a fault. Otherwise they are left.
        """
        from homeostat.ingest.csv_records import records

        mark, wanted = ord(self._separator), _BLOCK
        while start < size:
            file.seek(start)
            asked = min(wanted, size - start)
            block = file.read(asked)
            if len(block) < asked:
                return  # it has shrunk meanwhile
            last = start + len(block) == size
            body = np.frombuffer(block, np.uint8)
            found, used = records(body, mark, len(self._schema), ended and last, self.ending[0])
            if not used:
                if last:
                    return
                if wanted < LONGEST:
                    wanted *= 2
                    continue
                part = self._too_long(file, start, block, size, ended=ended)
                if part is None:
                    return
                yield part
                start, wanted = part[1], _BLOCK
                continue
            loose = -1
            if ended and last and not block.endswith(self.ending) and len(found):
                loose = start + int(found[-1, 0])
            payloads = self._payloads(file, start, block, found)
            start, wanted = start + used, _BLOCK
            yield payloads, start, loose

    def _payloads(
        self, file: ByteReader, start: int, block: bytes, found: npt.NDArray[np.int64]
    ) -> list[bytes]:
        """Return one payload per record, a refusal for those that are no rows."""
        from homeostat.ingest.csv_records import GOOD

        good = found[:, 2] == GOOD
        invalid: set[int] = set()
        try:
            block.decode()
        except UnicodeDecodeError:
            invalid = {
                place for place in np.flatnonzero(good).tolist()
                if not _is_utf8(block[found[place, 0] : found[place, 1]])
            }  # fmt: skip
            good[list(invalid)] = False
        rows = self._rows(block, found, good)
        if good.all():
            return rows
        payloads, each = [], iter(rows)
        for place, is_good in enumerate(good.tolist()):
            if is_good:
                payloads.append(next(each))
                continue
            begin, end, kind, cells = found[place].tolist()
            what = "not valid UTF-8" if place in invalid else self._fault(kind, cells)
            detail = f"line {self._line(file, start + begin)}: {what}"
            payloads.append(Refusal("malformed", detail, block[begin:end].rstrip(b"\r\n")).record())
        return payloads

    def _rows(
        self, block: bytes, found: npt.NDArray[np.int64], good: npt.NDArray[np.bool_]
    ) -> list[bytes]:
        """Return the payloads of the records that are rows."""
        from homeostat.ingest.buffers import gathered

        kept = found[good]
        if not len(kept):
            return []
        body = np.frombuffer(block, np.uint8)
        text = gathered(body, kept[:, 0], kept[:, 1]).tobytes()
        table = pl.read_csv(
            io.BytesIO(text),
            separator=self._separator,
            has_header=False,
            schema=self._schema,
            eol_char=self.ending.decode(),
        )
        if table.height != len(kept):
            separator = self._separator
            cells = [cells_of(block[a:b].decode(), separator) for a, b, *_ in kept.tolist()]
            table = pl.DataFrame(cells, schema=self._schema, orient="row")
        return self._write(self._source, table, True)

    def _fault(self, kind: int, cells: int) -> str:
        from homeostat.ingest.csv_records import RAGGED, UNCLOSED

        if kind == RAGGED:
            return f"{cells} cells, and {len(self._schema)} in the header"
        if kind == UNCLOSED:
            return "a quote that is never closed"
        return "a stray quote (a quote in a cell is written twice, and the cell in quotes)"

    def _line(self, file: ByteReader, at: int) -> int:
        """Return the number of the line that begins at `at`, from 1."""
        begin, line = self._counted if self._counted[0] <= at else (0, 1)
        while begin < at:
            file.seek(begin)
            piece = file.read(min(_BLOCK, at - begin))
            if not piece:
                break
            begin, line = begin + len(piece), line + piece.count(self.ending)
        self._counted = (at, line)
        return line

    def _too_long(
        self, file: ByteReader, start: int, block: bytes, size: int, *, ended: bool
    ) -> CsvPart | None:
        """Return the refusal of a record of which a whole block is not the end; None to wait."""
        from homeostat.ingest.csv_records import UNCLOSED, records

        body = np.frombuffer(block, np.uint8)
        found, _ = records(body, ord(self._separator), len(self._schema), True, self.ending[0])
        begin, end, kind, _ = found[0].tolist()
        line = self._line(file, start + begin)
        if kind == UNCLOSED and end < len(block):
            detail = f"line {line}: a quote that is not closed within {LONGEST:,} bytes"
            record = Refusal("malformed", detail, block[begin : min(end, begin + BEGINNING)])
            return [record.record()], start + end, -1
        after = end_of_line(file, start + len(block), size, self.ending)
        if after is None and not ended:
            return None
        detail = f"line {line}: more than {LONGEST:,} bytes; its beginning stands here"
        record = Refusal("too_large", detail, block[:BEGINNING])
        return [record.record()], size if after is None else after, -1


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
