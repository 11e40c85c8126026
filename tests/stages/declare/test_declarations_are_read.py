"""Every field of a declaration is read by code that acts on it: none is a promise to nobody.

Attributes are told by name alone: a field that is called like another thing that is read passes.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import homeostat as hs
from homeostat.declare import lints

SOURCE = Path(hs.__file__).parent
DECLARE = SOURCE / "declare"
WARNED = {"Access", "Erasure"}
"""Declared for a later release: `check` says `not-enforced` of each."""
BY_NAME = {
    ("Split", "by"): "only by='time' is taken, and refused otherwise",
    ("EventSource", "event"): "its schema is read, which is made of it",
}


def declarations() -> Iterator[type]:
    """Yield the public dataclasses of the declarations."""
    for name in sorted(hs.__all__):
        found = getattr(hs, name)
        is_declared = getattr(found, "__module__", "").startswith("homeostat.declare")
        if is_declared and inspect.isclass(found) and dataclasses.is_dataclass(found):
            yield found


def attributes(tree: ast.AST) -> set[str]:
    """Return the attributes that code reads, the texts that `getattr` may be given among them."""
    read = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    return read | {
        str(n.args[1].value)
        for n in ast.walk(tree)
        if isinstance(n, ast.Call)
        and getattr(n.func, "id", "") == "getattr"
        and len(n.args) > 1
        and isinstance(n.args[1], ast.Constant)
    }


def used_elsewhere(folder: Path) -> set[str]:
    """Return the attributes that files outside the declarations read."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        if DECLARE not in path.parents and "testing" not in path.parts:
            found |= attributes(ast.parse(path.read_text()))
    return found


@cache
def shared_members() -> dict[str, set[str]]:
    """Return the attributes that each function of the declarations reads, by its name."""
    members: dict[str, set[str]] = {}
    for path in DECLARE.glob("*.py"):
        if path.name in ("lints.py", "mistakes.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("__"):
                members.setdefault(node.name, set()).update(attributes(node))
    return members


def leads_to(kind: type, name: str) -> set[str]:
    """Return a field and the members of its class, or of another declaration, that read it."""
    found, members = {name}, shared_members()
    own = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    mine = {
        node.name: attributes(node)
        for node in ast.walk(own)
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("__")
    }
    found |= {member for member, read in mine.items() if name in read}
    for _ in range(3):
        found |= {member for member, read in members.items() if (found - {name}) & read}
    return found


def unread(elsewhere: set[str]) -> list[str]:
    return [
        f"{kind.__name__}.{field.name}"
        for kind in declarations()
        if kind.__name__ not in WARNED
        for field in dataclasses.fields(kind)
        if (kind.__name__, field.name) not in BY_NAME and not leads_to(kind, field.name) & elsewhere
    ]


@pytest.fixture(scope="module")
def elsewhere() -> set[str]:
    return used_elsewhere(SOURCE)


def test_every_field_of_a_declaration_is_read(elsewhere: set[str]) -> None:
    assert unread(elsewhere) == []


@pytest.mark.parametrize("name", ["latency_p99_us", "explain", "deadline_us"])
def test_a_field_that_nobody_reads_is_found(name: str, elsewhere: set[str]) -> None:
    assert unread(elsewhere - {name})


def test_what_is_declared_for_a_later_release_is_warned_of() -> None:
    text = inspect.getsource(importlib.import_module(lints.__name__))
    assert '"not-enforced"' in text
    for name in WARNED:
        assert hasattr(hs, name)
