"""A replay while it runs: the virtual date, who answers, how well, and each decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from homeostat.console.decisions import is_sign, version_name
from homeostat.console.terminal import COLOURS
from homeostat.console.wording import clock
from homeostat.core.clock import from_micros
from homeostat.core.decisions import Decision

__all__ = ["ReplayDisplay", "Told"]

SIGNS = {
    "train": "◇", "shadow": "◌", "canary": "◔", "blue_green": "◑", "promote": "▲",
    "rollback": "▼", "reject": "✕", "give_up": "▽", "hold": "‖",
}  # fmt: skip
WHOLE = frozenset({"rollback", "reject", "give_up"})
"""Decisions whose reason is shown in full on a terminal."""

BLOCKS = "▁▂▃▄▅▆▇█"
AUC_LOW, AUC_HIGH = 0.65, 0.9
"""The blocks have a fixed scale, so that they do not change once they are shown."""


class Told(Protocol):
    """What a replay says of itself after each step."""

    @property
    def phase(self) -> str: ...
    @property
    def at(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def predictions(self) -> int: ...
    @property
    def decisions(self) -> Sequence[Decision]: ...


class ReplayDisplay:
    """Shows a replay on a console; where that is no terminal, it prints decisions and months.

    Use it as a context, and give `told` to the replay. Findings that open and close are counted,
    not listed: the report has them all.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._words, self._spinner = "starting", Spinner("dots")
        self._progress: Told | None = None
        self._month, self._before = "", 0
        self._serving: dict[str, str] = {}
        self._rolling: dict[str, str] = {}
        self._open: set[str] = set()
        self._auc: list[float] = []
        self._began = monotonic()
        self._live = Live(self, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> ReplayDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, words: str) -> None:
        """Show what is being done before or after the replay itself."""
        self._words, self._progress = words, None
        if not self._console.is_terminal:
            self._print(Text(words))

    def catch_up(self, decisions: Sequence[Decision], predictions: int) -> None:
        """Take up what an earlier run of the replay did, without telling it again."""
        self._before = predictions
        for decision in decisions:
            self._note(decision)

    def quality(self, auc: float) -> None:
        """Show one more ROC-AUC of the latest answers with a label; NaN is left out."""
        if math.isfinite(auc):
            self._auc.append(auc)

    def told(self, progress: Told) -> None:
        """Show how far a replay is."""
        if progress.phase == "history":
            self._words = "reading history"
            return
        self._progress = progress
        for decision in progress.decisions:
            self._note(decision)
            if not is_sign({"action": decision.action}):
                self._print(_line(decision, self._console.is_terminal))
        month = f"{from_micros(progress.at):%B %Y}"
        if not self._console.is_terminal and month != self._month:
            self._print(Text(f"{month}: {self._standing(progress)}"))
        self._month = month

    def __rich__(self) -> RenderableType:
        if self._progress is None:
            self._spinner.update(text=self._words)
            return self._spinner
        day = from_micros(self._progress.at)
        top = Table.grid(expand=True, padding=(0, 2, 0, 0))
        top.add_column(no_wrap=True)
        top.add_column(ratio=1)
        top.add_column(justify="right", no_wrap=True)
        top.add_row(
            Text(f"{day:%a} {day.day:>2} {day:%b %Y}", style="bold"),
            ProgressBar(total=self._progress.steps, completed=self._progress.step),
            Text(clock(monotonic() - self._began), style="dim"),
        )
        standing = Text(self._standing(self._progress), no_wrap=True, overflow="ellipsis")
        return Panel(Group(top, standing, self._quality()), border_style="dim", padding=(0, 1))

    def _print(self, line: Text) -> None:
        self._console.print(line, highlight=False, soft_wrap=not self._console.is_terminal)

    def _standing(self, progress: Told) -> str:
        parts = [f"{self._before + progress.predictions:,} predictions"]
        parts += [f"{version} serves" for version in self._serving.values()]
        parts += self._rolling.values()
        if self._open:
            parts.append(f"{len(self._open)} open finding{'s' if len(self._open) > 1 else ''}")
        if self._auc and not self._console.is_terminal:
            parts.append(f"AUC {self._auc[-1]:.3f}")
        return " · ".join(parts)

    def _quality(self) -> Text:
        if not self._auc:
            return Text("AUC: no label is final yet", style="dim")
        blocks = "".join(_block(auc) for auc in self._auc[-48:])
        return Text.assemble(
            ("AUC ", "dim"), (f"{self._auc[-1]:.3f} ", "bold"), (blocks, COLOURS["train"])
        )

    def _note(self, decision: Decision) -> None:
        """Follow who serves, who is on the way, and which findings are open."""
        model, version = decision.model, version_name(decision.version)
        if decision.action in ("alert", "clear"):
            key = str(decision.evidence.get("key", model))
            (self._open.add if decision.action == "alert" else self._open.discard)(key)
        elif decision.action in ("shadow", "canary", "blue_green"):
            share = decision.evidence.get("share")
            part = f" at {share:.0%}" if share else ""
            self._rolling[model] = f"{version} in {decision.action.replace('_', '-')}{part}"
        elif decision.action in ("promote", "rollback", "reject"):
            self._rolling.pop(model, None)
            back = decision.evidence.get("back_to")
            if decision.action == "promote":
                self._serving[model] = version
            elif isinstance(back, int):
                self._serving[model] = version_name(back)


def _line(decision: Decision, is_terminal: bool) -> Text:
    when, action = from_micros(decision.at), decision.action
    style = COLOURS.get(action, "")
    line = Text.assemble(
        (f"{when.day:>2} {when:%b}  ", "dim"),
        (f"{SIGNS.get(action, '·')} {action.replace('_', '-'):<10} ", style),
        (f"{version_name(decision.version):<4}", "bold"),
        decision.reason,
    )
    line.no_wrap = is_terminal and action not in WHOLE
    line.overflow = "ellipsis"
    return line


def _block(auc: float) -> str:
    share = (auc - AUC_LOW) / (AUC_HIGH - AUC_LOW)
    return BLOCKS[max(0, min(int(share * len(BLOCKS)), len(BLOCKS) - 1))]
