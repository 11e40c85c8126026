"""Hypothesis strategies: aggregations of every kind, over any windows, under any condition.

They are about the fields of `generators.Reading`. Bounds of summaries are small at times, so that
small histories go beyond them.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from homeostat.declare.aggregations import (
    SUMMARIES,
    Aggregation,
    count,
    first,
    last,
    maximum,
    mean,
    minimum,
    share,
    standard_deviation,
    sum_,
    time_since_last,
    variance,
)
from homeostat.declare.expressions import Expr, col
from homeostat.declare.summaries import (
    decayed_sum,
    distinct_count,
    last_n,
    quantile,
    top_share,
    top_values,
    trend,
)

__all__ = ["CONDITIONS", "aggregations"]

CONDITIONS: tuple[Expr | None, ...] = (
    None,
    col("amount") > 0,
    col("flag"),
    ~col("flag"),
    (col("units") >= 0) | col("flag"),
    col("place").is_in("a", "ü"),
    col("small").is_null() & (col("level") / col("units") != 1),
)

_ON_COLUMN: tuple[tuple[Callable[..., Aggregation], tuple[str, ...]], ...] = (
    (sum_, ("amount", "small", "units", "level", "flag")),
    (mean, ("amount", "small", "units", "level", "flag")),
    (minimum, ("amount", "units", "flag")),
    (maximum, ("amount", "level")),
    (first, ("amount", "units")),
    (last, ("amount", "level", "flag")),
    (variance, ("amount", "small", "units", "level")),
    (standard_deviation, ("amount", "small", "flag")),
)

_ORDER = ("0s", "7us", "10s", "17s", "20s", "1m", "5m", "1h")
_WINDOWS = ("1h", "5m", "1h", "1m", "20s", "10s", "7us")


_NUMBERS = ("amount", "amount", "small", "units", "level", "flag")
_FIELDS = ("place", "site", "amount", "small", "units", "level", "flag", "id", "at")
_TRENDING = frozenset({"count", "share", "sum", "mean", "variance", "std"})
_BOUNDS = st.sampled_from((2, 2, 3, 5, 1024))
_SHARES = st.sampled_from((0.5, 0.9, 0.01, 0.999, 0.333333))
_HALF_LIVES = st.sampled_from(("1s", "1s", "10s", "1m", "1d"))
_HOPS = ("0s", "0s", "7us", "10s", "17s")


@st.composite
def _summaries(draw: st.DrawFn, where: Expr | None) -> Aggregation:
    kind = draw(st.integers(0, 5))
    number, field = draw(st.sampled_from(_NUMBERS)), draw(st.sampled_from(_FIELDS))
    if kind == 0:
        return last_n(number, draw(st.integers(1, 4)), where)
    if kind == 1:
        return distinct_count(field, draw(_BOUNDS), where)
    if kind == 2:
        shares = draw(st.lists(_SHARES, min_size=1, max_size=2, unique=True))
        return quantile(number, *shares, error=draw(st.sampled_from((0.01, 0.2))), where=where)
    if kind == 3:
        return top_share(field, draw(st.integers(1, 3)), draw(_BOUNDS), where)
    if kind == 4:
        return top_values(number, draw(st.integers(1, 3)), draw(_BOUNDS), where)
    return decayed_sum(number, draw(_HALF_LIVES), where)


@st.composite
def _operations(draw: st.DrawFn) -> Aggregation:
    """One aggregation without windows."""
    where = draw(st.none() | st.sampled_from(CONDITIONS))
    kind = draw(st.sampled_from("cstooooSSSS"))
    if kind == "c":
        return count(where)
    if kind == "s":
        return share(col("amount") > 1 if where is None else where)
    if kind == "t":
        return time_since_last(where)
    if kind == "S":
        return draw(_summaries(where))
    operation, columns = draw(st.sampled_from(_ON_COLUMN))
    made: Aggregation = operation(draw(st.sampled_from(columns)), where=where)
    return made


@st.composite
def aggregations(draw: st.DrawFn, windowed: bool) -> tuple[Aggregation, ...]:
    """Draw one to five aggregations; with `windowed` no summary of them is of the whole history."""
    found = []
    for number in range(draw(st.integers(1, 5))):
        made = draw(_operations())
        is_trend = draw(st.booleans()) and made.operation in _TRENDING
        if is_trend:
            made = trend(made, draw(st.sampled_from(("difference", "ratio"))))
        made = made.named(f"f{number}")
        is_merged = windowed and made.operation in SUMMARIES
        if is_merged or is_trend or draw(st.integers(0, 2)):
            spans = draw(st.lists(st.sampled_from(_WINDOWS), min_size=1, max_size=3, unique=True))
            hop = draw(st.sampled_from(_HOPS))
            spans = [span for span in spans if _ORDER.index(span) >= _ORDER.index(hop)] or ["1m"]
            made = made.over(*spans, hop=hop)
        found.append(made)
    return tuple(found)
