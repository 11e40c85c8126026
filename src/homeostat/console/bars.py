"""Charts without time: shares, latencies, and predictions against what was observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from homeostat.console.charts import BOTTOM, TOP, WIDTH, nice_ticks, svg, text

__all__ = ["Bar", "bars", "ranges", "reliability"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar: its name, value, and what is written beside it."""

    name: str
    value: float
    text: str
    style: str = "s0"


def bars(rows: Sequence[Bar], label: str) -> str:
    """Return horizontal bars from nothing to the greatest value, each with its text."""
    if not rows:
        return ""
    name_width, text_width, step = 290, 64, 22
    room = WIDTH - name_width - text_width
    greatest = max((abs(bar.value) for bar in rows), default=0.0) or 1.0
    body: list[str] = []
    for index, bar in enumerate(rows):
        top = 4 + index * step
        width = max(abs(bar.value) / greatest * room, 1.0)
        body.append(text(name_width - 8, top + 13, shortened(bar.name, 40), "name", "end"))
        body.append(
            f'<rect class="bar {bar.style}" x="{name_width}" y="{top + 2}" width="{width:.1f}" '
            f'height="{step - 7}" rx="2">'
            f"<title>{escape(bar.name)}: {escape(bar.text)}</title></rect>"
        )
        body.append(text(name_width + width + 6, top + 13, bar.text, "tick"))
    return svg(8 + len(rows) * step, body, label)


def shortened(words: str, length: int) -> str:
    """Return at most `length` letters of a name, its end kept."""
    return words if len(words) <= length else f"…{words[-(length - 1) :]}"


def ranges(rows: Sequence[tuple[str, float, float, float]], label: str) -> str:
    """Return p50, p95 and p99 in milliseconds per name, on a logarithmic axis."""
    positive = [value for _, *values in rows for value in values if value > 0]
    if not positive:
        return ""
    left, right, step = 190.0, 178.0, 30
    low = math.floor(math.log10(min(positive)) * 2) / 2
    high = max(math.ceil(math.log10(max(positive)) * 2) / 2, low + 0.5)
    bottom = 8 + len(rows) * step

    def x(value: float) -> float:
        share = (math.log10(max(value, 10**low)) - low) / (high - low)
        return left + share * (WIDTH - left - right)

    body: list[str] = []
    for power in range(math.ceil(low), math.floor(high) + 1):
        at = x(10.0**power)
        body.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="4" y2="{bottom}"/>')
        body.append(text(at, bottom + 16, f"{10.0**power:g} ms", "tick", "middle"))
    for index, (name, p50, p95, p99) in enumerate(rows):
        y = 8 + index * step + step / 2
        body.append(text(left - 12, y + 4, name, "name", "end"))
        body.append(
            f'<line class="range s0" x1="{x(p50):.1f}" x2="{x(p99):.1f}" y1="{y}" y2="{y}"/>'
        )
        for value, size, words in ((p50, 5.5, "median"), (p95, 4, "95 %"), (p99, 4, "99 %")):
            body.append(
                f'<circle class="dot {"s0" if words == "median" else "hollow s0"}" '
                f'cx="{x(value):.1f}" cy="{y}" r="{size}">'
                f"<title>{escape(name)}, {words}: {value:.3g} ms</title></circle>"
            )
        words = f"{p50:.3g} · {p95:.3g} · {p99:.3g} ms"
        body.append(text(WIDTH - 4, y + 4, words, "tick", "end"))
    return svg(bottom + 24, body, label)


def reliability(
    series: Sequence[tuple[str, str, Sequence[tuple[float, float, float]]]], label: str
) -> str:
    """Return observed share against mean score per bin; `series` is (name, class, points)."""
    points = [point for _, _, found in series for point in found]
    if not points:
        return ""
    size, most = 360, max(rows for *_, rows in points) or 1.0
    ticks = nice_ticks(0.0, max(max(score, seen) for score, seen, _ in points), about=5)
    bottom, width = size - BOTTOM - 14, size - TOP - BOTTOM - 40
    left = 48.0

    def place(value: float) -> float:
        return value / ticks[-1] * width

    body: list[str] = []
    for tick in ticks:
        x, y = left + place(tick), bottom - place(tick)
        body.append(
            f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        body.append(text(left - 7, y + 4, f"{tick:.0%}", "tick", "end"))
        body.append(text(x, bottom + 16, f"{tick:.0%}", "tick", "middle"))
    body.append(
        f'<line class="limit" x1="{left}" y1="{bottom}" x2="{left + width}" y2="{bottom - width}"/>'
    )
    body.append(text(left + width / 2, bottom + 34, "predicted", "tick", "middle"))
    body.append(text(left - 34, bottom - width - 14, "observed", "tick"))
    for name, style, found in reversed(series):
        path = "L".join(f"{left + place(s):.1f} {bottom - place(o):.1f}" for s, o, _ in found)
        body.append(f'<path class="line {style}" d="M{path}"/>')
        for score, seen, rows in found:
            body.append(
                f'<circle class="dot {style}" cx="{left + place(score):.1f}" '
                f'cy="{bottom - place(seen):.1f}" r="{2.5 + 3.5 * math.sqrt(rows / most):.1f}">'
                f"<title>{escape(name)}: predicted {score:.1%}, observed {seen:.1%} "
                f"of {rows:,.0f}</title></circle>"
            )
    return svg(size, body, label)
