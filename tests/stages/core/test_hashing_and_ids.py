"""The same value has the same hash on every machine; another value has another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import (
    SAID_OF_ITSELF,
    SAYS_ALL,
    canonical_json,
    content_hash,
    plain,
    short_digest,
    source_hash,
    unit_interval,
)
from homeostat.core.ids import id_digest, id_digests

hostile_text = st.text(st.characters(exclude_categories=[]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | hostile_text,
    lambda inner: st.lists(inner) | st.dictionaries(hostile_text, inner),
    max_leaves=12,
)


@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.0
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class Pen:
    colour: str = "blue"
    shop: str | None = field(default=None, metadata=SAID_OF_ITSELF)


@dataclass(frozen=True)
class Case:
    pens: tuple[Pen, ...] = field(metadata=SAYS_ALL)
    first: Pen


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ({"b": (1, 2), "a": None}, '{"a":null,"b":[1,2]}'),
        ({2: "b", 1: "a"}, '{"1":"a","2":"b"}'),
        (frozenset({"b", "a"}), '["a","b"]'),
        (b"\x00\xff", '{"bytes":"00ff"}'),
        (Point(1, 0.5, "unseen"), '{"type":"Point","x":1,"y":0.5}'),
        (Pen(), '{"colour":"blue","type":"Pen"}'),
        ([Pen("red", "Ink")], '[{"colour":"red","shop":"Ink","type":"Pen"}]'),
        (
            Case((Pen("red", "Ink"),), Pen("red", "Ink")),
            (
                '{"first":{"colour":"red","type":"Pen"},'
                '"pens":[{"colour":"red","shop":"Ink","type":"Pen"}],"type":"Case"}'
            ),
        ),
        (0.1 + 0.2, "0.30000000000000004"),
        ("é", '"é"'),
        (int, '{"class":"builtins.int"}'),
    ],
)
def test_golden_json(value: object, text: str) -> None:
    assert canonical_json(value) == text


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        (None, "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"),
        ({"a": 1}, "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"),
        (Point(1, 0.5), "ee088821064c9236bc881fa9c16d74ae9538ce224d3f4ee03b0ff2f05054e219"),
    ],
)
def test_golden_hashes(value: object, digits: str) -> None:
    assert content_hash(value) == digits


def test_golden_draws() -> None:
    """Traffic is split alike by every release: these numbers may never change."""
    assert short_digest(["a", "b"]) == "a32d46e0a12bed5e"
    assert unit_interval("late_arrival", "UA1545", "salt") == 0.6929230580244913
    assert id_digest("UA1545") == 2658070029901624866


@given(values)
def test_the_hash_does_not_depend_on_the_order_of_keys(value: Any) -> None:
    def reversed_keys(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: reversed_keys(item[key]) for key in reversed(item)}
        return [reversed_keys(each) for each in item] if isinstance(item, list) else item

    assert content_hash(value) == content_hash(reversed_keys(value))


@given(values, values)
def test_different_values_have_different_hashes(left: Any, right: Any) -> None:
    assert (content_hash(left) == content_hash(right)) == (plain_text(left) == plain_text(right))


def plain_text(value: Any) -> str:
    """Return a text that tells any two plain values apart, without the code under test."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{k!r}:{plain_text(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(plain_text, value)) + "]"
    return repr(value)


@given(st.lists(hostile_text), st.lists(hostile_text))
def test_parts_are_framed(left: list[str], right: list[str]) -> None:
    assert (short_digest(left) == short_digest(right)) == (left == right)


@given(st.lists(hostile_text, max_size=3))
def test_a_draw_is_in_the_unit_interval(parts: list[str]) -> None:
    assert 0 <= unit_interval(*parts) < 1


def test_draws_are_spread_evenly() -> None:
    draws = np.array([unit_interval("model", str(i)) for i in range(4_000)])
    counts = np.histogram(draws, bins=10, range=(0, 1))[0]
    assert counts.min() > 330
    assert counts.max() < 470


def test_a_hash_does_not_depend_on_the_run() -> None:
    body = (
        "from homeostat.core.hashing import content_hash;"
        "print(content_hash({'k': frozenset({'a', 'b', 'c', 'd'}), 'x': {'z': 1, 'y': 2}}))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", body],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_a_value_without_a_hash_is_refused() -> None:
    with pytest.raises(HomeostatError, match="a ndarray has no content hash"):
        plain(np.zeros(2))


def define(text: str, name: str = "f", **around: object) -> Callable[..., object]:
    """Return a function whose source cannot be read, as in a notebook or an exec."""
    namespace: dict[str, Any] = {"__name__": "nowhere", **around}
    exec(text, namespace)
    made: Callable[..., object] = namespace[name]
    return made


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("def f(x):\n    return x.real", "def f(x):\n    return x.imag"),
        ("def f(x):\n    return x + 1", "def f(x):\n    return x + 2"),
        ("def f(x):\n    return x + 1", "def f(x):\n    return x - 1"),
        ("def f(x):\n    return (lambda: x.a)()", "def f(x):\n    return (lambda: x.b)()"),
        ("def g(x):\n    return 1\ndef f(x):\n    return g(x)",
         "def g(x):\n    return 2\ndef f(x):\n    return g(x)"),
        ("K = 1\ndef f(x):\n    return x * K", "K = 2\ndef f(x):\n    return x * K"),
        ("K = (1, 2)\ndef f(x):\n    return x in K", "K = (1, 3)\ndef f(x):\n    return x in K"),
    ],
)  # fmt: skip
def test_functions_that_differ_have_different_hashes(left: str, right: str) -> None:
    assert source_hash(define(left)) != source_hash(define(right))
    assert source_hash(define(left)) == source_hash(define(left))


def test_what_a_function_closes_over_counts() -> None:
    def scaled(factor: float) -> Callable[[float], float]:
        def scale(value: float) -> float:
            return value * factor

        return scale

    assert source_hash(scaled(2.0)) != source_hash(scaled(3.0))
    assert source_hash(scaled(2.0)) == source_hash(scaled(2.0))


def test_functions_may_call_each_other_and_themselves() -> None:
    text = "def f(n):\n    return n and g(n - 1)\ndef g(n):\n    return n and f(n - 1)"
    assert source_hash(define(text)) == source_hash(define(text))
    assert source_hash(define(text)) != source_hash(define(text.replace("n - 1)", "n - 2)")))


def test_a_function_of_a_file_is_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "planted_source.py").write_text("def f(x):\n    return x  # as it is\n")
    import planted_source  # type: ignore[import-not-found]

    first = source_hash(planted_source.f)
    assert len(first) == 64
    del sys.modules["planted_source"]
    import planted_source as again

    assert source_hash(again.f) == first


def test_a_function_without_python_code_is_refused() -> None:
    with pytest.raises(HomeostatError, match="wrap it in one"):
        source_hash(len)


@given(st.lists(hostile_text, max_size=8))
def test_ids_are_digested_alike_one_by_one_and_together(ids: list[str]) -> None:
    together = id_digests(ids)
    assert together.dtype == np.int64
    assert together.tolist() == [id_digest(one) for one in ids]


@given(hostile_text, hostile_text)
def test_different_ids_have_different_digests(left: str, right: str) -> None:
    assert (id_digest(left) == id_digest(right)) == (left == right)
