"""Operations that keep more than sums: the last values, distinct values, quantiles, decay ..."""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal

from homeostat.core.durations import format_duration
from homeostat.core.hashing import content_hash, source_hash
from homeostat.declare.aggregations import Aggregation
from homeostat.declare.expressions import Expr, as_expression
from homeostat.declare.mistakes import duration, require

__all__ = [
    "SUMMARY",
    "custom",
    "decayed_sum",
    "distinct_count",
    "last_n",
    "quantile",
    "top_share",
    "top_values",
    "trend",
]

SUMMARY = ("parts", "reads", "most", "state", "merge", "value")
"""What a summary of your own has: `homeostat.aggregate.summaries.Summary`."""

_CONSTANT = (bool, int, float, str, tuple)

REVERSIBLE = ("count", "sum", "mean", "share", "variance", "std")


def last_n(column: str, n: int, where: Expr | None = None) -> Aggregation:
    """Return the values of the n latest events, the newest first; fewer events leave some missing.

    The order is event time and then event id. Gives n features.

    >>> [spec.name for spec in last_n("delay", 2).over("1d").features()]
    ['delay_last_2_1_1d', 'delay_last_2_2_1d']
    """
    _within(f"last_n({column!r})", "n", n, 1, 1000)
    parts = tuple(str(number + 1) for number in range(n))
    return _made("last_n", f"{column}_last_{n}", column, where, (("n", n),), parts)


def distinct_count(column: str, k: int = 1024, where: Expr | None = None) -> Aggregation:
    """Count the different values of a column of any kind; an empty window gives 0.

    Exact up to `k` different values. Beyond, it is estimated from the k + 1 smallest hashes of
    the values, and its relative standard error is 1 / sqrt(k - 1): 3.1 % for 1024.

    >>> distinct_count("merchant").over("7d").features()[0].name
    'merchant_distinct_count_7d'
    """
    _within(f"distinct_count({column!r})", "k", k, 2, 65_536)
    return _made("distinct_count", f"{column}_distinct_count", column, where, (("k", k),))


def quantile(column: str, *q: float, error: float = 0.01, where: Expr | None = None) -> Aggregation:
    """Return quantiles: the least value that at least a share `q` of the values do not exceed.

    A value is known by its logarithmic bin, so the answer is off by at most a share `error` of
    itself; magnitudes below 2^-74 count as 0. Gives one feature per `q`.

    >>> [spec.name for spec in quantile("delay", 0.5, 0.99).over("1d").features()]
    ['delay_p50_1d', 'delay_p99_1d']
    """
    where_ = f"quantile({column!r})"
    for share in q:
        require(
            0 < share < 1 and Decimal(str(share)) * 10**6 % 1 == 0,
            where_,
            f"q={share!r}",
            "shares between 0 and 1 with at most six decimals",
            "write quantile('delay', 0.5, 0.99)",
        )
    require(bool(q), where_, "no q", "one or more shares", "write quantile('delay', 0.5)")
    require(
        0.0005 <= error <= 0.2,
        where_,
        f"error={error!r}",
        "a relative error from 0.0005 to 0.2",
        "write error=0.01 for one percent",
    )
    parts = tuple(_percent(share) for share in q)
    options = (("q", tuple(map(float, q))), ("error", float(error)))
    return _made("quantile", column, column, where, options, parts)


def top_share(
    column: str, k: int = 1, capacity: int = 512, where: Expr | None = None
) -> Aggregation:
    """Return the share of events that hold one of the k most frequent values of a column.

    Exact up to `capacity` different values (or events). Beyond, it is taken from a uniform sample
    of `capacity` events, chosen by their ids: the share of a value then has a standard error of
    at most 1 / (2 sqrt(capacity)), 2.2 % for 512.

    >>> top_share("merchant").over("7d").features()[0].name
    'merchant_top_1_share_7d'
    """
    return _top("top_share", f"{column}_top_{k}_share", column, k, capacity, where)


def top_values(
    column: str, k: int = 1, capacity: int = 512, where: Expr | None = None
) -> Aggregation:
    """Return the k most frequent values of a numeric column, the most frequent first.

    Of values that are equally frequent the smaller comes first. Gives k features; the bounds are
    those of `top_share`.

    >>> [spec.name for spec in top_values("amount", 2).over("7d").features()]
    ['amount_top_2_1_7d', 'amount_top_2_2_7d']
    """
    made = _top("top_values", f"{column}_top_{k}", column, k, capacity, where)
    return replace(made, parts=tuple(str(number + 1) for number in range(k)))


