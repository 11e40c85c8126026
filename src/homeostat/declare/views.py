"""Feature views and on-demand features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from homeostat.core.durations import Micros
from homeostat.core.errors import DeclarationError, UnknownName
from homeostat.core.hashing import source_hash
from homeostat.declare.aggregations import OPERATIONS, Aggregation, FeatureSpec
from homeostat.declare.expressions import Expr, Expression, as_expression
from homeostat.declare.kinds import check_condition
from homeostat.declare.mistakes import identifier, report, require, several
from homeostat.declare.names import twins
from homeostat.declare.sources import Entity, EventSource

__all__ = ["FeatureRef", "FeatureView", "OnDemand", "on_demand"]

DAY = 86_400_000_000

KEY_KINDS = ("string", "integer", "boolean")
NUMERIC_INPUT = frozenset(
    {
        "sum", "mean", "variance", "std", "min", "max", "first", "last", "last_n", "quantile",
        "top_values", "decayed_sum",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FeatureRef:
    """A checked reference to one feature of a view; in tables it is called `view__feature`."""

    view: str
    feature: str

    @property
    def name(self) -> str:
        """The column's name in training sets and prediction logs."""
        return f"{self.view}__{self.feature}"


@dataclass(frozen=True, slots=True)
class FeatureView:
    """Features of one entity, aggregated from one source.

    `where` keeps only some events. The request's own event is left out: the event of the view's
    source whose id the request carries, in the field that is the source's event id. So it makes no
    difference whether an event is pushed before its request is asked, or asked about twice, and a
    request's own outcome is never in its features. `exclude_own=False` counts it like any other. It
    is not left out where the id is a key of the entity: that looks up the event itself.

    Of the whole history (features without a window) the own event is left out as long as it
    happened at most the source's lateness and a day (`own_kept`) before the request's instant.
    """

    name: str
    entity: Entity
    source: EventSource
    aggregations: tuple[Aggregation, ...]
    where: Expression | Expr | None = None
    exclude_own: bool = True

    def __post_init__(self) -> None:
        identifier("view", self.name)
        object.__setattr__(self, "aggregations", several(self.aggregations))
        object.__setattr__(self, "where", as_expression(self.where))
        where, schema = f"view {self.name!r}", self.source.schema
        for key in self.entity.keys:
            found = schema.field(key, f"{where}, entity {self.entity.name!r}")
            require(
                not schema.has(key) or found.kind in KEY_KINDS,
                where,
                f"key {key!r} is a {found.kind}",
                "string, integer and boolean keys",
                "name a field whose values are equal or not, never nearly equal",
            )
        conditions = [self.condition, *(a.where for a in self.aggregations)]
        for expression in filter(None, conditions):
            check_condition(expression, schema, where)
        for aggregation in self.aggregations:
            self._check_input(aggregation)
        names = [spec.name for spec in self.features()]
        twice = sorted({name for name in names if names.count(name) > 1})
        require(
            bool(names) and not twice,
            where,
            f"features named twice: {', '.join(twice)}" if twice else "no aggregations",
            "one or more features with different names",
            "give one of them a name: count(where=...).named('late_departures')",
        )
        for one, other in twins(names):
            require(
                False,
                f"{where}, feature {other!r}",
                f"it differs from {one!r} by case alone",
                "names that differ in their letters",
                "give one of them another name: count(where=...).named('late_departures')",
            )

    def _check_input(self, aggregation: Aggregation) -> None:
        where = f"view {self.name!r}, {aggregation.label!r}"
        require(
            ("trend", None)
            not in [(o, w) for o, _ in aggregation.options for w in aggregation.windows],
            where,
            "a trend of the whole history",
            "a trend of windows, which have a window before them",
            "write .over('1h')",
        )
        if aggregation.operation not in OPERATIONS:
            report(
                UnknownName("aggregation", aggregation.operation, tuple(sorted(OPERATIONS)), where)
            )
        if aggregation.column is None or not self.source.schema.has(aggregation.column):
            if aggregation.column is not None:
                self.source.schema.field(aggregation.column, where)
            return
        found = self.source.schema.field(aggregation.column, where)
        numeric = aggregation.operation in NUMERIC_INPUT
        require(
            not (numeric or getattr(aggregation.custom, "reads", "") == "value")
            or found.kind in ("integer", "float", "boolean"),
            where,
            f"{aggregation.operation} of a {found.kind}",
            "integer, float and boolean fields",
            "count it, or name a number",
        )

    @property
    def condition(self) -> Expression | None:
        """The view's own condition as a frozen tree."""
        return as_expression(self.where)

    def features(self) -> tuple[FeatureSpec, ...]:
        """Return every feature of the view, in order of declaration."""
        return tuple(spec for a in self.aggregations for spec in a.features())

    def all(self) -> tuple[FeatureRef, ...]:
        """Return references to every feature of the view."""
        return tuple(FeatureRef(self.name, spec.name) for spec in self.features())

    def __getitem__(self, feature: str) -> FeatureRef:
        names = tuple(spec.name for spec in self.features())
        if feature not in names:
            report(UnknownName("feature", feature, names, f"view {self.name!r}"))
        return FeatureRef(self.name, feature)

    @property
    def own_id(self) -> str | None:
        """The field whose value in a request names the event to leave out, None for none."""
        own = self.source.event_id
        return own if self.exclude_own and own not in self.entity.keys else None

    def own_field(self, request: EventSource) -> str | None:
        """Return the field of a request that names its own event in the view, None for none."""
        return self.own_id if self.own_id and request.schema.has(self.own_id) else None

    @property
    def own_kept(self) -> Micros:
        """How long an own event is left out of the whole history, by its event time."""
        return self.source.lateness_us + DAY

    @property
    def longest_window(self) -> Micros:
        """How far back a feature looks, its hop included; 0 if all are whole history."""
        return max((spec.reach for spec in self.features()), default=0)


