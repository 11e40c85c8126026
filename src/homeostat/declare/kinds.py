"""Kinds of expressions over an event's fields, so that a condition that cannot hold is refused."""

from __future__ import annotations

from homeostat.core.errors import DeclarationError
from homeostat.declare.expressions import Expression
from homeostat.declare.mistakes import report, require
from homeostat.declare.schema import EventSchema

__all__ = ["check_condition", "check_expression"]

ARITHMETIC = frozenset({"add", "subtract", "multiply", "divide"})
EQUALITY = frozenset({"equal", "not_equal", "is_in"})
ORDER = frozenset({"less", "less_equal", "greater", "greater_equal"})
LOGIC = frozenset({"and", "or", "not"})
UNKNOWN = "unknown"
"""The kind of None, and of a field that is not there, which is reported as such: fits anything."""


def check_condition(expression: Expression, schema: EventSchema, where: str) -> None:
    """Report an expression that is no condition over the fields of `schema`.

    >>> from homeostat.declare.expressions import col
    >>> from homeostat.declare.schema import Field
    >>> tap = EventSchema("Tap", (Field("amount", "float"),))
    >>> check_condition((col("amount") > 5).expression, tap, "view 'taps'")
    """
    kind = check_expression(expression, schema, where)
    require(
        kind in ("boolean", UNKNOWN),
        f"{where}, condition {expression}",
        f"a {kind}",
        "a condition, true or false",
        "compare it with something, as in col('delay') > 15",
    )


def check_expression(expression: Expression, schema: EventSchema, where: str) -> str:
    """Return the kind of an expression; report operations between kinds that do not fit."""
    if expression.operation == "column":
        found = schema.field(str(expression.arguments[0]), where)
        return _column_kind(found.kind) if schema.has(found.name) else UNKNOWN
    if expression.operation == "literal":
        return _literal_kind(expression.arguments[0])
    kinds = [
        check_expression(argument, schema, where)
        for argument in expression.arguments
        if isinstance(argument, Expression)
    ]
    _check_operation(expression, kinds, where)
    return "number" if expression.operation in ARITHMETIC else "boolean"


def _check_operation(expression: Expression, kinds: list[str], where: str) -> None:
    operation, seen = expression.operation, sorted(set(kinds) - {UNKNOWN})
    allowed, fits = "", True
    if operation in ARITHMETIC:
        allowed, fits = "numbers on both sides", set(seen) <= {"number"}
    elif operation in ORDER:
        allowed, fits = "two numbers, two texts or two timestamps", len(seen) < 2
        fits = fits and "boolean" not in seen
    elif operation in EQUALITY:
        allowed, fits = "values of one kind", len(seen) < 2
    elif operation in LOGIC:
        allowed, fits = "conditions", set(seen) <= {"boolean"}
    if not fits:
        report(
            DeclarationError(
                f"{where}, condition {expression}",
                f"{operation} of {' and '.join(seen)}",
                allowed,
                "compare like with like, and put brackets around each side of & and |",
            )
        )


def _literal_kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else UNKNOWN


def _column_kind(kind: str) -> str:
    return "number" if kind in ("integer", "float") else kind
