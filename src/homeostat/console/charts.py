"""Charts as SVG text: drawn here, so that a page needs no network and no script.

Sizes are in user units of a 720 wide picture. Colours are classes (`s0`, `s1` ...), so that the
page decides them for light and dark. What a mark means is its `title`, shown on hover.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import escape

__all__ = [
    "Mark",
    "Series",
    "Span",
    "line_chart",
    "nice_ticks",
    "svg",
    "text",
    "time_axis",
]

WIDTH = 720
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 14, 26
Point = tuple[datetime, float]
Wording = Callable[[float], str]
Place = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name, its class, and its points (instant, value)."""

    name: str
    style: str
    points: Sequence[Point]
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at an instant, with a title and a class."""

    at: datetime
    title: str
    style: str


@dataclass(frozen=True, slots=True)
class Span:
    """The horizontal axis of time."""

    start: datetime
    end: datetime

    def x(self, at: datetime) -> float:
        """Return the place of an instant between the margins."""
        whole = (self.end - self.start).total_seconds() or 1.0
        share = (at - self.start).total_seconds() / whole
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round values that span `low` to `high`, about `about` of them.

    >>> nice_ticks(0.63, 0.79)
    [0.6, 0.65, 0.7, 0.75, 0.8]
    """
    if not high > low:
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    raw = (high - low) / about
    power: float = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    digits = max(0, 1 - math.floor(math.log10(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, digits) for i in range(first, last + 1)]


def svg(height: float, body: Sequence[str], label: str, width: float = WIDTH) -> str:
    """Return a picture of that size; `label` tells it to those who cannot see it."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
        + "".join(body)
        + "</svg>"
    )


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    """Return words at a place."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def time_axis(span: Span, bottom: float) -> list[str]:
    """Return month ticks and their names along the bottom."""
    body = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>']
    month = datetime(span.start.year, span.start.month, 1, tzinfo=UTC)
    months: list[datetime] = []
    while month <= span.end:
        if month >= span.start:
            months.append(month)
        month = (month + timedelta(days=32)).replace(day=1)
    every = max(1, math.ceil(len(months) / 13))
    for month in months[::every]:
        x = span.x(month)
        body.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        )
        if x < WIDTH - RIGHT - 14:
            name = f"{month:%b %Y}" if month.month == 1 or month == months[0] else f"{month:%b}"
            body.append(text(x + 3, bottom + 16, name, "tick"))
    return body


def value_axis(ticks: Sequence[float], y: Place, written: Wording) -> list[str]:
    """Return horizontal grid lines with their values."""
    body: list[str] = []
    for tick in ticks:
        body.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
            f'y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        )
        body.append(text(LEFT - 7, y(tick) + 4, written(tick), "tick", "end"))
    return body


def line_chart(
    series: Sequence[Series],
    span: Span,
    label: str,
    written: Wording,
    *,
    marks: Sequence[Mark] = (),
    height: int = 190,
    floor: float | None = None,
    limit: float | None = None,
) -> str:
    """Return lines over time; `limit` is a dashed bound, `floor` a value the axis must reach."""
    values = [value for one in series for _, value in one.points if math.isfinite(value)]
    values += [bound for bound in (floor, limit) if bound is not None]
    if not values:
        return ""
    ticks = nice_ticks(min(values), max(values))
    bottom = height - BOTTOM

    def y(value: float) -> float:
        return bottom - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - TOP)

    body = [*value_axis(ticks, y, written), *time_axis(span, bottom)]
    for mark in marks:
        x = span.x(mark.at)
        body.append(
            f'<g class="mark {mark.style}"><line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" '
            f'y2="{bottom}"/><circle cx="{x:.1f}" cy="{TOP - 6}" r="3.5"/>'
            f"<title>{escape(mark.title)}</title></g>"
        )
    if limit is not None:
        body.append(
            f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
            f'y1="{y(limit):.1f}" y2="{y(limit):.1f}"/>'
        )
    for one in reversed(series):
        body += drawn(one, span, y, written)
    return svg(height, body, label)


def drawn(one: Series, span: Span, y: Place, written: Wording) -> list[str]:
    """Return one line, broken where values are missing, with a point to hover at each value."""
    path, pen = "", "M"
    points: list[str] = []
    for index, (at, value) in enumerate(one.points):
        if not math.isfinite(value):
            pen = "M"
            continue
        path += f"{pen}{span.x(at):.1f} {y(value):.1f}"
        pen = "L"
        note = one.notes[index] if index < len(one.notes) else ""
        title = f"{one.name}, {at:%-d %b %Y}: {written(value)}{note}"
        points.append(
            f'<circle cx="{span.x(at):.1f}" cy="{y(value):.1f}" r="7">'
            f"<title>{escape(title)}</title></circle>"
        )
    return [
        f'<path class="line {one.style}" d="{path}"/>',
        f'<g class="points {one.style}">{"".join(points)}</g>',
    ]
