"""Errors are part of the interface: one root, one grammar."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from homeostat.core.errors import (
    DeclarationError,
    HomeostatError,
    MissingExtra,
    SystemInvalid,
    UnknownName,
)

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "homeostat"

PROTOCOL_ERRORS = frozenset(
    {"AttributeError", "NotImplementedError", "StopIteration", "SystemExit", "KeyboardInterrupt"}
)
"""Python's own protocols ask for these by type."""
STRANGERS = frozenset({"testing"})
"""Drills play a foreign world that knows nothing of our root."""
GRAMMATICAL = frozenset({"DeclarationError", "UnknownName", "SystemInvalid"})


def foreign_exceptions(module: ModuleType) -> list[str]:
    """Return the exception classes a module defines that do not come from our root."""
    return [
        f"{module.__name__}.{name}"
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, BaseException)
        and value.__module__ == module.__name__
        and not issubclass(value, HomeostatError)
    ]


def raised(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of everything raised or reported by name in a module."""
    for node in ast.walk(tree):
        given: ast.expr | None = None
        if isinstance(node, ast.Raise):
            given = node.exc
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] == "report"
            and node.args
        ):
            given = node.args[0]
        if isinstance(given, ast.Call):
            given = given.func
        if given is not None:
            yield given.lineno, ast.unparse(given).rpartition(".")[2]


def caught(tree: ast.AST) -> frozenset[str]:
    """Return the names of the exceptions that a module catches itself."""
    kinds = [n.type for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and n.type]
    names = (name for kind in kinds for name in ast.walk(kind) if isinstance(name, ast.Name))
    return frozenset(name.id for name in names)


def builtin_raises(text: str) -> list[str]:
    """Return the places where an exception of Python itself is raised and leaves the module."""
    tree = ast.parse(text)
    inside = PROTOCOL_ERRORS | caught(tree)
    return [
        f"line {line}: {name}"
        for line, name in raised(tree)
        if name not in inside and isinstance(getattr(builtins, name, None), type)
    ]


def ungrammatical(text: str) -> list[str]:
    """Return the places of a declaration module that report something without the grammar."""
    return [
        f"line {line}: {name}"
        for line, name in raised(ast.parse(text))
        if name[:1].isupper() and name not in GRAMMATICAL | PROTOCOL_ERRORS
    ]


def empty_parts(text: str) -> list[str]:
    """Return `require` and `DeclarationError` calls that leave a part of the grammar out."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        skip = {"require": 1, "DeclarationError": 0}.get(name)
        if skip is None:
            continue
        parts = node.args[skip:]
        blank = [p for p in parts if isinstance(p, ast.Constant) and not str(p.value).strip()]
        if len(parts) + len(node.keywords) != 4 or blank:
            found.append(f"line {node.lineno}: {name} with {len(parts)} parts")
    return found


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_exceptions_come_from_one_root(file: Path) -> None:
    parts = file.relative_to(SOURCE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    assert foreign_exceptions(module) == [] or file.parent.name in STRANGERS
    assert builtin_raises(file.read_text()) == []


@pytest.mark.parametrize("file", sorted((SOURCE / "declare").glob("*.py")), ids=lambda f: f.stem)
def test_mistakes_of_declarations_follow_the_grammar(file: Path) -> None:
    assert ungrammatical(file.read_text()) == []
    assert empty_parts(file.read_text()) == []


def test_the_grammar_is_where_found_allowed_next() -> None:
    error = DeclarationError("label 'late'", "delay is '-1h'", "at least 0", "write '12h'")
    assert str(error) == "label 'late': delay is '-1h'; allowed: at least 0; write '12h'."
    assert (error.where, error.found, error.allowed, error.next_step) == (
        "label 'late'",
        "delay is '-1h'",
        "at least 0",
        "write '12h'",
    )
    assert isinstance(error, ValueError)
    assert not error.retryable


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    error = UnknownName("column", "amuont", ["country", "amount"], "view 'card_activity'")
    assert str(error) == (
        "view 'card_activity': no column named 'amuont'. Did you mean 'amount'? "
        "Known: amount, country."
    )
    assert "Did you mean" not in str(UnknownName("column", "zzz", ["amount"], "view"))
    assert "none are declared" in str(UnknownName("column", "a", [], "view"))
    assert isinstance(error, LookupError)


def test_a_system_lists_every_mistake() -> None:
    error = SystemInvalid("flights", [HomeostatError("one"), HomeostatError("two")])
    assert str(error) == "system 'flights': 2 mistake(s):\n  - one\n  - two"
    assert [str(mistake) for mistake in error.mistakes] == ["one", "two"]


def test_a_missing_extra_says_what_to_install() -> None:
    assert "pip install 'homeostat[kafka]'" in str(MissingExtra("the Kafka log", "kafka"))


def test_a_foreign_exception_is_found() -> None:
    module = ModuleType("planted")
    exec("class Odd(ValueError): ...\n", module.__dict__)
    assert foreign_exceptions(module) == ["planted.Odd"]


@pytest.mark.parametrize(
    ("text", "bites"),
    [
        ("raise ValueError('x')", True),
        ("raise RuntimeError", True),
        ("def __getattr__(name):\n    raise AttributeError(name)", False),
        ("raise HomeostatError('x')", False),
        ("try:\n    f()\nexcept OSError:\n    raise", False),
        ("try:\n    raise OverflowError\nexcept (OverflowError, E):\n    pass", False),
        ("try:\n    raise OverflowError\nexcept OSError:\n    pass", True),
    ],
)
def test_a_builtin_exception_is_found(text: str, bites: bool) -> None:
    assert bool(builtin_raises(text)) is bites


@pytest.mark.parametrize(
    ("text", "bites"),
    [
        ("raise HomeostatError('x')", True),
        ("report(HomeostatError('x'))", True),
        ("report(UnknownName('a', 'b', (), 'c'))", False),
        ("raise mistake", False),
    ],
)
def test_a_mistake_without_grammar_is_found(text: str, bites: bool) -> None:
    assert bool(ungrammatical(text)) is bites


@pytest.mark.parametrize(
    ("text", "bites"),
    [
        ("require(x, 'where', 'found', 'allowed')", True),
        ("require(x, 'where', 'found', 'allowed', '')", True),
        ("DeclarationError('where', 'found', 'allowed')", True),
        ("require(x, 'where', f'{found}', 'allowed', 'next')", False),
    ],
)
def test_a_missing_part_is_found(text: str, bites: bool) -> None:
    assert bool(empty_parts(text)) is bites


def test_every_extra_that_a_hint_names_exists() -> None:
    """An error's advice has to work: `pip install 'homeostat[x]'` needs an extra x."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(declared["optional-dependencies"])
    named: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "MissingExtra":
                assert isinstance(node.args[1], ast.Constant), f"{path}: an extra that is computed"
                named.add(str(node.args[1].value))
    texts = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "src").rglob("*.py")]
    for path in texts:
        found = re.findall(r"homeostat\[([a-z,]+)\]", path.read_text())
        named.update(name for each in found for name in each.split(","))
    assert "kafka" in named
    assert named <= extras, f"no such extra: {sorted(named - extras)}"
