"""Files and frames become log records: the JSON of each row, and when it was known.

Whole columns are written at once. Rows that such a column cannot hold as they are (text that is
no number, infinities) are written one by one, so that the intake sees and refuses the original.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.schema import Field
from homeostat.declare.sources import EventSource
from homeostat.ingest import long_files
from homeostat.ingest.columns import INSTANT
from homeostat.ingest.csv_rows import CsvRows, HeaderInvalid, first_record
from homeostat.ingest.json_files import HEAD, JsonUnended, is_whole_text, records_in
from homeostat.ingest.known_times import believed_times, declared_times, or_before
from homeostat.ingest.mappings import known_times, mapping_payloads
from homeostat.ingest.payloads import Payloads
from homeostat.ingest.python_values import refused
from homeostat.ingest.table_columns import ColumnsInvalid, columns_of, key_notes, mapping_notes
from homeostat.ingest.value_forms import whole_number

__all__ = [
    "COMPRESSED",
    "CSV",
    "LINES",
    "FileInvalid",
    "kind_of",
    "payloads_of",
    "read_table",
    "row_payloads",
    "unpacked",
]

Records = tuple[npt.NDArray[np.int64], Payloads]

_CHUNK = 100_000
_NONE = Payloads.of([])
_TRUE, _FALSE = ("true", "t", "yes", "1"), ("false", "f", "no", "0")
CSV, LINES = (".csv", ".tsv"), (".ndjson", ".jsonl", ".json")
PARQUET, ARROW = (".parquet",), (".arrow", ".feather", ".ipc")
_CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
COMPRESSED = tuple(_CODECS)


class FileInvalid(HomeostatError, ValueError):
    """A file or frame that cannot be read as events at all."""

    def __init__(self, source: str, found: str, allowed: str, next_step: str) -> None:
        super().__init__(f"import into {source!r}: {found}; allowed: {allowed}; {next_step}.")


def payloads_of(
    source: EventSource,
    data: object,
    known_time: Micros | str | None = None,
    latest: Micros | None = None,
    told: Callable[[str], None] = lambda note: None,
) -> Iterator[Records]:
    """Yield (known times, payloads) in chunks, sorted by known time and then as they came.

    `data` is a path (CSV, JSON lines, Parquet, Arrow; also compressed), a frame (Polars, or
    anything that speaks Arrow), or a list of mappings, each an event of its own. `known_time` is
    one instant in microseconds, or a column of the frame (a key of the mappings); by default the
    source's declaration says it: its field, or event time plus delay. A row whose own clock cannot
    be read takes the known time of the row before it; so does, where `latest` is given, one whose
    clock says that it became known after it (`believed_times`). `told` hears, once each, of fields
    that no column of a table fills.

    >>> from homeostat.declare.schema import Event, Timestamp
    >>> Tap = type("Tap", (Event,), {"__annotations__": {"tap": str, "at": Timestamp}})
    >>> taps = EventSource("taps", Tap, event_id="tap", event_time="at", delay="1s")
    >>> frame = pl.DataFrame({"tap": ["a"], "at": ["1970-01-01T00:00:01Z"]})
    >>> [(known.tolist(), list(payloads)) for known, payloads in payloads_of(taps, frame)]
    [([2000000], [b'{"tap":"a","at":"1970-01-01T00:00:01Z"}'])]
    """
    records = _records(source, data, known_time, told)
    if latest is None:
        yield from records
        return
    if isinstance(known_time, int) and known_time > latest:
        raise FileInvalid(
            source.name,
            f"known at {from_micros(known_time)}",
            f"an instant that was: at most {from_micros(latest)}",
            "name when it became known",
        )
    ahead = source.clock_skew_us + (source.delay_us if known_time is None else 0)
    earlier: Micros | None = None
    for known, payloads in records:
        believed = believed_times(known, latest, ahead, earlier)
        yield believed, payloads
        earlier = int(believed[-1]) if len(believed) else earlier


def _records(
    source: EventSource,
    data: object,
    known_time: Micros | str | None,
    told: Callable[[str], None],
) -> Iterator[Records]:
    """Yield (known times, payloads) in chunks, in the order of what the clocks say."""
    given: npt.NDArray[np.int64] | None = None
    if isinstance(data, str | Path) and kind_of(source, Path(data)) in LINES:
        if isinstance(known_time, str):
            raise FileInvalid(
                source.name,
                f"known_time={known_time!r} for JSON lines",
                "a column of a table, an instant, or the source's own declaration",
                "declare EventSource(known_time=...)",
            )
        found = _long(source, Path(data), known_time)
        if found is not None:
            with Path(data).open("rb") as file:
                for note in key_notes(source.schema, file.read(HEAD).splitlines()[:-1]):
                    told(note)
            yield from found
            return
        payloads = json_records(source, Path(data), _bytes(source, Path(data)))
        for note in key_notes(source.schema, payloads):
            told(note)
    elif isinstance(data, str | Path) and kind_of(source, Path(data)) in CSV:
        if isinstance(known_time, str):
            raise FileInvalid(
                source.name,
                f"known_time={known_time!r} for CSV, whose columns are text",
                "an instant, or the source's own declaration",
                "declare EventSource(known_time=...)",
            )
        payloads = _csv_payloads(source, Path(data), told)
    elif isinstance(data, list | tuple):
        written = mapping_payloads(source, data)
        for note in mapping_notes(source.schema, data):
            told(note)
        if isinstance(known_time, str):
            given = _known_of(source, data, written, known_time)
        payloads = Payloads.of(written)
    else:
        frame = _frame(source, data)
        for note in column_notes(source, frame.columns):
            told(note)
        if isinstance(known_time, str):
            given = _known_column(source, frame, known_time)
        payloads = Payloads.of(row_payloads(source, frame, is_text=False))
    if isinstance(known_time, int):
        given = np.full(len(payloads), known_time, dtype=np.int64)
    known = declared_times(source, payloads) if given is None else given
    if (np.diff(known) < 0).any():
        order = np.argsort(known, kind="stable")
        known, payloads = known[order], payloads.take(order)
    for begin in range(0, len(known), _CHUNK):
        yield known[begin : begin + _CHUNK], payloads[begin : begin + _CHUNK]


def _long(source: EventSource, path: Path, known: Micros | None) -> Iterator[Records] | None:
    """Return the records of a file of lines that need not be held, None if it is to be held."""
    if path.suffix.lower() in COMPRESSED or path.stat().st_size <= long_files.LONG:
        return None
    with path.open("rb") as file:
        if is_whole_text(file.read(HEAD)):
            return None
    return long_files.ordered_lines(source, path, known)


def kind_of(source: EventSource, path: Path) -> str:
    """Return the suffix that says how a file is read; raise `FileInvalid` if none does."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind not in (*CSV, *LINES, *PARQUET, *ARROW):
        raise FileInvalid(
            source.name,
            f"file {path.name!r}",
            f"{', '.join((*CSV, *LINES, *PARQUET, *ARROW))}, each also with "
            f"{', '.join(COMPRESSED)}",
            "rename or convert it",
        )
    return kind


