"""The timeline of rollouts: which version answered which share, and how each attempt ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from homeostat.console.charts import LEFT, RIGHT, WIDTH, Mark, Span, svg, text, time_axis
from homeostat.console.summary import Move

__all__ = ["Stay", "marks", "stays", "timeline"]

LANE = 26


@dataclass(frozen=True, slots=True)
class Stay:
    """A version in one stage from `start` to `end`; `fate` is "" or "withdrawn"."""

    version: str
    stage: str
    share: float
    start: datetime
    end: datetime
    fate: str = ""


def stays(moves: Sequence[Move], end: datetime) -> list[Stay]:
    """Return the stays of all versions; a move ends the stay of its version and, if it leads, of
    the champion before it.
    """
    open_stays: dict[str, Move] = {}
    found: list[Stay] = []

    def close(version: str, at: datetime, fate: str = "") -> None:
        begun = open_stays.pop(version, None)
        if begun is not None:
            stage = "champion" if begun.leads else begun.stage
            share = 1.0 if begun.leads else begun.share
            found.append(Stay(version, stage, share, begun.at, at, fate))

    for move in moves:
        close(move.version, move.at, "withdrawn" if move.ends else "")
        if move.leads:
            for version in [v for v, other in open_stays.items() if other.leads]:
                close(version, move.at)
        if not move.ends:
            open_stays[move.version] = move
    for version in list(open_stays):
        close(version, end)
    return sorted(found, key=lambda stay: (stay.start, stay.version))


def marks(moves: Iterable[Move]) -> list[Mark]:
    """Return the instants at which the answering model changed, for the charts of quality."""
    found: list[Mark] = []
    withdrawn: datetime | None = None
    for index, move in enumerate(moves):
        if move.ends:
            withdrawn = move.at
            title = f"{_day(move.at)}: version {move.version} rolled back"
            found.append(Mark(move.at, title, "down"))
        elif move.leads and index > 0 and move.at != withdrawn:
            found.append(Mark(move.at, f"{_day(move.at)}: version {move.version} promoted", "up"))
    return found


def timeline(moves: Sequence[Move], span: Span) -> str:
    """Return one lane per version under a band that shows who answered."""
    found = stays(moves, span.end)
    versions = list(dict.fromkeys(stay.version for stay in found))
    if not versions:
        return ""
    band, top = 54, 12
    bottom = top + band + 12 + len(versions) * LANE
    body = _band(found, span, top, band)
    for index, version in enumerate(versions):
        y = top + band + 14 + index * LANE
        body.append(text(LEFT - 8, y + 13, f"v{version}", "name", "end"))
        body.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y + 9}" y2="{y + 9}"/>'
        )
        mine = [stay for stay in found if stay.version == version]
        body += [_lane(stay, span, y) for stay in mine]
        body += [_cross(stay, span, y, top) for stay in mine if stay.fate]
    body += time_axis(span, bottom)
    return svg(bottom + 24, body, "Which model version answered which share of the requests")


def _band(found: Sequence[Stay], span: Span, top: int, height: int) -> list[str]:
    """Return the shares of all requests: the champion, and over it what a challenger took."""
    body = [text(LEFT - 8, top + 10, "100%", "tick", "end")]
    body.append(text(LEFT - 8, top + height, "0%", "tick", "end"))
    withdrawn = {stay.version for stay in found if stay.fate}
    for stay in sorted(found, key=lambda stay: stay.stage != "champion"):
        if stay.stage != "champion" and not stay.share > 0:
            continue
        style = stay.stage
        if stay.stage != "champion" and stay.version in withdrawn:
            style = "harmful"
        share = 1.0 if stay.stage == "champion" else stay.share
        x, width = span.x(stay.start), max(span.x(stay.end) - span.x(stay.start), 1.5)
        body.append(
            f'<rect class="stay {style}" x="{x:.1f}" y="{top}" width="{width:.1f}" '
            f'height="{share * height:.1f}"><title>{escape(_title(stay))}</title></rect>'
        )
        if stay.stage == "champion" and width > 34:
            words = f"v{stay.version}"
            body.append(text(x + width / 2, top + height - 8, words, "inside", "middle"))
    return body


def _lane(stay: Stay, span: Span, y: float) -> str:
    x, width = span.x(stay.start), max(span.x(stay.end) - span.x(stay.start), 2.5)
    style = f"{stay.stage} {'harmful' if stay.fate and stay.stage != 'champion' else ''}"
    return (
        f'<rect class="stay {style.strip()}" x="{x:.1f}" y="{y + 2}" width="{width:.1f}" '
        f'height="14" rx="2"><title>{escape(_title(stay))}</title></rect>'
    )


def _cross(stay: Stay, span: Span, y: float, top: float) -> str:
    """Return the end of a version that was withdrawn: a line through all lanes, a cross, words."""
    end, middle, arm = span.x(stay.end), y + 9, 4.5
    x, near_end = end + 9, end > WIDTH - 150
    words = "rolled back" + (f" at {stay.share:.0%}" if stay.stage == "canary" else "")
    place, anchor = (end - 12, "end") if near_end else (x + 11, "start")
    return (
        f'<g class="cross"><line x1="{end:.1f}" x2="{end:.1f}" y1="{top - 6}" y2="{y + 18}"/>'
        f"{text(place, middle + 4, words, 'tick', anchor)}"
        f'<path d="M{x - arm:.1f} {middle - arm}L{x + arm:.1f} {middle + arm}'
        f'M{x + arm:.1f} {middle - arm}L{x - arm:.1f} {middle + arm}"/>'
        f'<circle cx="{x:.1f}" cy="{middle}" r="8"/>'
        f"<title>v{escape(stay.version)} rolled back on {_day(stay.end)}</title></g>"
    )


def _title(stay: Stay) -> str:
    part = f" at {stay.share:.0%}" if stay.stage not in ("champion", "shadow") else ""
    fate = ", then rolled back" if stay.fate else ""
    stage = stay.stage.replace("_", "-")
    return f"v{stay.version}: {stage}{part}, {_day(stay.start)} to {_day(stay.end)}{fate}"


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b %Y}"
