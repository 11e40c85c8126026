"""Declared conditions mean the same to Polars as to plain Python."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.aggregate.expressions import to_polars
from homeostat.core.errors import UnknownName
from homeostat.declare.expressions import Expr, Expression, col
from homeostat.testing.oracle import evaluate

ROW = st.fixed_dictionaries(
    {
        "x": st.none() | st.sampled_from((0.0, -0.0, 1.5, -2.0, 1e9)),
        "n": st.none() | st.integers(-3, 3),
        "flag": st.none() | st.booleans(),
        "text": st.none() | st.sampled_from(("", "a", "ü", "b")),
    }
)
SCHEMA = {"x": pl.Float64, "n": pl.Int64, "flag": pl.Boolean, "text": pl.String}

NUMBERS: st.SearchStrategy[Expr] = st.recursive(
    st.sampled_from((col("x"), col("n"))),
    lambda inner: (
        st.builds(lambda a, b: a + b, inner, inner)
        | st.builds(lambda a, b: a - b, inner, st.sampled_from((1, 0.5)))
        | st.builds(lambda a, b: a * b, inner, inner)
        | st.builds(lambda a, b: a / b, inner, inner)
    ),
    max_leaves=4,
)
CONDITIONS: st.SearchStrategy[Expr] = st.recursive(
    st.builds(lambda a, b: a > b, NUMBERS, st.sampled_from((0, 1.5)))
    | st.builds(lambda a, b: a <= b, NUMBERS, NUMBERS)
    | st.builds(lambda a, b: a == b, NUMBERS, st.sampled_from((0, None)))
    | st.builds(lambda a, b: a != b, NUMBERS, NUMBERS)
    | st.just(col("flag"))
    | st.builds(lambda a: a.is_null(), NUMBERS)
    | st.builds(lambda a: col("text").is_in(*a), st.lists(st.sampled_from(("a", "ü", None)))),
    lambda inner: (
        st.builds(lambda a, b: a & b, inner, inner)
        | st.builds(lambda a, b: a | b, inner, inner)
        | st.builds(lambda a: ~a, inner)
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(CONDITIONS, st.lists(ROW, min_size=1, max_size=5))
def test_conditions_agree_with_plain_python(made: Expr, rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA)
    expression = made.expression
    found = frame.select(answer=to_polars(expression).cast(pl.Boolean)).to_series().to_list()
    if len(found) == 1:  # a condition without a column
        found *= len(rows)
    assert found == [evaluate(expression, row) for row in rows]


def test_an_operation_nobody_knows_is_named() -> None:
    with pytest.raises(UnknownName, match=r"no operation named 'eqal'.*Did you mean 'equal'"):
        to_polars(Expression("eqal", (col("x").expression,)))
