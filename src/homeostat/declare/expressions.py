"""Conditions and values over an event's own fields, as frozen trees.

`col("delay") > 15` builds an `Expression`: it can be compared, hashed and printed, costs no import,
and is turned into a Polars expression where columns are at hand (`aggregate/expressions.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from homeostat.core.errors import DeclarationError
from homeostat.declare.mistakes import report

__all__ = ["Expr", "Expression", "as_expression", "col"]

Literal = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Expression:
    """One node: `operation` is "column", "literal" or an operator's name."""

    operation: str
    arguments: tuple[Any, ...]

    def columns(self) -> frozenset[str]:
        """Return the names of the fields the expression reads.

        >>> sorted((col("a") > col("b")).expression.columns())
        ['a', 'b']
        """
        if self.operation == "column":
            return frozenset(self.arguments)
        found: frozenset[str] = frozenset()
        for argument in self.arguments:
            if isinstance(argument, Expression):
                found |= argument.columns()
        return found

    def __str__(self) -> str:
        if self.operation == "column":
            return str(self.arguments[0])
        if self.operation == "literal":
            return repr(self.arguments[0])
        symbol = _SYMBOLS.get(self.operation)
        if symbol is not None:
            left, right = self.arguments
            return f"({left} {symbol} {right})"
        first, *rest = self.arguments
        return f"{first}.{self.operation}({', '.join(map(str, rest))})"


_SYMBOLS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/",
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=",
    "greater": ">", "greater_equal": ">=", "and": "&", "or": "|",
}  # fmt: skip


def _node(value: object) -> Expression:
    if isinstance(value, Expr):
        return value.expression
    if value is None or isinstance(value, str | int | float | bool):
        return Expression("literal", (value,))
    report(
        DeclarationError(
            "expression",
            f"{value!r} is no value",
            "col(...), text, numbers, booleans and None",
            "write several values one by one, as in .is_in('UA', 'DL'); compute others before "
            "they become events",
        )
    )
    return Expression("literal", (None,))


class Expr:
    """Builds an `Expression` with Python's operators.

    >>> print(((col("delay") > 15) & col("carrier").is_in("UA", "DL")).expression)
    ((delay > 15) & carrier.is_in('UA', 'DL'))
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def _with(self, operation: str, other: object) -> Expr:
        return Expr(Expression(operation, (self.expression, _node(other))))

    def __add__(self, other: object) -> Expr:
        return self._with("add", other)

    def __sub__(self, other: object) -> Expr:
        return self._with("subtract", other)

    def __mul__(self, other: object) -> Expr:
        return self._with("multiply", other)

    def __truediv__(self, other: object) -> Expr:
        return self._with("divide", other)

    def __radd__(self, other: object) -> Expr:
        return Expr(_node(other))._with("add", self)

    def __rsub__(self, other: object) -> Expr:
        return Expr(_node(other))._with("subtract", self)

    def __rmul__(self, other: object) -> Expr:
        return Expr(_node(other))._with("multiply", self)

    def __rtruediv__(self, other: object) -> Expr:
        return Expr(_node(other))._with("divide", self)

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        return self._with("equal", other)

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return self._with("not_equal", other)

    def __lt__(self, other: object) -> Expr:
        return self._with("less", other)

    def __le__(self, other: object) -> Expr:
        return self._with("less_equal", other)

    def __gt__(self, other: object) -> Expr:
        return self._with("greater", other)

    def __ge__(self, other: object) -> Expr:
        return self._with("greater_equal", other)

    def __and__(self, other: object) -> Expr:
        return self._with("and", other)

    def __or__(self, other: object) -> Expr:
        return self._with("or", other)

    def __invert__(self) -> Expr:
        return Expr(Expression("not", (self.expression,)))

    def is_null(self) -> Expr:
        """Return whether the value is missing."""
        return Expr(Expression("is_null", (self.expression,)))

    def is_in(self, *values: Literal) -> Expr:
        """Return whether the value equals one of `values`."""
        return Expr(Expression("is_in", (self.expression, *map(_node, values))))

    def __bool__(self) -> bool:
        report(
            DeclarationError(
                f"expression {self.expression}",
                "it has no truth value while it is declared",
                "&, | and ~ between conditions",
                "write (a > 1) & (b < 2) instead of a > 1 and b < 2, or of a chain 1 < a < 2",
            )
        )
        return True

    def __repr__(self) -> str:
        return f"col expression {self.expression}"


def col(name: str) -> Expr:
    """Return the value of one field of the event.

    >>> print((col("amount") / 2 >= 10).expression)
    ((amount / 2) >= 10)
    """
    return Expr(Expression("column", (name,)))


def as_expression(value: object) -> Expression | None:
    """Return the frozen tree of an expression, however it was given."""
    if isinstance(value, Expr):
        return value.expression
    if value is None or isinstance(value, Expression):
        return value
    report(
        DeclarationError(
            "expression",
            f"{value!r} is no condition",
            "an expression built from col(...)",
            "write col('delay') > 15",
        )
    )
    return Expression("literal", (None,))
