"""The meaning of a feature value, read directly from its formula: plain Python, no array, no tile.

    value(e, t) = finalize(events i with k_i = e, known_i < t, floor_h(t - W) <= time_i)

It is slow and meant to be believed on sight; every fast path is compared with it, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import nan, sqrt
from typing import Any

from homeostat.core.clock import to_micros
from homeostat.core.durations import Micros
from homeostat.declare.aggregations import FeatureSpec
from homeostat.declare.expressions import Expression
from homeostat.declare.views import FeatureView
from homeostat.testing.oracle_summaries import SUMMARIES, Event, exact, is_beyond, summary_value

__all__ = ["evaluate", "feature_value", "feature_values"]

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b if b != 0 else None,
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
}


def evaluate(expression: Expression, event: Event) -> Any:
    """Return the value of an expression for one event; None is missing.

    >>> from homeostat.declare.expressions import col
    >>> evaluate((col("delay") > 15).expression, {"delay": None}) is None
    True
    """
    operation, arguments = expression.operation, expression.arguments
    if operation == "column":
        return event[arguments[0]]
    if operation == "literal":
        return arguments[0]
    values = [evaluate(argument, event) for argument in arguments]
    if operation == "is_null":
        return values[0] is None
    if operation == "not":
        return None if values[0] is None else not values[0]
    if operation == "and":
        return False if False in values else None if None in values else True
    if operation == "or":
        return True if True in values else None if None in values else False
    if operation == "is_in":
        value, *candidates = values
        if value is not None and any(value == c for c in candidates if c is not None):
            return True
        return None if candidates and (value is None or None in candidates) else False
    return None if None in values else BINARY[operation](*values)


def feature_values(
    view: FeatureView,
    events: Sequence[Event],
    key: tuple[Any, ...],
    at: Micros,
    *,
    own: str | None = None,
    offset: int | None = None,
) -> list[float]:
    """Return every feature of `view` for one entity at one instant."""
    return [
        feature_value(view, spec, events, key, at, own=own, offset=offset)
        for spec in view.features()
    ]


def feature_value(
    view: FeatureView,
    spec: FeatureSpec,
    events: Sequence[Event],
    key: tuple[Any, ...],
    at: Micros,
    *,
    own: str | None = None,
    offset: int | None = None,
) -> float:
    """Return one feature; `offset` replaces "known before `at`" by "at or before this place".

    Negative zero is zero. What is made of a sum that leaves the exact range is missing.
    """
    visible = [
        event
        for event in events
        if _is_counted(view, event, key)
        and _is_visible(event, at, offset)
        and not _is_own(view, spec, event, own, at)
    ]
    visible.sort(key=lambda event: (event["_event_time"], event["_tie"]))
    tail = _tail(spec, at, 1)
    inside = [e for e in visible if tail is None or to_micros(e["_event_time"]) >= tail]
    by = spec.option.get("trend")
    first = _tail(spec, at, 2)
    if by is None or tail is None or first is None:
        return _of_events(spec, inside, at)
    before = [e for e in visible if first <= to_micros(e["_event_time"]) < tail]
    now, past = _of_events(spec, inside, at), _of_events(spec, before, at)
    if by == "difference":
        return now - past
    return now / past + 0.0 if past != 0 else nan


def _is_counted(view: FeatureView, event: Event, key: tuple[Any, ...]) -> bool:
    found = tuple(event[part] for part in view.entity.keys)
    missing = None in (*found, *key)
    if missing or event["_too_late"] or found != key:
        return False
    return view.condition is None or evaluate(view.condition, event) is True


def _is_own(
    view: FeatureView, spec: FeatureSpec, event: Event, own: str | None, at: Micros
) -> bool:
    """Whether an event is the request's own and is left out; of all time, for as long as it is."""
    if view.own_id is None or event["_id"] != own:
        return False
    return spec.window is not None or to_micros(event["_event_time"]) >= at - view.own_kept


def _is_visible(event: Event, at: Micros, offset: int | None) -> bool:
    if offset is not None:
        return bool(event["_offset"] <= offset)
    return to_micros(event["_known_time"]) < at


def _tail(spec: FeatureSpec, at: Micros, windows: int) -> Micros | None:
    """The earliest time in as many windows before `at`; None for the whole history."""
    if spec.window is None:
        return None
    tail = at - windows * spec.window
    return tail - tail % spec.hop if spec.hop else tail


def _of_events(spec: FeatureSpec, window: list[Event], at: Micros) -> float:
    answers = [True if spec.where is None else evaluate(spec.where, event) for event in window]
    if spec.operation == "share":
        known = [answer for answer in answers if answer is not None]
        return sum(known) / len(known) if known else nan
    chosen = [event for event, answer in zip(window, answers, strict=True) if answer]
    if spec.operation == "count":
        return float(len(chosen))
    if spec.operation == "time_since_last":
        return (at - to_micros(chosen[-1]["_event_time"])) / 1e6 if chosen else nan
    chosen = [event for event in chosen if spec.column is None or event[spec.column] is not None]
    if spec.operation in SUMMARIES or spec.custom is not None:
        return summary_value(spec, chosen, at)
    return _of_values(spec.operation, [event[str(spec.column)] + 0 for event in chosen])


def _of_values(operation: str, values: list[Any]) -> float:
    if not values:
        return nan
    if operation == "first":
        return float(values[0])
    if operation == "last":
        return float(values[-1])
    if operation == "min":
        return float(min(values))
    if operation == "max":
        return float(max(values))
    if is_beyond(values):
        return nan
    total, count = exact(values), len(values)
    if operation == "sum":
        return float(total)
    if operation == "mean":
        return float(total) / count
    squares = sum((exact([value]) ** 2 for value in values), Fraction(0))
    variance = float(squares / count - (total / count) ** 2)
    return variance if operation == "variance" else sqrt(variance)
