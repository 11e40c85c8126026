"""Small pictures of what single columns hold, and of which are missing together."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import isfinite

from homeostat.console.bars import shortened
from homeostat.console.charts import svg, text
from homeostat.core.clock import from_micros
from homeostat.features.profile_columns import ColumnProfile, Numbers
from homeostat.features.profile_pairs import MissingPattern

__all__ = ["histogram", "patterns", "top_values", "written"]

WIDE, HIGH = 420, 118
DAY = 86_400.0


def written(value: float, kind: str, span: float = DAY * 7) -> str:
    """Return a number of a column as a person reads it; a timestamp is an instant, in UTC.

    >>> written(1234.5678, "float"), written(0.0, "timestamp"), written(2e9, "integer")
    ('1,235', '1 Jan 1970', '2e+09')
    """
    if kind == "timestamp":
        at = from_micros(round(value * 1e6))
        return f"{at:%-d %b %Y}" if span > 3 * DAY else f"{at:%-d %b, %H:%M}"
    if value == int(value) and abs(value) < 1e7:
        return f"{value:,.0f}".replace("-", "−")
    text = f"{value:,.4g}" if 1e-4 <= abs(value) < 1e7 else f"{value:.3g}"
    return text.replace("-", "−") if "e" not in text else text


def histogram(column: ColumnProfile, numbers: Numbers) -> str:
    """Return a column's distribution: a bar per bin, and where the median is.

    What is beyond the 1 % and 99 % quantiles is in the first and the last bar. Whole numbers with
    a bar each are named below its middle.
    """
    if not numbers.counts:
        return ""
    low, high = numbers.edges[0], numbers.edges[-1]
    span, most = high - low, max(numbers.counts) or 1
    single = len(numbers.counts) == span and low == int(low)
    floor, top = HIGH - 20.0, 6.0
    step = WIDE / len(numbers.counts)
    body = [f'<line class="axis" x1="0" x2="{WIDE}" y1="{floor}" y2="{floor}"/>']
    for place, rows in enumerate(numbers.counts):
        tall = max(rows / most * (floor - top), 1.5) if rows else 0.0
        first, last = (
            written(edge, column.kind, span) for edge in numbers.edges[place : place + 2]
        )
        told = first if single else f"{first} to {last}"
        if place in (0, len(numbers.counts) - 1):
            told += " and less" if place == 0 else " and more"
        body.append(
            f'<rect class="bar s0" x="{place * step + 1:.1f}" y="{floor - tall:.1f}" '
            f'width="{max(step - 2, 1):.1f}" height="{tall:.1f}" rx="1.5">'
            f"<title>{escape(told)}: {rows:,} rows</title></rect>"
        )
    middle = numbers.quantiles[4] + (0.5 if single else 0.0)
    if isfinite(span) and span > 0 and low <= middle <= high:
        x = (middle - low) / span * WIDE
        title = f"half of the rows are at most {written(numbers.quantiles[4], column.kind, span)}"
        body.append(
            f'<g><line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 6}" y2="{floor}"/>'
            f"<title>{title}</title></g>"
        )
    inset = step / 2 if single else 0.0
    anchors = ("middle", "middle") if single else ("start", "end")
    last = written(high - 1 if single else high, column.kind, span)
    body.append(text(inset, HIGH - 4, written(low, column.kind, span), "tick", anchors[0]))
    body.append(text(WIDE - inset, HIGH - 4, last, "tick", anchors[1]))
    return svg(HIGH, body, f"Distribution of {column.name}", WIDE)


def top_values(column: ColumnProfile) -> str:
    """Return the most frequent values of a column, and the rest of the rows."""
    present = column.rows - column.missing
    rest = present - sum(top.rows for top in column.top)
    rows = [(str(top.value) or "(empty)", top.rows, "s0") for top in column.top]
    if rest > 0:
        others = column.distinct - len(column.top)
        rows.append((f"{others:,} others", rest, "s2"))
    if not rows:
        return ""
    step, left, right = 19.0, 140.0, 92.0
    most = max(count for _, count, _ in rows)
    body = []
    for place, (name, count, style) in enumerate(rows):
        y = place * step
        wide = max(count / most * (WIDE - left - right), 1.0)
        share = count / present
        body.append(text(left - 8, y + 13, shortened(name, 20), "tick", "end"))
        body.append(
            f'<rect class="bar {style}" x="{left}" y="{y + 3:.1f}" width="{wide:.1f}" '
            f'height="{step - 6}" rx="2"><title>{escape(name)}: {count:,} rows</title></rect>'
        )
        body.append(text(left + wide + 6, y + 13, f"{share:.1%} · {count:,}", "tick"))
    return svg(len(rows) * step + 2, body, f"Most frequent values of {column.name}", WIDE)


def patterns(found: Sequence[MissingPattern]) -> str:
    """Return which columns are missing together: a line per combination, a square per column."""
    if not found:
        return ""
    names = list(dict.fromkeys(name for pattern in found for name in pattern.columns))
    wide, cell = 720.0, 16.0
    step = min(72.0, 400.0 / len(names))
    turned = step < 70
    left = 4.0 if turned else 28.0
    longest = max(len(shortened(name, 16)) for name in names)
    head = 18 + 5.2 * longest if turned else 22.0
    bars = left + len(names) * step + 18
    most = max(pattern.rows for pattern in found)
    body = []
    for place, name in enumerate(names):
        x = left + place * step + cell / 2
        label = shortened(name, 16 if turned else 11)
        if turned:
            body.append(
                f'<text class="tick" transform="translate({x + 4:.1f} {head - 6}) rotate(-52)">'
                f"{escape(label)}</text>"
            )
        else:
            body.append(text(x, head - 8, label, "tick", "middle"))
    for line, pattern in enumerate(found):
        y = head + line * 24
        for place, name in enumerate(names):
            style = "hole" if name in pattern.columns else "whole"
            said = "missing" if style == "hole" else "there"
            body.append(
                f'<rect class="{style}" x="{left + place * step:.1f}" y="{y}" width="{cell}" '
                f'height="{cell}" rx="3"><title>{escape(name)}: {said}</title></rect>'
            )
        size = max(pattern.rows / most * (wide - bars - 110), 1.0)
        body.append(
            f'<rect class="bar s1" x="{bars:.1f}" y="{y + 2}" width="{size:.1f}" height="12" '
            'rx="2">'
            f"<title>{escape(', '.join(pattern.columns))}</title></rect>"
        )
        said = f"{pattern.share:.1%} · {pattern.rows:,}"
        body.append(text(bars + size + 6, y + 12, said, "tick"))
    return svg(head + len(found) * 24 + 4, body, "Columns that are missing together", wide)
