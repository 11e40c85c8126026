"""Labels, models and what is required of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from homeostat.core.durations import Micros, format_duration
from homeostat.core.errors import UnknownName
from homeostat.core.hashing import SAID_AS, UNSET_IS_UNSAID
from homeostat.declare.chains import check_transforms
from homeostat.declare.expressions import Expr, Expression, as_expression
from homeostat.declare.kinds import check_condition
from homeostat.declare.mistakes import duration, identifier, report, require, several, span
from homeostat.declare.sources import EventSource
from homeostat.declare.transforms import Transform
from homeostat.declare.views import FeatureRef, OnDemand

__all__ = ["METRICS", "Estimator", "Gate", "Label", "Model", "Requirements", "Split"]

METRICS: Mapping[str, bool] = {
    "auc": True, "average_precision": True, "accuracy": True, "precision": True, "recall": True,
    "f1": True, "log_loss": False, "brier": False, "cost": False, "calibration_error": False,
    "relative_calibration_error": False,
}  # fmt: skip
"""Metrics by name; True where more is better."""


WHICH = ("first", "last", "any")
"""Which of several outcomes of a request decides its label."""


def check_metric(metric: str, where: str) -> None:
    """Report `UnknownName` unless `metric` is one of `METRICS`."""
    if metric not in METRICS:
        report(UnknownName("metric", metric, tuple(METRICS), where))


@dataclass(frozen=True, slots=True)
class Label:
    """The truth about a request of `predicts`, told later by an event of `outcome`.

    The two are joined on `join_on`. An outcome counts if it happened after the request was asked
    and is known at most `delay` later; otherwise the label is `when_absent`: True, False, or None
    to leave the row out. With `at_once`, an outcome of that very instant counts too. An outcome
    joined on the request's own id completes that request: it counts if it happened after the
    request's own event time, and is known within `delay` of the asking, before or after.

    Args:
        name: of the label.
        predicts: the requests.
        outcome: the events that tell the truth.
        join_on: the field both have.
        value: the condition on the outcome that makes the label true; an outcome without a value
            does not count.
        delay: after it, the label is final.
        when_absent: the label where no outcome counts.
        which: of several outcomes that count, the one that decides: "first" or "last" by event
            time (ties by event id), or "any": true where one of them is. None is "first", and
            `check` asks for a word where several can come.
        at_once: whether an outcome that happened in the request's own instant counts.
    """

    name: str
    predicts: EventSource = field(kw_only=True)
    outcome: EventSource = field(kw_only=True)
    join_on: str = field(kw_only=True)
    value: Expr | Expression = field(kw_only=True)
    delay: str | timedelta | Micros = field(kw_only=True)
    when_absent: bool | None = field(kw_only=True)
    which: str | None = field(default=None, kw_only=True, metadata=UNSET_IS_UNSAID)
    at_once: bool = field(default=False, kw_only=True, metadata=UNSET_IS_UNSAID)

    def __post_init__(self) -> None:
        where = f"label {self.name!r}"
        identifier("label", self.name)
        object.__setattr__(self, "value", as_expression(self.value))
        object.__setattr__(self, "delay", span(self.delay, where, "delay"))
        asked, told = (
            source.schema.field(self.join_on, f"{where}, join_on in {side} {source.name!r}")
            for side, source in (("predicts", self.predicts), ("outcome", self.outcome))
        )
        require(
            asked.kind == told.kind
            or not (self.predicts.schema.has(asked.name) and self.outcome.schema.has(told.name)),
            where,
            f"join_on {self.join_on!r} is a {asked.kind} in {self.predicts.name!r} and a "
            f"{told.kind} in {self.outcome.name!r}",
            "the same kind on both sides",
            "change one annotation",
        )
        check_condition(self.expression, self.outcome.schema, f"{where}, value")
        if self.which is not None and self.which not in WHICH:
            report(UnknownName("choice of outcomes", self.which, WHICH, where))

    @property
    def completes_request(self) -> bool:
        """Whether outcomes are joined on the request's own id: each is about one request."""
        return self.join_on == self.predicts.event_id

    @property
    def of_several(self) -> str:
        """Which of several outcomes decides: "first", "last" or "any"."""
        return self.which or "first"

    @property
    def expression(self) -> Expression:
        """The condition on the outcome that makes the label true."""
        found = as_expression(self.value)
        return Expression("literal", (None,)) if found is None else found

    @property
    def delay_us(self) -> Micros:
        """The time after a request at which its label is final."""
        return duration(self.delay, self.name, "delay")


