"""The display of a running replay tells every decision, on a terminal and in a log."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from homeostat.console.progress import ReplayDisplay
from homeostat.console.summary import instant
from homeostat.core.clock import to_micros
from homeostat.core.decisions import Decision


@dataclass(frozen=True)
class Step:
    phase: str
    at: int
    step: int
    steps: int
    predictions: int
    decisions: tuple[Decision, ...] = ()


def micros(day: str) -> int:
    found = instant(day)
    assert found is not None
    return to_micros(found)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_decisions_are_told_as_they_fall(is_terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=is_terminal)
    at = micros("2013-06-11")
    with ReplayDisplay(console) as display:
        display.say("reading the tables")
        display.told(Step("history", at, 0, 10, 0))
        display.told(Step("replay", micros("2013-05-02"), 1, 10, 900))
        decision = Decision(at, "late", "rollback", "canary: cost is 0.3 against 0.1", 4)
        display.told(Step("replay", at, 2, 10, 1_900, (decision,)))
    text = out.getvalue()
    assert "11 Jun" in text
    assert "rollback" in text
    assert "cost is 0.3 against 0.1" in text
    if not is_terminal:
        assert "reading the tables" in text
        assert "May 2013: 900 predictions" in text
        assert "June 2013: 1,900 predictions" in text
        assert "\x1b" not in text