def _bytes(source: EventSource, path: Path) -> bytes:
    """Return what a file holds, unpacked; raise `FileInvalid` if it is packed and not whole."""
    body = path.read_bytes()
    if path.suffix.lower() not in COMPRESSED:
        return body
    try:
        return unpacked(path, body)
    except OSError as damaged:
        raise FileInvalid(
            source.name, f"{path.name}: {damaged}", f"a whole {path.suffix} file", "send it again"
        ) from damaged


def unpacked(path: Path, body: bytes) -> bytes:
    """Return what the bytes of a compressed file hold; raise `OSError` where they are not whole."""
    import pyarrow as pa

    if not body:
        raise OSError("the file is empty")
    codec = _CODECS[path.suffix.lower()]
    with pa.input_stream(pa.BufferReader(body), compression=codec) as stream:
        return bytes(stream.read())


def _frame(source: EventSource, data: object) -> pl.DataFrame:
    if isinstance(data, pl.DataFrame):
        return data
    if not isinstance(data, str | Path):
        if not hasattr(data, "__arrow_c_stream__"):
            raise FileInvalid(
                source.name,
                f"a {type(data).__name__}",
                "a path, a Polars frame, a table that speaks Arrow (pyarrow, pandas, DuckDB), or a "
                "list of mappings",
                "convert it: polars.DataFrame(...), or put one mapping into a list: [...]",
            )
        try:
            return pl.DataFrame(data)
        except Exception as odd:  # a library's own error: a column of several kinds, among others
            raise FileInvalid(
                source.name,
                f"a {type(data).__name__} that is no Arrow table ({odd})",
                "columns of one type each, or a list of mappings, whose elements stand alone",
                "give it as mappings: pandas' frame.to_dict('records')",
            ) from odd
    path = Path(data)
    return read_table(source, path, kind_of(source, path), _bytes(source, path))


