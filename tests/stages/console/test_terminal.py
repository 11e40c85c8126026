"""The terminal's summary fits the terminal, and holds what matters."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from rich.console import Console

from homeostat.console.terminal import SHOWN, print_summary


def said(summary: dict[str, Any], width: int = 110) -> str:
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


def test_the_summary_holds_what_matters(full: dict[str, Any]) -> None:
    text = said(full)
    for expected in (
        "flights · 1 May to 31 December 2013",
        "226,041",
        "+0.075",
        "3 min 07 s",
        "of 7,233,312 values skewed",
        "rollback",
        "cost is 0.318 against 0.171",
        "malformed 40",
        "336,776",
        "Try next",
        "AUC by week",
    ):
        assert expected in text, expected
    assert "nan" not in text


@pytest.mark.parametrize("width", [80, 100, 140])
def test_it_fits_the_width(full: dict[str, Any], width: int) -> None:
    assert max(len(line) for line in said(full, width).splitlines()) <= width


def test_many_decisions_are_cut_and_counted(full: dict[str, Any]) -> None:
    full["decisions"] = full["decisions"] * 4
    done = sum(1 for d in full["decisions"] if d["action"] not in ("alert", "clear"))
    assert f"and {done - SHOWN} earlier decisions" in " ".join(said(full).split())


def test_any_part_may_be_missing_on_the_terminal(full: dict[str, Any]) -> None:
    assert said({}).strip()
    for key in full:
        less = copy.deepcopy(full)
        del less[key]
        assert "nan" not in said(less), key