@dataclass(frozen=True, slots=True)
class Estimator:
    """A scikit-learn compatible estimator, named so that nothing is imported before training.

    >>> Estimator("lightgbm:LGBMClassifier", {"n_estimators": 200}).parameters
    (('n_estimators', 200),)
    """

    target: str
    parameters: Mapping[str, object] | tuple[tuple[str, object], ...] = ()

    def __post_init__(self) -> None:
        given = self.parameters
        pairs = given.items() if isinstance(given, Mapping) else given
        frozen = {name: tuple(v) if isinstance(v, list) else v for name, v in pairs}
        object.__setattr__(self, "parameters", tuple(sorted(frozen.items())))
        unhashable = [name for name, v in frozen.items() if type(v).__hash__ is None]
        require(
            not unhashable,
            f"estimator {self.target!r}",
            f"parameter(s) {', '.join(unhashable)} that can change",
            "numbers, texts, booleans, None, and lists of them",
            "give plain values",
        )
        module, _, name = self.target.partition(":")
        require(
            bool(module and name),
            f"estimator {self.target!r}",
            "no class is named",
            "module:Class",
            "write 'lightgbm:LGBMClassifier'",
        )

    @property
    def package(self) -> str:
        """The top package of the class, such as "lightgbm"."""
        return self.target.partition(":")[0].partition(".")[0]


