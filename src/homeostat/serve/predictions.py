"""Predictions as they are logged: columns, one row per answered request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.durations import Micros

if TYPE_CHECKING:
    from homeostat.features.assemble import Features

__all__ = ["ARMS", "Given", "Latency", "Predictions", "frame_of", "prediction_schema"]

ARMS = ("champion", "challenger", "previous", "score")
"""Who may have answered; "score" is the declared default score."""

Request = Mapping[str, Any]
Floats = NDArray[np.float64]
LIST = pl.List(pl.Float64())
_COLUMNS = (
    "ids", "request_ids", "requests", "arms", "versions", "scores", "thresholds", "degraded",
    "shadow_scores", "recorded", "unasked",
)  # fmt: skip
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Latency:
    """Microseconds spent on features, on the model, and until the answer was there."""

    features_us: float = 0.0
    model_us: float = 0.0
    total_us: float = 0.0


@dataclass(frozen=True, slots=True)
class Given:
    """Features of a batch that some arm has of its own, as its package defines them."""

    names: tuple[str, ...]
    definitions: str
    features: Features

    def take(self, rows: Sequence[int]) -> Given:
        """Return the features of some rows, in this order."""
        return replace(self, features=_taken(self.features, rows))


@dataclass(slots=True)
class Predictions:
    """The answers to requests of one model that were asked together, at one instant `at`.

    Every list has one entry per request. `offsets` is the place in each source's log that the
    snapshot contained (-1: nothing of it; None: there was no snapshot), `features` what the models
    were given (no columns where no feature was computed), `definitions` the digest of what they
    were computed under and `names` their names. `apart` has the rows that were answered by an arm
    with features of its own, `shadowed` what a shadowed challenger has of its own. An empty
    `degraded` means that nothing failed. `recorded` says which requests become an event of their
    source; None where all with an id do. `unasked` names, where a row lacks a field that the
    challenger reads, that field; None where there is no challenger.
    """

    model: str
    at: Micros
    ids: Sequence[str]
    request_ids: list[str]
    requests: Sequence[Request]
    offsets: Mapping[str, int | None]
    features: Features
    arms: list[str]
    versions: list[int | None]
    scores: list[float]
    thresholds: list[float]
    degraded: list[list[str]]
    latency: Latency = field(default=Latency())
    definitions: str | None = None
    shadow_version: int | None = None
    shadow_scores: list[float | None] | None = None
    names: tuple[str, ...] = ()
    apart: Mapping[int, Given] = field(default_factory=dict)
    shadowed: Given | None = None
    recorded: list[bool] | None = None
    unasked: list[str | None] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: Sequence[int]) -> Predictions:
        """Return some of the answers, in this order."""
        columns: dict[str, Any] = {
            name: None if (column := getattr(self, name)) is None else [column[row] for row in rows]
            for name in _COLUMNS
        }
        columns["features"] = _taken(self.features, rows)
        columns["apart"] = {
            place: self.apart[row].take(rows) for place, row in enumerate(rows) if row in self.apart
        }
        if self.shadowed is not None:
            columns["shadowed"] = self.shadowed.take(rows)
        return replace(self, **columns)

    @property
    def decisions(self) -> list[bool]:
        """Whether each score reaches its threshold."""
        return [s >= t for s, t in zip(self.scores, self.thresholds, strict=True)]

    def given(self, row: int) -> Given:
        """Return the features that a row was answered from, those of the whole batch."""
        own = self.apart.get(row)
        return Given(self.names, self.definitions or "", self.features) if own is None else own

    def frame(self) -> pl.DataFrame:
        """Return the predictions as rows of the prediction log."""
        return frame_of([self], tuple(self.offsets))


def _taken(features: Features, rows: Sequence[int]) -> Features:
    texts = {name: [column[row] for row in rows] for name, column in features.categories.items()}
    return replace(features, matrix=features.matrix[list(rows)], categories=texts)


def prediction_schema(sources: Sequence[str]) -> dict[str, pl.DataType]:
    """Return the columns of the prediction log of a model whose views read `sources`.

    >>> [name for name in prediction_schema(["taps"]) if name.startswith("offset")]
    ['offset_taps']
    """
    text, number = pl.String(), pl.Float64()
    return {
        "prediction_id": text,
        "at": pl.Datetime("us", "UTC"),
        "request_id": text,
        "model": text,
        "version": pl.Int32(),
        "arm": text,
        "score": number,
        "threshold": number,
        "decision": pl.Boolean(),
        "degraded": text,
        **{f"offset_{source}": pl.Int64() for source in sources},
        "features": LIST,
        "definitions": text,
        "shadow_version": pl.Int32(),
        "shadow_score": number,
        "request": text,
        "latency_features_us": number,
        "latency_model_us": number,
        "latency_total_us": number,
    }


def frame_of(batches: Iterable[Predictions], sources: Sequence[str]) -> pl.DataFrame:
    """Return many batches of one model as one frame, in their order.

    Args:
        batches: predictions of one model.
        sources: the sources of the model's views, for the offset columns; those that an arm read
            beside them get one, too.

    Returns:
        One row per request, in the columns of `prediction_schema`.
    """
    kept = list(batches)
    own = {source for b in kept for source in b.offsets}  # versions in service may read others
    sources = tuple(sorted(own.union(sources)))
    schema = prediction_schema(sources)
    if not kept:
        return pl.DataFrame(schema=schema)
    sizes = [len(b) for b in kept]

    def rows(name: str) -> list[Any]:
        return [value for b in kept for value in getattr(b, name)]

    def each(values: Iterable[Any]) -> list[Any]:
        return [v for v, n in zip(values, sizes, strict=True) for _ in range(n)]

    shadows = [[None] * len(b) if b.shadow_scores is None else b.shadow_scores for b in kept]
    columns: dict[str, Any] = {
        "prediction_id": rows("ids"),
        "at": pl.Series(each(b.at for b in kept), dtype=pl.Int64),
        "request_id": rows("request_ids"),
        "model": each(b.model for b in kept),
        "version": rows("versions"),
        "arm": rows("arms"),
        "score": rows("scores"),
        "threshold": rows("thresholds"),
        "decision": rows("decisions"),
        "degraded": [",".join(causes) for causes in rows("degraded")],
        **{f"offset_{s}": each(b.offsets.get(s) for b in kept) for s in sources},
        "features": _features(kept),
        "definitions": [
            b.apart[row].definitions if row in b.apart else b.definitions
            for b in kept
            for row in range(len(b))
        ],
        "shadow_version": each(b.shadow_version for b in kept),
        "shadow_score": [score for scores in shadows for score in scores],
        "request": [_encode(request).decode() for request in rows("requests")],
        "latency_features_us": each(b.latency.features_us for b in kept),
        "latency_model_us": each(b.latency.model_us for b in kept),
        "latency_total_us": each(b.latency.total_us for b in kept),
    }
    return pl.DataFrame(
        [
            values.alias(name).cast(schema[name])
            if isinstance(values, pl.Series)
            else pl.Series(name, values, dtype=schema[name])
            for name, values in columns.items()
        ]
    )


def _features(kept: Sequence[Predictions]) -> pl.Series:
    """Return the features of each row, as the arm that answered it was given them."""
    if not any(b.apart for b in kept):
        return _lists([b.features.matrix for b in kept])
    whole = [(b.given(row).features.matrix, row) for b in kept for row in range(len(b))]
    return pl.Series([matrix[row].tolist() for matrix, row in whole], dtype=LIST)


def _lists(matrices: Sequence[Floats]) -> pl.Series:
    if len({matrix.shape[1] for matrix in matrices}) == 1 and matrices[0].shape[1]:
        return pl.Series(np.concatenate(matrices)).arr.to_list()
    return pl.Series([row for matrix in matrices for row in matrix.tolist()], dtype=LIST)