def json_records(source: EventSource, path: Path, body: bytes) -> Payloads:
    """Return the records in the bytes of a JSON file; raise `FileInvalid`."""
    try:
        return records_in(body)
    except JsonUnended as unended:
        raise FileInvalid(
            source.name, f"{path.name}: {unended}", "JSON lines, or one array", "write it again"
        ) from unended


def csv_rows(
    source: EventSource, path: Path, kind: str, header: bytes, told: Callable[[str], None]
) -> CsvRows:
    """Return what reads the records of a CSV file with this header; raise `FileInvalid`."""
    separator = "\t" if kind == ".tsv" else ","
    try:
        rows = CsvRows(source, header, separator, row_payloads)
    except HeaderInvalid as invalid:
        raise FileInvalid(
            source.name, f"{path.name}: {invalid}", f"a {kind[1:]} file", "write it again"
        ) from invalid
    for note in column_notes(source, rows.columns):
        told(note)
    return rows


def _csv_payloads(source: EventSource, path: Path, told: Callable[[str], None]) -> Payloads:
    """Return the payloads of all records of a CSV file."""
    packed = path.suffix.lower() in COMPRESSED
    with io.BytesIO(_bytes(source, path)) if packed else path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        header = first_record(file, size)
        if header is None:  # a line without its end, and no row
            file.seek(0)
            header = file.read(size)
        rows = csv_rows(source, path, kind_of(source, path), header, told)
        parts = rows.parts(file, len(header), size, ended=True)
        return Payloads.joined([Payloads.of(payloads) for payloads, _, _ in parts] or [_NONE])


def read_table(source: EventSource, path: Path, kind: str, body: bytes) -> pl.DataFrame:
    """Return the table in the bytes of a file of a kind."""
    try:
        return (pl.read_parquet if kind in PARQUET else pl.read_ipc)(io.BytesIO(body))
    except pl.exceptions.PolarsError as error:
        raise FileInvalid(
            source.name, f"{path.name}: {error}", f"a {kind[1:]} file", "write it again"
        ) from error


def row_payloads(source: EventSource, frame: pl.DataFrame, is_text: bool) -> list[bytes]:
    """Return one JSON object per row; columns that the event does not have are left out."""
    frame = _named(source, frame)
    fields = [field for field in source.schema.fields if field.name in frame.columns]
    if not frame.height:
        return []
    columns = [_column(source, field, frame[field.name], is_text) for field in fields]
    text = io.BytesIO()
    pl.DataFrame([column for column, _ in columns]).write_ndjson(text)
    payloads = text.getvalue().split(b"\n")[:-1]
    odd = np.logical_or.reduce([unlike for _, unlike in columns])
    for i in np.flatnonzero(odd).tolist():
        row = {
            column.name: frame[column.name][i] if unlike[i] else column[i]
            for column, unlike in columns
        }
        payloads[i] = json.dumps(row, default=_text, separators=(",", ":")).encode()
    return payloads


def column_notes(source: EventSource, columns: Sequence[str]) -> tuple[str, ...]:
    """Return what a person should know of a table's columns; raise `FileInvalid`."""
    try:
        return columns_of(source.schema, columns).notes
    except ColumnsInvalid as invalid:
        raise FileInvalid(
            source.name, invalid.found, invalid.allowed, invalid.next_step
        ) from invalid


