"""A replay while it runs: how far the clock is, and each decision as it falls."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from homeostat.console.decisions import is_sign, version_name
from homeostat.console.terminal import COLOURS
from homeostat.core.clock import from_micros
from homeostat.core.decisions import Decision

__all__ = ["ReplayDisplay", "Told"]


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

    Use it as a context, and give `told` to the replay.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._month = ""
        self._bar = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", justify="left"),
            BarColumn(bar_width=None, complete_style="blue", finished_style="green"),
            TaskProgressColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None, note="")

    def __enter__(self) -> ReplayDisplay:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, words: str) -> None:
        """Show what is being done before or after the replay itself."""
        self._bar.update(self._task, description=words, total=None, note="")
        if not self._console.is_terminal:
            self._console.print(words, highlight=False)

    def told(self, progress: Told) -> None:
        """Show how far a replay is."""
        if progress.phase == "history":
            self._bar.update(self._task, description="reading history", total=None)
            return
        day = from_micros(progress.at)
        note = f"{progress.predictions:,} predictions"
        self._bar.update(
            self._task,
            description=f"{day:%d %b %Y}",
            total=progress.steps,
            completed=progress.step,
            note=note,
        )
        month = f"{day:%B %Y}"
        if not self._console.is_terminal and month != self._month:
            self._console.print(f"{month}: {note}", highlight=False)
        self._month = month
        for decision in progress.decisions:
            self._tell(decision)

    def _tell(self, decision: Decision) -> None:
        style = "dim" if is_sign({"action": decision.action}) else ""
        line = Text.assemble(
            (f"{from_micros(decision.at):%d %b}  ", "dim"),
            (f"{decision.action.replace('_', '-'):<10} ", COLOURS.get(decision.action, "dim")),
            (f"{version_name(decision.version):<4}", style),
            (decision.reason, style),
        )
        line.no_wrap = self._console.is_terminal
        line.overflow = "ellipsis"
        self._bar.console.print(line, highlight=False)
