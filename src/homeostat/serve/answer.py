"""What a user gets: an answer, and on request the record behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from threading import Lock
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from homeostat.core.clock import from_micros
from homeostat.serve.explain import Reason
from homeostat.serve.predictions import Predictions

Place: TypeAlias = tuple[Predictions, int]
"""A batch of predictions, and a row of it."""

__all__ = ["Answer", "ModelStatus", "Place", "Readiness", "Recent", "Record", "answer_of"]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one request; `degraded` names what failed on the way, and is usually empty.

    `note` says why the request is no event of its source, or counts in no feature, where it is so.
    """

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
    note: str | UnsetType = UNSET


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
    predictions: Predictions,
    row: int,
    reasons: list[Reason] | UnsetType = UNSET,
    note: str | UnsetType = UNSET,
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
        note=note,
    )


class Recent:
    """The last predictions, by their id and by that of the request.

    So an answer can be looked at again, and a request that comes again finds its answer.

    Args:
        capacity: how many are kept; the oldest make room.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._kept: dict[str, Place] = {}
        self._asked: dict[tuple[str, str], Place] = {}
        self._lock = Lock()

    def keep(
        self, predictions: Predictions, keys: Sequence[str | None] | None = None
    ) -> dict[int, Place]:
        """Keep every row of a batch, unless its request has an answer already.

        Args:
            predictions: the batch.
            keys: the ids of the requests, None for one without.

        Returns:
            By row, the answer that the request got before: two that are equal may be under way.
        """
        before: dict[int, Place] = {}
        with self._lock:
            for row, prediction_id in enumerate(predictions.ids):
                place = predictions, row
                if keys is not None and (key := keys[row]) is not None:
                    first = self._asked.setdefault((predictions.model, key), place)
                    if first is not place:
                        before[row] = first
                        continue
                self._kept[prediction_id] = place
            while len(self._kept) > self._capacity:
                batch, row = self._kept.pop(next(iter(self._kept)))
                asked = batch.model, batch.request_ids[row]
                if self._asked.get(asked, (None, row))[0] is batch:
                    del self._asked[asked]
        return before

    def forget(self, predictions: Predictions) -> None:
        """Let go of a batch whose answers never left."""
        with self._lock:
            for prediction_id, name in zip(predictions.ids, predictions.request_ids, strict=True):
                asked = predictions.model, name
                self._kept.pop(prediction_id, None)
                if self._asked.get(asked, (None, 0))[0] is predictions:
                    del self._asked[asked]

    def find(self, prediction_id: str) -> Place | None:
        """Return the batch of a prediction and its row in it."""
        return self._kept.get(prediction_id)

    def first(self, model: str, request_id: str) -> Place | None:
        """Return the first answer of a model to the request of this id."""
        return self._asked.get((model, request_id))


def record_of(found: Place, masked: Mapping[str, bool]) -> Record:
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
