"""The end of a replay on the terminal: what came out, what happened and why, what to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from homeostat.console.decisions import is_sign, version_name
from homeostat.console.summary import ALL, Summary, number, written_instant
from homeostat.console.wording import (
    clock,
    days,
    month_name,
    percent,
    short_name,
    signed,
    three,
    whole,
)

__all__ = ["print_summary"]

COLOURS = {
    "promote": "green",
    "rollback": "bold red",
    "reject": "red",
    "give_up": "bold red",
    "train": "blue",
    "shadow": "yellow",
    "canary": "yellow",
    "blue_green": "yellow",
}
BLOCKS = "▁▂▃▄▅▆▇█"
SHOWN = 24
"""Decisions on the terminal; the report has them all."""


def print_summary(summary: Mapping[str, Any], console: Console) -> None:
    """Print the summary of a replay; parts the summary lacks are left out."""
    found = Summary(summary)
    period = found.period()
    title = found.text("system") or "system"
    if period:
        title += f" · {days(*period)}"
    console.print()
    console.print(Rule(Text(title, style="bold"), style="dim"))
    parts = (_headline, _months, _sparks, _decisions, _events, _commands)
    for part in parts:
        made = part(found)
        if made is not None:
            above = 0 if isinstance(made, Table) and made.box else 1  # such tables begin with a gap
            console.print(Padding(made, (above, 1, 0, 1)))
    console.print()


def _headline(found: Summary) -> Columns | None:
    cells: list[Group] = []

    def cell(value: str, words: str, style: str = "bold") -> None:
        cells.append(Group(Text(value, style=style), Text(words, style="dim")))

    answered, seconds = found.number("predictions"), found.number("seconds")
    if math.isfinite(answered):
        cell(whole(answered), "predictions")
    auc, gain = found.metric("auc", "final", ALL), found.gain(ALL)
    if math.isfinite(auc):
        cell(three(auc), "ROC-AUC")
    if math.isfinite(gain):
        cell(signed(gain), "by streaming features", "bold green" if gain > 0 else "bold red")
    compared, different = found.number("skew_compared"), found.number("skew_different")
    if math.isfinite(compared) and math.isfinite(different):
        style = "bold red" if different else "bold green"
        cell(whole(different), f"of {whole(compared)} values skewed", style)
    if math.isfinite(seconds):
        memory = found.number("peak_rss_mb")
        cell(clock(seconds), f"{whole(memory)} MB" if math.isfinite(memory) else "")
    return Columns(cells, padding=(0, 4)) if cells else None


def _months(found: Summary) -> Table | None:
    months, models = found.months(), found.models()
    if not months or not models:
        return None
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim", show_footer=False)
    table.add_column("")
    rates = found.mapping("base_rate")
    if rates:
        table.add_column("base rate", justify="right")
    metrics = [("auc", "AUC"), ("cost", "cost"), ("calibration_error", "ECE")]
    shown = [(key, title) for key, title in metrics if found.mapping(key)]
    for key, title in shown:
        for index, model in enumerate(models):
            name = f"{title if index == 0 else ''}\n{_column(model)}"
            table.add_column(name, justify="right")
        if key == "auc":
            table.add_column("\ngain", justify="right")
    for month in (*months, ALL):
        cells = [Text("all", style="bold") if month == ALL else Text(month_name(month)[:3])]
        if rates:
            cells.append(Text(percent(number(rates.get(month))), style="dim"))
        for key, _ in shown:
            cells += _compared(found, key, month, models)
        table.add_row(*cells)
    if "without_streaming" in models:
        table.caption = "static: the same model without streaming features · ECE: calibration error"
        table.caption_justify = "left"
    return table


def _column(model: str) -> str:
    return "static" if model == "without_streaming" else short_name(model)


def _compared(found: Summary, key: str, month: str, models: Sequence[str]) -> list[Text]:
    values = [found.metric(key, model, month) for model in models]
    finite = [value for value in values if math.isfinite(value)]
    best = (max if key == "auc" else min)(finite) if finite else math.nan
    cells = [Text(three(value), style="bold" if value == best else "") for value in values]
    if key == "auc":
        gain = found.gain(month)
        cells.append(Text(signed(gain), style="green" if gain > 0 else "red"))
    return cells


def _decisions(found: Summary) -> Table | None:
    done = [decision for decision in found.decisions() if not is_sign(decision)]
    if not done:
        return None
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for title in ("when (UTC)", "what", "", "why"):
        table.add_column(title, no_wrap=title != "why", overflow="fold")
    left_out = max(0, len(done) - SHOWN)
    for decision in done[left_out:]:
        action = str(decision.get("action", "?"))
        table.add_row(
            Text(written_instant(decision.get("at")), style="dim"),
            Text(action.replace("_", " "), style=COLOURS.get(action, "")),
            version_name(decision.get("version")),
            Text(str(decision.get("reason", ""))),
        )
    told = len(found.decisions()) - len(done)
    more = [f"{left_out} earlier decisions"] if left_out else []
    more += [f"{told} findings that opened and closed"] if told else []
    if more:
        table.caption = f"and {', '.join(more)}: see the report"
        table.caption_justify = "left"
    return table


def _events(found: Summary) -> Table | None:
    counts, refused = found.mapping("counts"), found.mapping("quarantined")
    if not counts and not refused:
        return None
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("events")
    for title in ("accepted", "duplicates", "too late", "quarantined"):
        table.add_column(title, justify="right")
    table.add_column("why", overflow="fold")
    for source in sorted({*counts, *refused}):
        reasons = found.mapping("quarantined", source).items()
        table.add_row(
            str(source),
            *(
                whole(found.number("counts", source, name))
                for name in ("accepted", "duplicates", "too_late", "rejected")
            ),
            Text(", ".join(f"{reason} {whole(number(n))}" for reason, n in reasons), style="dim"),
        )
    return table


def _sparks(found: Summary) -> Table | None:
    """Return the weeks of each model as one line of blocks, on one scale."""
    lines = {
        model: [number(row[1]) for row in found.rows("weekly", model) if len(row) > 1]
        for model in found.models()
    }
    values = [value for line in lines.values() for value in line if math.isfinite(value)]
    if not values:
        return None
    low, high = min(values), max(values)
    table = Table(box=None, pad_edge=False, show_header=False)
    for model, line in lines.items():
        blocks = "".join(_block(value, low, high) for value in line)
        colour = "blue" if model == "final" else "dim"
        table.add_row(Text(_column(model), style="dim"), Text(blocks, style=colour))
    table.caption = f"AUC by week, {three(low)} to {three(high)}"
    table.caption_justify = "left"
    return table


def _block(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    share = (value - low) / (high - low) if high > low else 0.5
    return BLOCKS[min(int(share * len(BLOCKS)), len(BLOCKS) - 1)]


def _commands(found: Summary) -> Panel | None:
    commands = [str(command) for command in found.rows("commands")]
    if not commands:
        return None
    return Panel(
        Text("\n".join(commands), style="cyan"),
        title="Try next",
        title_align="left",
        border_style="dim",
    )
