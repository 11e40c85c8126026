"""The hash of a function sees what it calls in other modules of the user, and nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from homeostat.core.hashing import source_hash

MATHS = """
import functools
import math
import re
import threading
import types
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

RATE = 0.5
TABLE = {"a": [1, 2], "b": (3,)}
UNUSED = 7

def scale(x):
    return x * RATE

def twice(x):
    return scale(scale(x))

def unused(x):
    return x - 1

@functools.lru_cache
def slow(x):
    return x + 3

class Base:
    def lift(self, x):
        return x + 100

@dataclass(frozen=True)
class Shift(Base):
    by: float = 1.0

    def move(self, x):
        return scale(x) + self.by

    @staticmethod
    def back(x):
        return math.floor(x) - 2

SHIFT = Shift(9.0)
HALF = functools.partial(pow, 2)
OTHER = Shift(7.0)
WEIGHTS = np.array([0.25, 0.75])
SPACE = types.SimpleNamespace(low=1, high=2)
READ_ONLY = types.MappingProxyType({"low": 10})
BY_NAME = {"one": twice, "other": [lambda x: x + 41]}
PATTERN = re.compile("a+")
SINCE = datetime(2024, 1, 2, tzinfo=UTC)
ROUNDED = math.trunc
CURVE = np.tanh
RANKED = pl.Series([5, 6])

@np.vectorize
def each(x):
    return x * 31

class Holder:
    __slots__ = ("array", "call")

    def __init__(self):
        self.array = np.arange(5)
        self.call = unused

HOLDER = Holder()
LOOP = [each]
LOOP.append(LOOP)
CHANCE = np.random.default_rng()
LOCK = threading.Lock()
"""
USERS = {
    "a function": (
        "from helper_maths import twice", "return twice(x)",
        "twice scale RATE",
    ),
    "a module": (
        "import helper_maths", "return helper_maths.twice(x)",
        "twice scale RATE",
    ),
    "another name": (
        "import helper_maths as m", "return m.scale(x)",
        "scale RATE",
    ),
    "inside": ("", "from helper_maths import scale\n    return scale(x)", "scale RATE"),
    "a constant": (
        "from helper_maths import RATE", "return x * RATE",
        "RATE",
    ),
    "a table": (
        "import helper_maths", "return helper_maths.TABLE[x]",
        "TABLE",
    ),
    "a cache": (
        "from helper_maths import slow", "return slow(x)",
        "slow",
    ),
    "a class": (
        "from helper_maths import Shift", "return Shift(1).move(x)",
        "move scale RATE lift back",
    ),
    "a method": (
        "from helper_maths import Shift\nback = Shift.back", "return back(x)",
        "back",
    ),
    "an object": (
        "from helper_maths import SHIFT", "return SHIFT.move(x)",
        "move scale RATE lift back SHIFT",
    ),
    "a bound method": (
        "import helper_maths\nmove = helper_maths.SHIFT.move", "return move(x)",
        "move scale RATE lift back SHIFT",
    ),
    "a partial": (
        "from helper_maths import HALF", "return HALF(x)",
        "HALF",
    ),
    "a default": (
        "from helper_maths import scale, RATE\ndef f(x, g=scale, r=RATE):\n    return g(x)", "",
        "scale RATE",
    ),
    "a closure": (
        ("from helper_maths import scale\ndef made(g):\n    def f(x):\n        return g(x)\n"
        "    return f\nf = made(scale)"), "",
        "scale RATE",
    ),
    "a lambda": (
        "from helper_maths import scale\nf = lambda x: scale(x)", "",
        "scale RATE",
    ),
    "by way of another module": (
        "from helper_between import via", "return via(x)",
        "twice scale RATE",
    ),
    "a comprehension": (
        "from helper_maths import scale", "return [scale(y) for y in x]",
        "scale RATE",
    ),
    "two objects": (
        'from helper_maths import SHIFT, OTHER', 'return SHIFT.move(OTHER.move(x))',
        "move scale RATE lift back SHIFT OTHER",
    ),
    "an array": (
        'from helper_maths import WEIGHTS', 'return x @ WEIGHTS',
        "WEIGHTS",
    ),
    "a namespace": (
        'from helper_maths import SPACE', 'return x - SPACE.low',
        "SPACE",
    ),
    "a read-only mapping": (
        'from helper_maths import READ_ONLY', 'return x - READ_ONLY["low"]',
        "READ_ONLY",
    ),
    "functions by name": (
        'from helper_maths import BY_NAME', 'return BY_NAME["one"](x)',
        "BY_NAME twice scale RATE",
    ),
    "a pattern": (
        'from helper_maths import PATTERN', 'return PATTERN.match(x)',
        "PATTERN",
    ),
    "a method of a pattern": (
        'from helper_maths import PATTERN\nmatch = PATTERN.match', 'return match(x)',
        "PATTERN",
    ),
    "an instant": (
        'from helper_maths import SINCE', 'return x - SINCE',
        "SINCE",
    ),
    "a function of a package": (
        'from helper_maths import ROUNDED, CURVE', 'return ROUNDED(CURVE(x))',
        "ROUNDED CURVE",
    ),
    "a series": (
        'from helper_maths import RANKED', 'return RANKED[x]',
        "RANKED",
    ),
    "a vectorized function": (
        'from helper_maths import each', 'return each(x)',
        "each",
    ),
    "an object with slots": (
        'from helper_maths import HOLDER', 'return HOLDER.call(HOLDER.array[x])',
        "HOLDER array unused",
    ),
    "a list that holds itself": (
        'from helper_maths import LOOP', 'return LOOP[0](x)',
        "each",
    ),
    "chance and locks": (
        'from helper_maths import CHANCE, LOCK', 'with LOCK:\n        return CHANCE.normal(x)',
        "",
    ),
}  # fmt: skip
"""What stands above a function, what is in it, and what of the module it uses."""
CHANGES = {
    "RATE": ("RATE = 0.5", "RATE = 0.25"), "TABLE": ("[1, 2]", "[1, 3]"), "UNUSED": ("= 7", "= 8"),
    "scale": ("return x * RATE", "return x / RATE"),
    "twice": ("scale(scale(x))", "scale(scale(x) + 1)"), "unused": ("x - 1", "x - 2"),
    "slow": ("x + 3", "x + 4"), "lift": ("x + 100", "x + 101"),
    "move": ("+ self.by", "- self.by"), "back": ("math.floor(x) - 2", "math.ceil(x) - 2"),
    "SHIFT": ("Shift(9.0)", "Shift(8.0)"), "HALF": ("(pow, 2)", "(pow, 3)"),
    "OTHER": ("Shift(7.0)", "Shift(6.0)"), "WEIGHTS": ("0.25, 0.75", "0.25, 0.5"),
    "SPACE": ("low=1", "low=3"), "READ_ONLY": ('"low": 10', '"low": 11'),
    "BY_NAME": ("x + 41", "x + 42"), "PATTERN": ("a+", "a*"), "SINCE": ("1, 2, tz", "1, 3, tz"),
    "ROUNDED": ("ROUNDED = math.trunc", "ROUNDED = math.ceil"), "CURVE": ("np.tanh", "np.sinh"),
    "RANKED": ("Series([5, 6])", "Series([5, 7])"), "each": ("x * 31", "x * 32"),
    "HOLDER": ("self.array = np.arange(5)", "self.array = np.ones(5)"),
    "array": ("np.arange(5)", "np.arange(6)"),
}  # fmt: skip
BETWEEN = "import helper_maths\ndef via(x):\n    return helper_maths.twice(x)\n"


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Writes modules to a folder of the user, imports them and hashes one function."""
    number = 0

    def write_and_hash(user: str, maths: str = MATHS, **more: str) -> str:
        nonlocal number
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        texts = {"helper_maths": maths, "helper_between": BETWEEN, "helper_user": user, **more}
        for name in texts:
            sys.modules.pop(name, None)
        for name, text in texts.items():
            (folder / f"{name}.py").write_text(text + "\n")
        with monkeypatch.context() as patched:
            patched.syspath_prepend(folder)
            importlib.invalidate_caches()
            function: Any = importlib.import_module("helper_user").f
            return source_hash(function)

    yield write_and_hash
    for name in [name for name in sys.modules if name.startswith("helper_")]:
        del sys.modules[name]


