"""What a view computes: an operation on a column, over windows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from homeostat.core.durations import Micros, format_duration
from homeostat.core.hashing import UNSET_IS_UNSAID
from homeostat.declare.expressions import Expr, Expression, as_expression
from homeostat.declare.mistakes import duration, require

__all__ = [
    "SUMMARIES",
    "Aggregation",
    "FeatureSpec",
    "count",
    "first",
    "last",
    "maximum",
    "mean",
    "minimum",
    "share",
    "standard_deviation",
    "sum_",
    "time_since_last",
    "variance",
]

OPERATIONS = frozenset(
    {
        "count", "sum", "mean", "min", "max", "variance", "std", "first", "last", "share",
        "time_since_last", "last_n", "distinct_count", "quantile", "top_share", "top_values",
        "decayed_sum", "custom",
    }
)  # fmt: skip

SUMMARIES = frozenset(
    {"last_n", "distinct_count", "quantile", "top_share", "top_values", "decayed_sum", "custom"}
)
"""Operations whose states merge, and out of which no event can be taken again."""

Option = int | float | str | tuple[float, ...]

Options = tuple[tuple[str, Option], ...]
"""What an operation is told besides its column, by name: `(("n", 3),)`."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature of a view: one operation, one input, one window.

    `window` is None for the whole history; `hop` is 0 for an exact window. `part` is the number of
    the feature among those that the operation gives at once. `custom` is a summary of your own.
    """

    name: str
    operation: str
    column: str | None
    where: Expression | None
    window: Micros | None
    hop: Micros
    options: Options = field(default=(), metadata=UNSET_IS_UNSAID)
    part: int = field(default=0, metadata=UNSET_IS_UNSAID)
    custom: Any = field(default=None, metadata=UNSET_IS_UNSAID)

    @property
    def option(self) -> dict[str, Option]:
        """The options by name."""
        return dict(self.options)

    @property
    def reach(self) -> Micros:
        """How far back the feature looks, its hop included; 0 for the whole history."""
        windows = 2 if "trend" in self.option else 1
        return 0 if self.window is None else windows * self.window + self.hop


@dataclass(frozen=True, slots=True)
class Aggregation:
    """An operation with its input, condition and windows; build it with `mean`, `count` ...

    An operation that gives several features at once has one of `parts` per feature: what is
    appended to their names.
    """

    operation: str
    column: str | None = None
    where: Expression | None = None
    windows: tuple[Micros | None, ...] = (None,)
    hop: Micros = 0
    name: str | None = None
    options: Options = field(default=(), metadata=UNSET_IS_UNSAID)
    parts: tuple[str, ...] = field(default=(), metadata=UNSET_IS_UNSAID)
    custom: Any = field(default=None, metadata=UNSET_IS_UNSAID)

    def over(self, *windows: str | timedelta, hop: str | timedelta = "0s") -> Aggregation:
        """Return the aggregation over one or more windows that end at the instant of the read.

        >>> [spec.name for spec in mean("delay").over("1h", "3h").features()]
        ['delay_mean_1h', 'delay_mean_3h']
        """
        where = f"aggregation {self.label!r}"
        spans = tuple(duration(window, where, "window") for window in windows)
        step = duration(hop, where, "hop")
        require(
            bool(spans) and all(span > 0 for span in spans) and len(set(spans)) == len(spans),
            where,
            f"over{windows!r}",
            "one or more different windows longer than nothing",
            "write .over('1h', '7d'), or leave .over out for the whole history",
        )
        require(
            all(step <= span for span in spans),
            where,
            f"hop={hop!r} is longer than a window",
            "a hop of at most the shortest window",
            "shorten the hop",
        )
        return replace(self, windows=spans, hop=step)

    def named(self, name: str) -> Aggregation:
        """Return the aggregation under a name of its own; windows are still appended.

        >>> count(where=None).named("departures").over("1h").features()[0].name
        'departures_1h'
        """
        return replace(self, name=name)

    @property
    def label(self) -> str:
        """The name of the features before the window: `column_operation` unless given."""
        return self.name or _joined(self.column, self.operation)

    def features(self) -> tuple[FeatureSpec, ...]:
        """Return one `FeatureSpec` per window, or one per part and window."""
        return tuple(
            FeatureSpec(
                _joined(self.label, part, None if window is None else format_duration(window)),
                self.operation,
                self.column,
                self.where,
                window,
                self.hop,
                self.options,
                number,
                self.custom,
            )
            for number, part in enumerate(self.parts or ("",))
            for window in self.windows
        )


def _joined(*parts: str | None) -> str:
    return "_".join(filter(None, parts))


def _on_column(operation: str, column: str, where: Expr | None) -> Aggregation:
    return Aggregation(operation, column, as_expression(where))


def count(where: Expr | None = None) -> Aggregation:
    """Count events, or those that meet a condition; an empty window gives 0."""
    return Aggregation("count", None, as_expression(where))


def share(where: Expr) -> Aggregation:
    """Return the share of events that meet a condition (events where it is missing are skipped).

    >>> from homeostat.declare.expressions import col
    >>> share(col("delay") > 15).named("late_share").over("3h").features()[0].name
    'late_share_3h'
    """
    return Aggregation("share", None, as_expression(where))


def sum_(column: str, where: Expr | None = None) -> Aggregation:
    """Sum a column, correctly rounded."""
    return _on_column("sum", column, where)


def mean(column: str, where: Expr | None = None) -> Aggregation:
    """Return the correctly rounded sum over the count."""
    return _on_column("mean", column, where)


def minimum(column: str, where: Expr | None = None) -> Aggregation:
    """Return the smallest value."""
    return _on_column("min", column, where)


def maximum(column: str, where: Expr | None = None) -> Aggregation:
    """Return the largest value."""
    return _on_column("max", column, where)


def variance(column: str, where: Expr | None = None) -> Aggregation:
    """Return the population variance, from exact sums of x and of the unrounded x squared."""
    return _on_column("variance", column, where)


def standard_deviation(column: str, where: Expr | None = None) -> Aggregation:
    """Return the square root of the population variance."""
    return _on_column("std", column, where)


def first(column: str, where: Expr | None = None) -> Aggregation:
    """Return the value of the earliest event, by event time and then event id."""
    return _on_column("first", column, where)


def last(column: str, where: Expr | None = None) -> Aggregation:
    """Return the value of the latest event, by event time and then event id."""
    return _on_column("last", column, where)


def time_since_last(where: Expr | None = None) -> Aggregation:
    """Return the seconds between the latest event and the instant of the read."""
    return Aggregation("time_since_last", None, as_expression(where))