def _named(source: EventSource, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the columns that fill fields, under the fields' present names."""
    try:
        places = columns_of(source.schema, frame.columns).places
    except ColumnsInvalid as invalid:
        raise FileInvalid(
            source.name, invalid.found, invalid.allowed, invalid.next_step
        ) from invalid
    return frame.select(pl.nth(place).alias(name) for name, place in places.items())


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _column(
    source: EventSource, field: Field, values: pl.Series, is_text: bool
) -> tuple[pl.Series, npt.NDArray[np.bool_]]:
    """Return the column as JSON can hold it, and where it cannot."""
    if values.dtype in (pl.Binary, pl.Object, pl.Duration, pl.Time):
        raise FileInvalid(
            source.name,
            f"column {field.name!r} is {values.dtype}",
            f"a {field.kind}",
            "cast it before the import, or give the rows as mappings: frame.to_dicts()",
        )
    if isinstance(values.dtype, pl.Datetime):
        if values.dtype.time_zone is None:
            raise FileInvalid(
                source.name,
                f"column {field.name!r} has instants without a time zone",
                "Datetime with a time zone",
                f"say which: pl.col({field.name!r}).dt.replace_time_zone('UTC')",
            )
        values = values.cast(INSTANT)
    if is_text and field.kind != "string":
        values = values.str.strip_chars()
        values = values.set(values == "", None)
    missing = values.is_null()
    if is_text and field.kind == "boolean":
        lower = values.str.to_lowercase()
        typed = pl.select(
            pl.when(lower.is_in(_TRUE)).then(True).when(lower.is_in(_FALSE)).then(False)
        ).to_series()
    elif is_text and field.kind == "integer":
        typed = _integers(values)
    elif is_text and field.kind == "float":
        typed = values.cast(pl.Float64, strict=False)
    elif values.dtype.is_decimal() and field.kind == "integer":
        # by way of a float, 2**53 + 1 would be its neighbour
        whole = values.cast(pl.Int64, strict=False)
        typed = pl.select(pl.when(values % 1 == 0).then(whole)).to_series()
    elif values.dtype.is_decimal() and field.kind == "float":
        typed = values.cast(pl.String).cast(pl.Float64)  # a cast divides, which rounds twice
    elif field.kind == "integer" and values.dtype.is_float():
        values = values.fill_nan(None)
        missing = values.is_null()
        whole = values.cast(pl.Int64, strict=False)
        typed = pl.select(pl.when(whole.cast(pl.Float64) == values).then(whole)).to_series()
    elif values.dtype == pl.Float32:
        typed = values.cast(pl.Float64)  # the number itself: its shortest text is another float64
    else:
        typed = values
    odd = typed.is_null() & ~missing
    if typed.dtype.is_float():
        odd |= typed.is_infinite().fill_null(value=False)
        typed = typed.fill_nan(None)
    return _filled(field, typed).alias(field.name), odd.to_numpy().astype(np.bool_)


def _integers(texts: pl.Series) -> pl.Series:
    """Return texts as integers, null where they are none: a whole number in any form is one."""
    plain = texts.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
    places = (plain.is_null() & texts.is_not_null()).arg_true().to_list()
    if not places:
        return plain
    numbers = [whole_number(text.removeprefix("+")) for text in texts.gather(places).to_list()]
    fits = [n if n is not None and -(2**63) <= n < 2**63 else None for n in numbers]
    return plain.scatter(places, fits)


def _filled(field: Field, values: pl.Series) -> pl.Series:
    """Return the column with the default in its empty cells, unless empty is a value of its own."""
    if field.default is None or field.nullable or not values.null_count():
        return values
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.String and field.kind not in ("string", "timestamp"):
        return values  # not of its kind: the intake refuses it
    default = field.filler if isinstance(values.dtype, pl.Datetime) else field.default
    return pl.select(pl.coalesce(values, pl.lit(default))).to_series()


def _known_of(
    source: EventSource, elements: Sequence[object], payloads: list[bytes], name: str
) -> npt.NDArray[np.int64]:
    """Return when each element says it was known; one that does not say it is refused in place."""
    times, said = known_times(elements, name)
    if len(said) and not said.any():
        keys = next((tuple(map(str, each)) for each in elements if isinstance(each, dict)), ())
        raise FileInvalid(
            source.name,
            f"known_time={name!r}, and no element has a datetime with a time zone under it",
            "a key that each element has",
            f"name one of {', '.join(keys)}",
        )
    for place in np.flatnonzero(~said).tolist():
        found = f"{name!r}, its known time, is no datetime with a time zone"
        payloads[place] = refused(f"element {place} of the list", found, elements[place])
    return or_before(times, said, 0, None)


def _known_column(source: EventSource, frame: pl.DataFrame, name: str) -> npt.NDArray[np.int64]:
    found: Any = frame.schema.get(name)
    if not isinstance(found, pl.Datetime) or found.time_zone is None or frame[name].null_count():
        raise FileInvalid(
            source.name,
            f"known_time={name!r} is {found or 'no column'}",
            "a Datetime column with a time zone and no missing values",
            f"name one of {', '.join(frame.columns)}",
        )
    return frame[name].cast(INSTANT).to_physical().to_numpy()
