"""What serving needs from its neighbours, as small protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import HomeostatError

if TYPE_CHECKING:
    from homeostat.core.store import Reader, Snapshot
    from homeostat.features.assemble import Features
    from homeostat.serve.predictions import Predictions

__all__ = [
    "UNASKED",
    "Broken",
    "Faults",
    "FindsAnswers",
    "FindsEvents",
    "Floats",
    "ModelBroken",
    "NotDurable",
    "PlansFeatures",
    "PredictionLog",
    "ReadsView",
    "Scores",
    "Stopwatch",
]

UNASKED = ("challenger_unasked", "shadow_unasked")
"""Mark a request that lacks a field which the challenger reads: it was to answer, or it was not.

Marks of the shadow are in the log alone, and in no answer.
"""

Floats: TypeAlias = NDArray[np.float64]

Stopwatch: TypeAlias = Callable[[], int]
"""Monotonic nanoseconds; `time.perf_counter_ns` live, a constant where a replay must repeat."""

Faults: TypeAlias = Callable[[str, Exception], None]
"""Told which part failed (store, champion, shadow ...) and how, whenever a fallback answers."""


class Scores(Protocol):
    """A loaded model; `homeostat.train.package.Servable` is one."""

    def score(self, features: Features) -> Floats:
        """Return one score per row, float64[n]; a row's score does not depend on its batch."""
        ...

    def contributions(self, features: Features) -> Floats:
        """Return what each feature adds, float64[n, features + 1]; the last column is the base."""
        ...


class PlansFeatures(Protocol):
    """Puts a model's input together; `homeostat.features.assemble.FeaturePlan` is one."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def assemble(
        self, request: Mapping[str, Sequence[object]], views: Mapping[str, Floats]
    ) -> Features: ...


class ReadsView(Protocol):
    """Reads live values of one view; `homeostat.features.read.ViewReader` is one."""

    def read(
        self,
        reader: Reader,
        keys: Sequence[tuple[object, ...]],
        at: int,
        own: Sequence[str | None] | None,
    ) -> Floats: ...

    def warm(self, reader: Snapshot, at: int) -> None:
        """Read once, so that nothing is loaded with the first request."""
        ...


class PredictionLog(Protocol):
    """Keeps every prediction; `append` may be called from several threads.

    Where answers leave only when they are durable, it returns then, or raises `NotDurable`.
    """

    def append(self, predictions: Predictions) -> None: ...

    def require_durable(self, model: str, request_ids: Sequence[str]) -> None:
        """Return when earlier answers to these requests are durable, or raise `NotDurable`."""
        ...

    def trouble(self) -> str:
        """Say what cannot be written now, and why; "" if all can."""
        ...


class FindsAnswers(Protocol):
    """Finds logged answers by the id of the request; may be called from several threads."""

    def answered(self, model: str, request_ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return, by request id, the first logged row: the columns of `prediction_schema`.

        `names` beside them are those of the features it was made from, where they are kept.
        """
        ...


class FindsEvents(Protocol):
    """Finds what came under the id of an event; may be called from several threads."""

    def recorded(
        self, reader: Reader, source: str, ids: Sequence[str], at: int
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return, by id, the event that makes another one at `at` a duplicate or a conflict."""
        ...


class NotDurable(HomeostatError):
    """An answer that was not written down in time, where it may not leave before.

    `waits` says that it will be, when it can; an answer that does not wait is given up.
    """

    retryable = True

    def __init__(self, model: str, seconds: float, why: str, *, waits: bool) -> None:
        self.waits = waits
        super().__init__(
            f'prediction of {model!r}: not durable after {seconds:g} s ({why}), and log = "sync" '
            'lets no answer leave before; allowed: a disk that takes it in time, or log = "soon"; '
            "ask again"
        )


class ModelBroken(HomeostatError):
    """A model that could not be loaded, or gave no usable score."""


class Broken:
    """Stands in for a model that could not be loaded, so that the declared fallback answers.

    >>> Broken("file is empty").score(None)
    Traceback (most recent call last):
        ...
    homeostat.serve.ports.ModelBroken: file is empty
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def score(self, features: object) -> Floats:
        """Raise `ModelBroken`."""
        raise ModelBroken(self.reason)

    def contributions(self, features: object) -> Floats:
        """Raise `ModelBroken`."""
        raise ModelBroken(self.reason)
