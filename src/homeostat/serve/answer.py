"""What a user gets: an answer, and on request the record behind it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from threading import Lock
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from homeostat.core.clock import from_micros
from homeostat.serve.explain import Reason
from homeostat.serve.predictions import Predictions

__all__ = ["Answer", "ModelStatus", "Readiness", "Recent", "Record", "answer_of"]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one request; `degraded` names what failed on the way, and is usually empty."""

    prediction_id: str
    model: str
    version: int | None
    arm: str
    score: float
    decision: bool
    threshold: float
    at: datetime
    degraded: list[str]
    reasons: list[Reason] | UnsetType = UNSET


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A recent prediction with what it was made from; personal fields are masked."""

    answer: Answer
    request_id: str
    request: dict[str, Any]
    features: dict[str, float | str | None]
    offsets: dict[str, int | None]
    latency_us: dict[str, float]


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Which versions of a model are in service."""

    model: str
    champion: int | None
    challenger: int | None
    previous: int | None
    share: float
    shadow: bool
    broken: list[str]


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests can be answered, and what is in the way or degraded."""

    ready: bool
    notes: list[str]


def answer_of(
    predictions: Predictions, row: int, reasons: list[Reason] | UnsetType = UNSET
) -> Answer:
    """Return one row of a batch as the user's answer."""
    score, threshold = predictions.scores[row], predictions.thresholds[row]
    return Answer(
        prediction_id=predictions.ids[row],
        model=predictions.model,
        version=predictions.versions[row],
        arm=predictions.arms[row],
        score=score,
        decision=score >= threshold,
        threshold=threshold,
        at=from_micros(predictions.at),
        degraded=predictions.degraded[row],
        reasons=reasons,
    )


class Recent:
    """The last predictions, by id, so that an answer can be looked at again.

    Args:
        capacity: how many are kept; the oldest make room.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._kept: dict[str, tuple[Predictions, int]] = {}
        self._lock = Lock()

    def keep(self, predictions: Predictions) -> None:
        """Keep every row of a batch."""
        with self._lock:
            for row, prediction_id in enumerate(predictions.ids):
                self._kept[prediction_id] = (predictions, row)
            while len(self._kept) > self._capacity:
                del self._kept[next(iter(self._kept))]

    def find(self, prediction_id: str) -> tuple[Predictions, int] | None:
        """Return the batch of a prediction and its row in it."""
        return self._kept.get(prediction_id)


def record_of(found: tuple[Predictions, int], masked: Mapping[str, bool]) -> Record:
    """Return a kept prediction as users may see it.

    Args:
        found: the batch and the row.
        masked: by request field, whether it is personal.
    """
    batch, row = found
    given = batch.given(row)
    values = given.features.matrix[row].tolist()
    features: dict[str, float | str | None] = dict(zip(given.names, values, strict=False))
    for name, categories in given.features.categories.items():
        features[name] = categories[row]
    hidden = {name for name, personal in masked.items() if personal}
    spent = batch.latency
    return Record(
        answer=answer_of(batch, row),
        request_id=batch.request_ids[row],
        request={k: "***" if k in hidden and v is not None else v
                 for k, v in batch.requests[row].items()},
        features={k: "***" if k in hidden and v is not None else v for k, v in features.items()},
        offsets=dict(batch.offsets),
        latency_us={
            "features": spent.features_us, "model": spent.model_us, "total": spent.total_us
        },
    )  # fmt: skip
