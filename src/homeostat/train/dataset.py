"""The rows a model learns from: requests whose label is final, divided by time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.models import Label, Model
from homeostat.features.assemble import Features
from homeostat.train.asked import ASKED
from homeostat.train.outcomes import Asked, truths

__all__ = ["Rows", "Sample", "TrainingRefused", "describe_span", "labelled", "split"]


class TrainingRefused(HomeostatError):
    """There is nothing sound to learn from."""

    def __init__(self, where: str, found: str, allowed: str, next_step: str) -> None:
        self.where, self.found, self.allowed, self.next_step = where, found, allowed, next_step
        super().__init__(f"{where}: {found}; allowed: {allowed}; {next_step}.")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Features and the truth about them: n rows in both."""

    features: Features
    labels: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.labels.dtype != np.bool_ or self.labels.shape != (len(self.features.matrix),):
            raise TrainingRefused(
                "sample",
                f"{len(self.features.matrix)} rows of features, labels "
                f"{self.labels.dtype}{list(self.labels.shape)}",
                "one boolean label per row",
                "take both from the same labelled rows",
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The labelled rows in three parts, oldest first: train < validation < test by `at`.

    `embargo` has the rows between two parts, whose labels reach into the later one.
    """

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    embargo: pl.DataFrame


def labelled(
    label: Label, requests: pl.DataFrame, outcomes: pl.DataFrame, until: Micros
) -> pl.DataFrame:
    """Return the requests whose label is final at `until`, each with its label.

    A request is asked at the instant `at` as of which its features are computed: that of its
    answer, or its known time where none counts (`homeostat.train.asked`). It is final once
    `at + delay < until`: then every outcome that may count was known before `until`, and the label
    never changes again. Which outcome counts is the rule of `homeostat.train.outcomes.truths`;
    where none does, the label is `when_absent`, and the row is left out if that is None.

    Args:
        label: the declared label.
        requests: events frame of `label.predicts`; of its clocks `_known_time`, and `_event_time`
            where the label is joined on the request's own id; `_asked_at` where some were answered.
        outcomes: events frame of `label.outcome`.
        until: the instant of training, in microseconds; nothing known then or later is used.

    Returns:
        The final requests in their order, with their columns and `at` (when each was asked),
        `label` (Boolean) and `label_known_time` (missing where no outcome counted).
    """
    clocks = [name for name in (ASKED, "_known_time") if name in requests.columns]
    final = requests.with_columns(pl.coalesce(clocks).alias("at")).filter(
        _micros("at") < until - label.delay_us
    )
    at = final["at"].dt.epoch("us").to_numpy()
    # An answer may stand before its own event became known, and a client's clock after it.
    since = (
        np.minimum(final["_event_time"].dt.epoch("us").to_numpy(), at)
        if label.completes_request
        else at
    )
    asked = Asked(final[label.join_on], at, since)
    found = truths(label, asked, outcomes).with_columns(
        pl.col("label").fill_null(pl.lit(label.when_absent, pl.Boolean))
    )
    return final.hstack(found).filter(pl.col("label").is_not_null())


def split(model: Model, rows: pl.DataFrame, until: Micros) -> Rows:
    """Divide labelled rows by time, as `model.split` declares.

    With `end = until - label delay`, the first instant without a final label: the test part is
    `[end - test, end)`, validation a span before it, training everything earlier that is within
    `[end - history, ...)`. Each part begins at its first instant and excludes its last. Before
    the first instant of validation and of test, rows are left out for the label's delay: a
    training at that instant would not have their labels, and one outcome could tell the labels of
    rows on both sides. Only where the history is too short for that, and each outcome completes one
    request, so that no two rows share one, nothing is left out.

    Args:
        model: the declared model.
        rows: what `labelled` returned, with `at`.
        until: the instant of training, in microseconds.

    Returns:
        The three parts and what is left out between them, rows in their order.
    """
    parts = _divided(model, rows, until, model.label.delay_us)
    if model.label.completes_request and not (parts.train.height and parts.validation.height):
        return _divided(model, rows, until, 0)
    return parts


def _divided(model: Model, rows: pl.DataFrame, until: Micros, embargo: Micros) -> Rows:
    validation, test, history = model.split.spans_us
    end = until - model.label.delay_us
    first_test = end - test
    first_validation = first_test - embargo - validation
    at = _micros("at")
    recent = rows if history is None else rows.filter(at >= end - history)
    in_train = at < first_validation - embargo
    in_validation = (at >= first_validation) & (at < first_test - embargo)
    return Rows(
        train=recent.filter(in_train),
        validation=recent.filter(in_validation),
        test=recent.filter((at >= first_test) & (at < end)),
        embargo=recent.filter(~in_train & ~in_validation & (at < first_test)),
    )


def describe_span(rows: pl.DataFrame) -> dict[str, str | int | None]:
    """Return the number of rows and their first and last instant, for a package's lineage."""
    first, last = (
        rows.select(at=pl.col("at").dt.epoch("us")).select(
            pl.col("at").min().alias("first"), pl.col("at").max().alias("last")
        )
    ).row(0)
    return {
        "rows": len(rows),
        "first": None if first is None else from_micros(first).isoformat(),
        "last": None if last is None else from_micros(last).isoformat(),
    }


def _micros(column: str) -> pl.Expr:
    return pl.col(column).dt.epoch("us")
