"""Every example in a docstring of the package gives what it says."""

from __future__ import annotations

import doctest
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "src" / "homeostat").rglob("*.py"))


def failures(module: ModuleType) -> list[str]:
    """Return what doctest says about each example that fails."""
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for case in doctest.DocTestFinder(exclude_empty=True).find(module, module.__name__):
        runner.run(case, out=said.append)
    return said if runner.summarize(verbose=False).failed else []


@pytest.mark.parametrize(
    "name",
    [
        ".".join(file.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for file in FILES
    ],
)
def test_examples_in_docstrings_hold(name: str) -> None:
    assert failures(importlib.import_module(name)) == []


def test_a_wrong_example_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "planted_example.py").write_text('"""Adds.\n\n>>> 1 + 1\n3\n"""\n')
    monkeypatch.syspath_prepend(tmp_path)
    found = failures(importlib.import_module("planted_example"))
    capsys.readouterr()
    sys.modules.pop("planted_example")
    assert any("Expected" in line for line in found)