@pytest.mark.parametrize("how", USERS)
def test_what_is_used_counts_and_nothing_else(hashed: Callable[..., str], how: str) -> None:
    above, inside, used = USERS[how]
    user = f"{above}\ndef f(x):\n    {inside}" if inside else above
    before = hashed(user)
    assert hashed(user) == before, "the folder does not count"
    for name, (text, changed) in CHANGES.items():
        assert MATHS.count(text) == 1
        after = hashed(user, MATHS.replace(text, changed))
        assert (after != before) == (name in used.split()), name
    assert hashed(user, MATHS + "\ndef added(x):\n    return 0\n") == before


def test_modules_that_call_each_other(hashed: Callable[..., str]) -> None:
    one = "def f(n):\n    import helper_other\n    return n and helper_other.g(n - 1)"
    other = "import helper_user\ndef g(n):\n    return n and helper_user.f(n - 1)"
    before = hashed(one, helper_other=other)
    assert hashed(one, helper_other=other) == before
    assert hashed(one, helper_other=other.replace("n - 1", "n - 2")) != before


def test_functions_of_one_name_are_told_apart(hashed: Callable[..., str]) -> None:
    user = "import helper_other\ndef f(x):\n    return helper_other.f(x)"
    before = hashed(user, helper_other="def f(x):\n    return 1")
    assert hashed(user, helper_other="def f(x):\n    return 2") != before


def test_a_package_of_the_user(hashed: Callable[..., str], tmp_path: Path) -> None:
    user = "import helper_pack.deep\ndef f(x):\n    return helper_pack.deep.g(x)"
    found = []
    for number, body in enumerate(("return x", "return x", "return -x")):
        folder = tmp_path / str(number + 1) / "helper_pack"
        for name in [name for name in sys.modules if name.startswith("helper_pack")]:
            del sys.modules[name]
        sys.path.insert(0, str(tmp_path / f"p{number}"))
        try:
            folder = tmp_path / f"p{number}" / "helper_pack"
            folder.mkdir(parents=True)
            (folder / "__init__.py").write_text("")
            (folder / "deep.py").write_text(f"def g(x):\n    {body}\n")
            found.append(hashed(user))
        finally:
            sys.path.pop(0)
    assert found[0] == found[1] != found[2]


def test_installed_code_does_not_count() -> None:
    import numpy as np

    def one(x: Any) -> Any:
        return np.log1p(x)

    assert "numpy" not in str(meaning_of(one))


def meaning_of(function: Callable[..., Any]) -> object:
    from homeostat.core.code_meaning import meaning

    return meaning(function)["around"]