@dataclass(frozen=True, slots=True)
class OnDemand:
    """A feature computed at the request from other features and request fields.

    `function` takes one float64 array per input (missing is NaN; instants are seconds since
    1970) and returns one of the same length. It is called with one row or a million, so it must
    treat every element alike.
    """

    name: str
    inputs: tuple[FeatureRef | str | OnDemand, ...]
    function: Callable[..., Any] = field(repr=False, compare=False)
    code: str = field(init=False)

    def __post_init__(self) -> None:
        self.read_code()

    def read_code(self) -> None:
        """Hash the function and what it uses, as they are now.

        A system does so for its features: helpers that stand below a function are there by then.
        """
        object.__setattr__(self, "code", source_hash(self.function))

    def __call__(self, *arrays: Any) -> Any:
        """Call the function itself, as in a test."""
        return self.function(*arrays)


def on_demand(
    *inputs: FeatureRef | str | OnDemand,
) -> Callable[[Callable[..., Any]], OnDemand]:
    """Declare an on-demand feature; the function's name becomes the feature's name.

    >>> @on_demand("distance", "air_time")
    ... def speed(distance, air_time):
    ...     return distance / air_time
    >>> speed.name, speed(100.0, 2.0)
    ('speed', 50.0)
    """

    def declare(function: Callable[..., Any]) -> OnDemand:
        where = f"on-demand feature {function.__name__!r}"
        require(
            bool(inputs),
            where,
            "no inputs",
            "request fields and features",
            "name them: @on_demand('distance')",
        )
        try:
            signature(function).bind(*inputs or signature(function).parameters)
        except TypeError as wrong:
            report(
                DeclarationError(
                    where,
                    f"{len(inputs)} input(s) for {signature(function)}: {wrong}",
                    "one argument per input, in their order",
                    "give the function as many arguments as it has inputs",
                )
            )
        return OnDemand(function.__name__, tuple(inputs), function)

    return declare
