"""Declared conditions as Polars expressions, with the null semantics of SQL."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add, and_, eq, ge, gt, le, lt, mul, ne, or_, sub
from typing import Any

import polars as pl

from homeostat.core.errors import UnknownName
from homeostat.declare.expressions import Expression

__all__ = ["to_polars"]

_BINARY: dict[str, Callable[[Any, Any], pl.Expr]] = {
    "add": add, "subtract": sub, "multiply": mul, "equal": eq, "not_equal": ne, "less": lt,
    "less_equal": le, "greater": gt, "greater_equal": ge, "and": and_, "or": or_,
}  # fmt: skip


def to_polars(expression: Expression) -> pl.Expr:
    """Return the Polars expression of a declared one.

    A comparison with a missing value is missing; `&` and `|` follow Kleene; a division by zero
    is missing.

    >>> from homeostat.declare.expressions import col
    >>> frame = pl.DataFrame({"delay": [20.0, 3.0, None]})
    >>> frame.select(to_polars((col("delay") > 15).expression))["delay"].to_list()
    [True, False, None]
    """
    operation, arguments = expression.operation, expression.arguments
    if operation == "column":
        return pl.col(arguments[0])
    if operation == "literal":
        return pl.lit(arguments[0])
    operands = [to_polars(argument) for argument in arguments]
    if operation in _BINARY:
        return _BINARY[operation](*operands)
    if operation == "divide":
        left, right = operands
        return pl.when(right != 0).then(left / right)
    if operation == "not":
        return ~operands[0]
    if operation == "is_null":
        return operands[0].is_null()
    if operation == "is_in":
        value, *candidates = operands
        return reduce(or_, (value == candidate for candidate in candidates), pl.lit(False))
    known = (*_BINARY, "column", "divide", "is_in", "is_null", "literal", "not")
    raise UnknownName("operation", operation, known, f"expression {expression}")
