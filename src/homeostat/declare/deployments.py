"""How a model reaches its users, what watches the way there, and what happens when parts fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from homeostat.core.durations import Micros
from homeostat.core.errors import UnknownName
from homeostat.declare.mistakes import duration, report, require, several, span
from homeostat.declare.models import METRICS, Model

__all__ = ["BlueGreen", "Canary", "Degradation", "Deployment", "Guard", "Shadow"]

SIGNALS = ("error_rate", "positive_rate", "mean_score", "latency_p99_ms")
"""Guarded signals that need no label."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """The challenger answers every request beside the champion; users see the champion only."""

    span: str | timedelta | Micros

    def __post_init__(self) -> None:
        object.__setattr__(self, "span", duration(self.span, "shadow", "span"))

    @property
    def span_us(self) -> Micros:
        """How long the challenger is shadowed, in microseconds."""
        return duration(self.span, "shadow", "span")


@dataclass(frozen=True, slots=True)
class Canary:
    """The challenger answers a growing share of the requests; each step lasts `every`."""

    shares: tuple[float, ...]
    every: str | timedelta | Micros = field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", several(self.shares))
        object.__setattr__(self, "every", span(self.every, "canary", "every"))
        require(
            bool(self.shares)
            and all(0 < s < 1 for s in self.shares)
            and list(self.shares) == sorted(set(self.shares)),
            "canary",
            f"shares={self.shares}",
            "growing shares between 0 and 1",
            "write (0.05, 0.25, 0.5)",
        )

    @property
    def every_us(self) -> Micros:
        """How long each step lasts, in microseconds."""
        return duration(self.every, "canary", "every")


@dataclass(frozen=True, slots=True)
class BlueGreen:
    """The challenger takes all requests at once; the champion stays loaded for `keep`."""

    keep: str | timedelta | Micros

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", duration(self.keep, "blue-green", "keep"))

    @property
    def keep_us(self) -> Micros:
        """How long the way back is kept open, in microseconds."""
        return duration(self.keep, "blue-green", "keep")


@dataclass(frozen=True, slots=True)
class Guard:
    """A bound that stops a rollout when it is broken.

    `signal` is a metric (needs labels) or one of error_rate, positive_rate, mean_score,
    latency_p99_ms. The bound is absolute (`at_most`, `at_least`), or `within` of the champion over
    the same requests or period. It is not judged before `rows` rows of evidence are there.
    """

    signal: str
    at_least: float | None = field(default=None, kw_only=True)
    at_most: float | None = field(default=None, kw_only=True)
    within: float | None = field(default=None, kw_only=True)
    rows: int = field(default=200, kw_only=True)

    def __post_init__(self) -> None:
        if self.signal not in METRICS and self.signal not in SIGNALS:
            report(UnknownName("signal", self.signal, (*METRICS, *SIGNALS), "guard"))
        given = [b for b in (self.at_least, self.at_most, self.within) if b is not None]
        require(
            len(given) == 1,
            f"guard {self.signal!r}",
            f"{len(given)} bounds",
            "one of at_least, at_most, within",
            "declare one guard per bound",
        )
        require(
            self.rows > 0, f"guard {self.signal!r}", f"rows={self.rows}", "1 or more", "raise it"
        )


FALLBACKS = ("previous", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """What the user gets when a part fails.

    `score` is the declared default score. `model_broken` and `overloaded` say which fallbacks to
    try, in order: "previous" is the last champion before this one, "score" the default score.
    `store_down` is "missing" (the model answers with its stored features missing) or "score".
    """

    score: float
    model_broken: tuple[str, ...] = ("previous", "score")
    overloaded: tuple[str, ...] = ("score",)
    store_down: str = "missing"

    def __post_init__(self) -> None:
        where = "degradation"
        require(0 <= self.score <= 1, where, f"score={self.score}", "0 to 1", "give a probability")
        for name in ("model_broken", "overloaded"):
            chain = several(getattr(self, name))
            object.__setattr__(self, name, chain)
            for step in chain:
                if step not in FALLBACKS:
                    report(UnknownName("fallback", step, FALLBACKS, f"{where}, {name}"))
            require(
                bool(chain) and chain[-1] == "score",
                where,
                f"{name}={chain!r}",
                "a chain that ends in 'score', which cannot fail",
                "append 'score'",
            )
        require(
            self.store_down in ("missing", "score"),
            where,
            f"store_down={self.store_down!r}",
            "'missing' or 'score'",
            "choose one",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Puts a model in front of users: rollout, guards, deadline and degradation.

    `deadline` bounds the time to the model's answer; beyond it, and beyond `max_in_flight`
    requests at once, the `overloaded` fallback answers.
    """

    model: Model
    rollout: tuple[Shadow | Canary | BlueGreen, ...]
    degradation: Degradation
    guards: tuple[Guard, ...] = ()
    deadline: str | timedelta | Micros = "100ms"
    max_in_flight: int = 256

    def __post_init__(self) -> None:
        where = f"deployment of {self.model.name!r}"
        object.__setattr__(self, "rollout", several(self.rollout))
        object.__setattr__(self, "guards", several(self.guards))
        object.__setattr__(self, "deadline", span(self.deadline, where, "deadline"))
        kinds = [type(stage) for stage in self.rollout]
        require(
            bool(kinds) and len(set(kinds)) == len(kinds),
            where,
            "no rollout" if not kinds else "a kind of stage twice",
            "Shadow, Canary, BlueGreen, each at most once, in the order of the rollout",
            "write rollout=(Shadow('2d'), Canary((0.05, 0.5), every='1d'))",
        )
        require(
            self.max_in_flight > 0,
            where,
            f"max_in_flight={self.max_in_flight}",
            "1 or more",
            "raise it",
        )

    @property
    def deadline_us(self) -> Micros:
        """The deadline of one answer, in microseconds."""
        return duration(self.deadline, self.model.name, "deadline")
