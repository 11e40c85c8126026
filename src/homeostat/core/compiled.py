"""Loops that are compiled to machine code by Numba.

A module with such functions imports Numba, so it is itself imported only by functions that are
about to use it. The machine code is kept beside the source, or in the user's cache folder where the
source cannot be written to, so only the first process on a machine compiles.

Arithmetic is that of the processor: integers wrap, floats round at every step as IEEE 754 says
(nothing is reordered or fused). The function in Python stays there as `py_func`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types

__all__ = ["INTS", "INT_OUT", "compiled", "compiled_for", "given", "pair", "written"]

F = TypeVar("F", bound=Callable[..., Any])


def given(kind: str, dimensions: int) -> Any:
    """Return the type of an array of `int64` or `float64` that is only read."""
    return types.Array(getattr(types, kind), dimensions, "C", readonly=True)


def written(kind: str, dimensions: int) -> Any:
    """Return the type of an array of `int64` or `float64` that is written to."""
    return types.Array(getattr(types, kind), dimensions, "C")


def pair(first: Any, second: Any) -> Any:
    """Return the type of a pair."""
    return types.Tuple((first, second))  # type: ignore[no-untyped-call]


INTS, INT_OUT = given("int64", 1), written("int64", 1)


def compiled(function: F) -> F:
    """Return `function`, compiled into the loops that call it."""
    found: F = _made(function, None)
    return found


def compiled_for(result: Any, *arguments: Any) -> Callable[[F], F]:
    """Return what compiles a function for these types, at once: nothing else can be passed.

    >>> @compiled_for(types.int64, types.int64)
    ... def after(number):
    ...     return number + 1
    >>> after(2**63 - 1)
    -9223372036854775808
    """

    def make(function: F) -> F:
        found: F = _made(function, result(*arguments))
        return found

    return make


def _made(function: Callable[..., Any], signature: Any) -> Any:
    try:
        return numba.njit(signature, cache=True, nogil=True)(function)
    except RuntimeError:  # nowhere to keep the code: compile in every process
        return numba.njit(signature, nogil=True)(function)
