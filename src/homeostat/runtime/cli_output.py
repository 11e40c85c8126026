"""Answers for people and for machines: tables that fit a terminal or a pipe, and plain JSON."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros

__all__ = ["as_json", "cell", "console", "moment", "size", "table"]

PIPE_COLUMNS = 120
"""The width of what fills a line where there is no terminal; text is not wrapped there."""


def console(*, notes: bool = False) -> Console:
    """Return a console on stdout, or on stderr for notes."""
    stream = sys.stderr if notes else sys.stdout
    is_terminal = stream.isatty()
    return Console(
        file=stream,
        width=None if is_terminal else PIPE_COLUMNS,
        soft_wrap=not is_terminal,
        highlight=False,
        markup=False,
        emoji=False,
    )


def as_json(value: object) -> Any:
    """Return a value as JSON types: instants as ISO text, undefined numbers as null.

    >>> as_json({"auc": float("nan"), "at": [datetime(2013, 5, 1)]})
    {'auc': None, 'at': ['2013-05-01T00:00:00']}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "__struct_fields__"):
        return {name: as_json(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(name): as_json(inner) for name, inner in value.items()}
    if isinstance(value, Iterable):
        return [as_json(inner) for inner in value]
    return as_json(_scalar(value))


def _scalar(value: Any) -> object:
    return value.item() if hasattr(value, "item") else str(value)


def moment(at: Micros | None) -> datetime | None:
    """Return an instant that `cell` and `as_json` can write."""
    return None if at is None else from_micros(at)


def size(octets: float) -> str:
    """Return a number of bytes as a person reads it.

    >>> size(912), size(41_300), size(2_000_000_000)
    ('912 B', '41.3 kB', '2 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 999.5:
            return f"{octets:.3g} {unit}"
        octets /= 1000
    return f"{octets:,.4g} TB"


def cell(value: object, *, piped: bool) -> str:
    """Return one value of a table as text.

    >>> cell(1234567, piped=False), cell(1234567, piped=True), cell(0.123456, piped=True)
    ('1,234,567', '1234567', '0.1235')
    """
    if value is None or value == "":
        return "-" if piped else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if piped else f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "-" if piped else ""
    if isinstance(value, datetime):
        shape = "%Y-%m-%d %H:%M:%S" if value.second or value.microsecond else "%Y-%m-%d %H:%M"
        return f"{value:{shape}}"
    if isinstance(value, bytes):
        value = as_json(value)
    if isinstance(value, Mapping | list | tuple):
        return str(as_json(value))
    return " ".join(str(value).split())


def table(
    to: Console,
    rows: Sequence[Mapping[str, Any]],
    *,
    wide: Sequence[str] = (),
    styles: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Print rows under the names of their columns; numbers are aligned at the right.

    Args:
        to: where to.
        rows: mappings with the same keys in the same order.
        wide: columns of prose, which wrap on a terminal.
        styles: by column, the style of each text.
    """
    if not rows:
        return
    if not to.is_terminal:
        _plain(to, rows)
        return
    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for name in rows[0]:
        made.add_column(
            name.replace("_", " "),
            justify="right" if _are_numbers([row[name] for row in rows]) else "left",
            no_wrap=name not in wide,
            overflow="fold",
        )
    for row in rows:
        made.add_row(
            *(
                Text(cell(value, piped=False), (styles or {}).get(name, {}).get(str(value), ""))
                for name, value in row.items()
            )
        )
    to.print(made)


def _plain(to: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows for a pipe: columns aligned, nothing wrapped, no value left empty."""
    cells = [list(rows[0])] + [[cell(value, piped=True) for value in row.values()] for row in rows]
    widths = [max(cell_len(line[n]) for line in cells) for n in range(len(rows[0]))]
    right = [_are_numbers([row[name] for row in rows]) for name in rows[0]]
    for line in cells:
        padded = [
            " " * (width - cell_len(text)) + text
            if at_right
            else text + " " * (width - cell_len(text))
            for text, width, at_right in zip(line, widths, right, strict=True)
        ]
        to.print("  ".join(padded).rstrip())


def _are_numbers(values: Sequence[object]) -> bool:
    told = [value for value in values if value is not None]
    return bool(told) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in told
    )