@dataclass(frozen=True, slots=True)
class Split:
    """How the rows known at training time are divided, oldest first.

    The newest `test` span is touched once, by the gates; the `validation` span before it stops the
    training early and chooses the threshold; the rest trains. `history` bounds how far back the
    rows go (None: all).
    """

    by: str = field(default="time", kw_only=True)
    validation: str | timedelta | Micros = field(kw_only=True)
    test: str | timedelta | Micros = field(kw_only=True)
    history: str | timedelta | Micros | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        require(
            self.by == "time", "split", f"by={self.by!r}", "by='time'", "split by time: rows of "
            "the future must not teach the past",
        )  # fmt: skip
        for name in ("validation", "test"):
            object.__setattr__(self, name, span(getattr(self, name), "split", name))
        if self.history is not None:
            object.__setattr__(self, "history", span(self.history, "split", "history"))
            validation, test, history = self.spans_us
            require(
                validation + test < (history or 0),
                "split",
                "a history that validation and test use up",
                "a history longer than validation and test together",
                "lengthen the history, or shorten the others",
            )

    @property
    def spans_us(self) -> tuple[Micros, Micros, Micros | None]:
        """Validation, test and history in microseconds."""
        history = None if self.history is None else duration(self.history, "split", "history")
        return (
            duration(self.validation, "split", "validation"),
            duration(self.test, "split", "test"),
            history,
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition a challenger must meet on the test span before it may be deployed.

    Either a bound (`at_least`, `at_most`), or `within` of the champion on the same rows: at most
    that much worse. `slices` applies it to every value of those request fields that has at least
    `slice_rows` rows.
    """

    metric: str
    at_least: float | None = field(default=None, kw_only=True)
    at_most: float | None = field(default=None, kw_only=True)
    within: float | None = field(default=None, kw_only=True)
    slices: tuple[str, ...] = field(default=(), kw_only=True)
    slice_rows: int = field(default=500, kw_only=True)

    def __post_init__(self) -> None:
        check_metric(self.metric, "gate")
        object.__setattr__(self, "slices", several(self.slices))
        given = [b for b in (self.at_least, self.at_most, self.within) if b is not None]
        require(
            len(given) == 1,
            f"gate {self.metric!r}",
            f"{len(given)} bounds",
            "one of at_least, at_most, within",
            "declare one gate per bound",
        )


_COST = 1e100
"""Costs are below it: squares of theirs are added up to tell what chance does."""

_SEEDS = {"lightgbm": ("random_state", "seed", "random_seed"), "sklearn": ("random_state",)}
"""By package of an estimator, the names of the parameter that `Model.seed` sets."""

_EXPLAIN = {None: True, True: "promised", False: False}
"""True was the default, and promised nothing: homes and packages of that time say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What the model must deliver; costs choose the threshold, the rest become gates and watches.

    Costs are in any one unit.

    Attributes:
        latency_p99: what 99 of 100 answers may take at most, measured in the server. A challenger
            that takes longer in canary or blue-green is rolled back, as by a guard on
            `latency_p99_ms`; above it, the model in service has an alert.
        freshness: how long a received event may wait until it counts in the features; above it,
            an alert. That a source is silent is what the monitor `Freshness` tells.
        gates: bounds on the test rows that a challenger must keep.
        slices: request fields by whose values the test is reported, too.
        explain: what an answer that is asked for reasons gets. None: reasons, where the estimator
            has any. True is a promise: a version whose test rows cannot be given reasons that add
            up to their scores is rejected, and one that is in service already has an alert. False:
            none are ever computed; an answer says `reasons_not_declared` in place of them.
    """

    false_positive_cost: float
    false_negative_cost: float
    latency_p99: str | timedelta | Micros = "100ms"
    freshness: str | timedelta | Micros = "15m"
    gates: tuple[Gate, ...] = ()
    slices: tuple[str, ...] = ()
    explain: bool | None = field(default=None, metadata={SAID_AS: _EXPLAIN})

    def __post_init__(self) -> None:
        where = "requirements"
        object.__setattr__(self, "gates", several(self.gates))
        object.__setattr__(self, "slices", several(self.slices))
        for name in ("latency_p99", "freshness"):
            object.__setattr__(self, name, duration(getattr(self, name), where, name))
        require(
            self.explain is None or isinstance(self.explain, bool),
            where,
            f"explain={self.explain!r}",
            "None, True or False",
            "write explain=True to promise reasons, explain=False to give none",
        )
        costs = (self.false_positive_cost, self.false_negative_cost)
        require(
            all(isinstance(cost, int | float) and 0 < cost < _COST for cost in costs),
            where,
            f"costs {self.false_positive_cost!r} and {self.false_negative_cost!r}",
            f"numbers above 0 and below {_COST:g}",
            "say what a false alarm and a miss cost, in any one unit",
        )

    @property
    def latency_p99_us(self) -> Micros:
        """The bound of the latency, in microseconds."""
        return duration(self.latency_p99, "requirements", "latency_p99")

    @property
    def freshness_us(self) -> Micros:
        """The bound of the wait, in microseconds."""
        return duration(self.freshness, "requirements", "freshness")


@dataclass(frozen=True, slots=True)
class Model:
    """A model: its features, label, estimator and requirements.

    Features are references to views, on-demand features, or names of request fields. `transforms`
    say how they become the estimator's columns; without any, numbers are taken as they are and
    texts by `TargetEncoding`. `seed` is of everything random in a training: it is the estimator's
    `random_state`, which need not be declared, and cannot be another.
    """

    name: str
    features: tuple[FeatureRef | OnDemand | str, ...] = field(kw_only=True)
    label: Label = field(kw_only=True)
    estimator: Estimator = field(kw_only=True)
    split: Split = field(kw_only=True)
    requirements: Requirements = field(kw_only=True)
    seed: int = field(default=0, kw_only=True)
    transforms: tuple[Transform, ...] = field(default=(), kw_only=True, metadata=UNSET_IS_UNSAID)

    def __post_init__(self) -> None:
        identifier("model", self.name)
        object.__setattr__(self, "features", several(self.features))
        object.__setattr__(self, "transforms", several(self.transforms))
        where = f"model {self.name!r}"
        names = self.feature_names()
        twice = sorted({name for name in names if names.count(name) > 1})
        require(
            bool(names) and not twice,
            where,
            f"features given twice: {', '.join(twice)}" if twice else "no features",
            "one or more different features",
            "drop the repetition",
        )
        request = self.label.predicts
        for feature in self.features:
            if isinstance(feature, str):
                request.schema.field(feature, f"{where}, request {request.name!r}")
        for column in (*self.requirements.slices, *(s for g in self.gates for s in g.slices)):
            request.schema.field(column, f"{where}, slices")
        check_transforms(self.transforms, names, self.text_features(), where)
        require(
            self.requirements.explain is not True or self.estimator.package != "sklearn",
            where,
            f"explain=True, and {self.estimator.target!r} has no contributions of features to a "
            "score",
            "an estimator of lightgbm, or explain=None",
            "declare such an estimator, or leave explain out: no reasons are promised then",
        )
        for name in _SEEDS.get(self.estimator.package, _SEEDS["sklearn"]):
            given = dict(self.estimator.parameters).get(name, self.seed)
            require(
                given == self.seed and type(given) is int,
                where,
                f"the estimator's {name}={given!r} beside seed={self.seed}, which sets it",
                "one of them",
                f"leave {name} out of the estimator's parameters, and write "
                f"Model(..., seed={given if type(given) is int else self.seed})",
            )
        validation, test, history = self.split.spans_us
        taken = validation + test + 2 * self.label.delay_us
        require(
            history is None or self.label.completes_request or taken < history,
            where,
            f"a history of {format_duration(history or 0)}, of which validation, test and the "
            f"embargo of the label's delay before each take {format_duration(taken)}",
            "a history longer than those together",
            "lengthen the history, or shorten the others",
        )

    def feature_names(self) -> tuple[str, ...]:
        """Return the column names of the features, in the order of the model's input."""
        return tuple(f if isinstance(f, str) else f.name for f in self.features)

    def text_features(self) -> tuple[str, ...]:
        """Return the names of the features that are text: only request fields can be."""
        fields = {field.name: field.kind for field in self.label.predicts.schema.fields}
        given = (feature for feature in self.features if isinstance(feature, str))
        return tuple(name for name in given if fields.get(name) == "string")

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates of the requirements."""
        return self.requirements.gates
