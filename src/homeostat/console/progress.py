"""A replay as it runs: the virtual date, what answers, how good it is, and each decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from time import monotonic
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from homeostat.console.decisions import is_sign, version_name
from homeostat.console.wording import clock
from homeostat.core.clock import from_micros
from homeostat.core.decisions import Decision
from homeostat.core.durations import Micros
from homeostat.deploy.state import RolloutState, advance

__all__ = ["ReplayDisplay"]

SIGNS = {
    "train": ("◇", "cyan"),
    "shadow": ("◌", "yellow"),
    "canary": ("◔", "yellow"),
    "blue_green": ("◑", "yellow"),
    "promote": ("▲", "bold green"),
    "rollback": ("▼", "bold red"),
    "reject": ("✕", "red"),
    "hold": ("‖", "yellow"),
}
BLOCKS = "▁▂▃▄▅▆▇█"
AUC_LOW, AUC_HIGH = 0.6, 0.9
"""The line of blocks has a fixed scale, so that it does not jump."""


class ReplayDisplay(AbstractContextManager["ReplayDisplay"]):
    """Shows a replay on a terminal; elsewhere it writes a line per decision and per month.

    Args:
        console: where to write.
        name: of the system.
        steps: of the replay.
    """

    def __init__(self, console: Console, name: str, steps: int) -> None:
        self._console, self._name, self._steps = console, name, steps
        self._step = self._predictions = 0
        self._at: datetime | None = None
        self._month = ""
        self._auc: list[float] = []
        self._states: dict[str, RolloutState] = {}
        self._open: set[str] = set()
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
        """Write one line that stays."""
        self._console.print(Text(words, style="dim"))

    def catch_up(self, decisions: Sequence[Decision], predictions: int) -> None:
        """Take up what an earlier run of the replay did, without showing it."""
        self._predictions = predictions
        for decision in decisions:
            self._note(decision)

    def move(
        self, at: Micros, step: int, predictions: int, decisions: Sequence[Decision] = ()
    ) -> None:
        """Show that a step is done.

        Args:
            at: the virtual instant.
            step: its number.
            predictions: given in this step.
            decisions: taken at its end; findings that open and close are counted, not listed.
        """
        self._at, self._step = from_micros(at), step
        self._predictions += predictions
        for decision in decisions:
            self._note(decision)
            if not is_sign(decision.as_json()):
                self._console.print(
                    self._decision(decision), soft_wrap=not self._console.is_terminal
                )
        month = f"{self._at:%B}"
        if not self._console.is_terminal and month != self._month:
            self._console.print(f"{self._at:%Y-%m-%d}  {self._standing()}", soft_wrap=True)
        self._month = month

    def quality(self, auc: float) -> None:
        """Show the ROC-AUC of the latest labelled predictions."""
        if math.isfinite(auc):
            self._auc.append(auc)

    def __rich__(self) -> RenderableType:
        top = Table.grid(expand=True, padding=(0, 2, 0, 0))
        top.add_column(no_wrap=True)
        top.add_column(ratio=1)
        top.add_column(justify="right", no_wrap=True)
        day = "history" if self._at is None else f"{self._at:%a} {self._at.day:>2} {self._at:%b %Y}"
        top.add_row(
            Text(day, style="bold"),
            ProgressBar(total=self._steps, completed=self._step),
            Text(clock(monotonic() - self._began), style="dim"),
        )
        return Panel(
            Group(top, Text(self._standing(), no_wrap=True, overflow="ellipsis"), self._line()),
            title=self._name,
            title_align="left",
            border_style="dim",
            padding=(0, 1),
        )

    def _standing(self) -> str:
        parts = [f"{self._predictions:,} predictions"]
        for state in self._states.values():
            if state.champion is not None:
                parts.append(f"{version_name(state.champion)} serves")
            if state.challenger is not None:
                stage = state.stage.replace("_", "-")
                share = f" at {state.share:.0%}" if state.share else ""
                parts.append(f"{version_name(state.challenger)} in {stage}{share}")
        if self._open:
            parts.append(f"{len(self._open)} open finding{'s' if len(self._open) > 1 else ''}")
        if self._auc and not self._console.is_terminal:
            parts.append(f"AUC {self._auc[-1]:.3f}")
        return " · ".join(parts)

    def _line(self) -> Text:
        if not self._auc:
            return Text("AUC of the last 14 days: no labels yet", style="dim")
        blocks = "".join(_block(auc) for auc in self._auc[-48:])
        return Text.assemble(
            ("AUC of the last 14 days ", "dim"),
            (blocks, "blue"),
            (f" {self._auc[-1]:.3f}", "bold"),
        )

    def _decision(self, decision: Decision) -> Text:
        sign, style = SIGNS.get(decision.action, ("·", ""))
        when = from_micros(decision.at)
        words = Text(f"{when.day:>2} {when:%b}  ", style="dim")
        words.append(f"{sign} {decision.action.replace('_', '-'):<8} ", style=style)
        words.append(f"{version_name(decision.version):<4}", style="bold")
        words.append(decision.reason)
        if decision.action not in ("rollback", "reject") and self._console.is_terminal:
            words.no_wrap, words.overflow = True, "ellipsis"
        return words

    def _note(self, decision: Decision) -> None:
        if decision.action in ("alert", "clear"):
            key = str(decision.evidence.get("key", decision.model))
            (self._open.add if decision.action == "alert" else self._open.discard)(key)
        else:
            state = self._states.get(decision.model, RolloutState())
            self._states[decision.model] = advance(state, decision)


def _block(auc: float) -> str:
    share = (auc - AUC_LOW) / (AUC_HIGH - AUC_LOW)
    return BLOCKS[max(0, min(int(share * len(BLOCKS)), len(BLOCKS) - 1))]