def decayed_sum(column: str, half_life: str | timedelta, where: Expr | None = None) -> Aggregation:
    """Sum a column with weights that halve every `half_life`.

    Time is cut into steps of a 32nd of the half-life; an event that is d steps old weighs
    2^(-d/32), so a weight is off by at most 2.2 %. Events older than 32 half-lives weigh nothing.

    >>> decayed_sum("amount", "1d").features()[0].name
    'amount_decayed_sum_1d'
    """
    where_ = f"decayed_sum({column!r})"
    span = duration(half_life, where_, "half_life")
    require(
        span > 0 and span % 1_000_000 == 0,
        where_,
        f"half_life={half_life!r}",
        "whole seconds, one or more",
        "write half_life='1h'",
    )
    name = f"{column}_decayed_sum_{format_duration(span)}"
    return _made("decayed_sum", name, column, where, (("half_life", span),))


def trend(
    aggregation: Aggregation, by: Literal["difference", "ratio"] = "difference"
) -> Aggregation:
    """Compare a window with the one before it, of the same length.

    A difference is this window's value minus that of the window before; a ratio is the one over
    the other, missing if that is 0. Where either is missing, the trend is missing. The aggregation
    is a count, share, sum, mean, variance or standard deviation over windows.

    >>> from homeostat.declare.aggregations import mean
    >>> [spec.name for spec in trend(mean("delay")).over("1h", "1d").features()]
    ['delay_mean_trend_1h', 'delay_mean_trend_1d']
    """
    where = f"trend of {aggregation.label!r}"
    require(
        aggregation.operation in REVERSIBLE and not aggregation.options,
        where,
        f"a trend of {aggregation.operation}",
        f"one of {', '.join(REVERSIBLE)}",
        "name one of them: trend(mean('delay')).over('1h')",
    )
    require(
        by in ("difference", "ratio"),
        where,
        f"by={by!r}",
        "'difference' and 'ratio'",
        "choose one of them",
    )
    name = f"{aggregation.label}_trend" + ("" if by == "difference" else "_ratio")
    return replace(aggregation, name=name, options=(("trend", by),))


def custom(summary: Any, column: str | None = None, where: Expr | None = None) -> Aggregation:
    """Declare a summary of your own: a frozen dataclass that keeps the protocol `Summary`.

    Its name is that of its class in lower case. The definition hash covers its fields and the
    code of its class. Run `homeostat.testing.summary_laws` on it.
    """
    kind = type(summary)
    lacking = [name for name in SUMMARY if not hasattr(summary, name)]
    require(
        is_dataclass(summary) and kind.__hash__ is not None and not lacking,
        f"custom({kind.__name__})",
        f"it lacks {', '.join(lacking)}" if lacking else "it is no instance of a frozen dataclass",
        f"a frozen dataclass with {', '.join(SUMMARY)}",
        "implement homeostat.aggregate.summaries.Summary",
    )
    name = "_".join(filter(None, (column, kind.__name__.lower())))
    options = (("code", _code(kind)),)
    parts = tuple(getattr(summary, "parts", ()))
    made = _made("custom", name, column, where, options, parts if len(parts) > 1 else ())
    return replace(made, custom=summary)


def _code(kind: type) -> str:
    """Return a hash of what the methods and constants of a class do, inherited ones too."""
    found: dict[str, str] = {}
    for base in (b for b in kind.__mro__ if b.__module__ not in ("builtins", "typing")):
        for name, member in vars(base).items():
            made = member.fget if isinstance(member, property) else member
            made = getattr(made, "__func__", getattr(made, "func", made))
            if name.startswith("__") or name in ("_is_protocol", "_is_runtime_protocol"):
                continue
            if callable(made) or isinstance(made, _CONSTANT):
                found.setdefault(name, source_hash(made) if callable(made) else repr(made))
    return content_hash(found)


def _made(
    operation: str,
    name: str,
    column: str | None,
    where: Expr | None,
    options: tuple[Any, ...],
    parts: tuple[str, ...] = (),
) -> Aggregation:
    condition = as_expression(where)
    return Aggregation(operation, column, condition, name=name, options=options, parts=parts)


def _top(
    operation: str, name: str, column: str, k: int, capacity: int, where: Expr | None
) -> Aggregation:
    where_ = f"{operation}({column!r})"
    _within(where_, "capacity", capacity, 2, 65_536)
    _within(where_, "k", k, 1, 100)
    return _made(operation, name, column, where, (("k", k), ("capacity", capacity)))


def _within(where: str, name: str, found: int, least: int, most: int) -> None:
    require(
        isinstance(found, int) and least <= found <= most,
        where,
        f"{name}={found!r}",
        f"a whole number from {least:,} to {most:,}",
        f"choose another {name}",
    )


def _percent(share: float) -> str:
    """Return the text of a quantile in a name: p50, p99_9."""
    text = f"{(Decimal(str(share)) * 100).normalize():f}"
    return "p" + text.replace(".", "_")
