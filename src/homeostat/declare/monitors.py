"""What is watched in production, and when the next model is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from homeostat.core.durations import Micros
from homeostat.core.errors import UnknownName
from homeostat.core.hashing import UNSET_IS_UNSAID
from homeostat.declare.mistakes import duration, report, require, several, span
from homeostat.declare.models import Model, check_metric
from homeostat.declare.sources import EventSource

__all__ = ["Drift", "Freshness", "Quality", "Rejections", "Retrain", "Skew"]


@dataclass(frozen=True, slots=True)
class Freshness:
    """Alert when no event of a source has become known for longer than `within`."""

    source: EventSource
    within: str | timedelta | Micros

    def __post_init__(self) -> None:
        where = f"freshness of {self.source.name!r}"
        object.__setattr__(self, "within", span(self.within, where, "within"))

    @property
    def within_us(self) -> Micros:
        """The longest silence, in microseconds."""
        return duration(self.within, self.source.name, "within")


@dataclass(frozen=True, slots=True)
class Rejections:
    """Alert when the share of a source's records that are no events rises.

    Those are dead letters, and what was refused at the door (`POST /events`).

    The records that became known in the last `window` are compared with those of the `baseline`
    before it, in whole hours. A rise is found when chance alone would give one as large with a
    probability below `level` (Fisher's exact test), and the share is at least `times` what it was.
    """

    source: EventSource
    window: str | timedelta | Micros = field(default="6h", kw_only=True)
    baseline: str | timedelta | Micros = field(default="7d", kw_only=True)
    level: float = field(default=1e-6, kw_only=True)
    times: float = field(default=2.0, kw_only=True)

    def __post_init__(self) -> None:
        where = f"rejections of {self.source.name!r}"
        for name in ("window", "baseline"):
            object.__setattr__(self, name, span(getattr(self, name), where, name))
        require(
            0 < self.level < 1,
            where,
            f"level={self.level}",
            "between 0 and 1",
            "1e-6 allows for a look every few minutes",
        )
        require(self.times >= 1, where, f"times={self.times}", "1 or more", "2.0 is twice as many")

    @property
    def window_us(self) -> Micros:
        """The judged span, in microseconds."""
        return duration(self.window, self.source.name, "window")

    @property
    def baseline_us(self) -> Micros:
        """The span before it, in microseconds."""
        return duration(self.baseline, self.source.name, "baseline")


@dataclass(frozen=True, slots=True)
class Drift:
    """Compare the features of the last `window` with the training sketch by PSI.

    Drift is found when at least `features` features have a population stability index above
    `psi` (0.25 is the usual bound of a major shift).
    """

    model: Model
    psi: float = field(default=0.25, kw_only=True)
    features: int = field(default=1, kw_only=True)
    window: str | timedelta | Micros = field(default="7d", kw_only=True)

    def __post_init__(self) -> None:
        where = f"drift of {self.model.name!r}"
        object.__setattr__(self, "window", span(self.window, where, "window"))
        require(self.psi > 0, where, f"psi={self.psi}", "above 0", "0.25 is usual")
        require(self.features > 0, where, f"features={self.features}", "1 or more", "raise it")

    @property
    def window_us(self) -> Micros:
        """The compared span, in microseconds."""
        return duration(self.window, self.model.name, "window")


@dataclass(frozen=True, slots=True)
class Skew:
    """Recompute a share of the logged predictions from the lake; every difference is a finding.

    At each step of the loop, `share` of the predictions since the last audit are drawn by their
    ids, and no more than `at_most` of them are computed again.
    """

    model: Model
    share: float = field(default=1.0, kw_only=True)
    at_most: int = field(default=10_000, kw_only=True, metadata=UNSET_IS_UNSAID)

    def __post_init__(self) -> None:
        where = f"skew audit of {self.model.name!r}"
        require(
            type(self.at_most) is int and self.at_most > 0,
            where,
            f"at_most={self.at_most!r}",
            "a whole number, 1 or more",
            "300 clear predictions bound the share of wrong ones below 1 %",
        )
        require(
            0 < self.share <= 1,
            where,
            f"share={self.share}",
            "above 0, at most 1",
            "1.0 compares every prediction",
        )


@dataclass(frozen=True, slots=True)
class Quality:
    """Compare a metric on labelled predictions of the last `window` with its value at the gates.

    Decay is found when the metric is more than `worse_by` worse than on the test span of the
    serving model, over at least `rows` labelled predictions.
    """

    model: Model
    metric: str
    worse_by: float = field(kw_only=True)
    window: str | timedelta | Micros = field(default="14d", kw_only=True)
    rows: int = field(default=1000, kw_only=True)

    def __post_init__(self) -> None:
        where = f"quality of {self.model.name!r}"
        check_metric(self.metric, where)
        object.__setattr__(self, "window", span(self.window, where, "window"))
        require(self.rows > 0, where, f"rows={self.rows}", "1 or more", "raise it")
        require(self.worse_by > 0, where, f"worse_by={self.worse_by}", "above 0", "raise it")

    @property
    def window_us(self) -> Micros:
        """The judged span, in microseconds."""
        return duration(self.window, self.model.name, "window")


TRIGGERS = ("drift", "quality")


@dataclass(frozen=True, slots=True)
class Retrain:
    """Train a challenger when a monitor finds something, or when the champion is `every` old.

    `cooldown` is the least time between two trainings. `companions` are trained on the same
    occasions and never served: the report scores them on the logged requests, for comparison.
    """

    model: Model
    on: tuple[str, ...] = field(default=TRIGGERS, kw_only=True)
    every: str | timedelta | Micros | None = field(default=None, kw_only=True)
    cooldown: str | timedelta | Micros = field(default="7d", kw_only=True)
    companions: tuple[Model, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        where = f"retraining of {self.model.name!r}"
        object.__setattr__(self, "on", several(self.on))
        object.__setattr__(self, "companions", several(self.companions))
        object.__setattr__(self, "cooldown", duration(self.cooldown, where, "cooldown"))
        if self.every is not None:
            object.__setattr__(self, "every", span(self.every, where, "every"))
        for trigger in self.on:
            if trigger not in TRIGGERS:
                report(UnknownName("trigger", trigger, TRIGGERS, where))
        require(
            bool(self.on) or self.every is not None,
            where,
            "no occasion",
            "on=('drift', 'quality'), every='30d', or both",
            "say when to retrain",
        )

    @property
    def cooldown_us(self) -> Micros:
        """The least time between two trainings, in microseconds."""
        return duration(self.cooldown, self.model.name, "cooldown")

    @property
    def every_us(self) -> Micros | None:
        """The age at which a champion is replaced, in microseconds, or None."""
        return None if self.every is None else duration(self.every, self.model.name, "every")
