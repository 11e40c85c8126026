"""What an audit may ask to find the cause of a difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from homeostat.core.durations import Micros
from homeostat.declare.views import FeatureView
from homeostat.features.definitions import Definitions

__all__ = ["Evidence", "LogEvents", "NoEvidence"]


@dataclass(frozen=True, slots=True, eq=False)
class LogEvents:
    """The events that a log's records decode to now.

    `unread` are the offsets of records that are no events now, and that were never quarantined:
    about them the log cannot say what was accepted.
    """

    frame: pl.DataFrame
    unread: frozenset[int]


class Evidence(Protocol):
    """Asked only where something differs."""

    def definitions(self, digest: str) -> Definitions | None:
        """Return the definitions that a prediction carries the digest of, None if not kept."""
        ...

    def events(self, source: str, known_from: Micros | None, until: int) -> LogEvents | None:
        """Decode the log again: records known from an instant on (None: all), up to an offset.

        None if the log cannot be read.
        """
        ...

    def live_agrees(self, view: FeatureView, key: Sequence[Any]) -> bool | None:
        """Return whether the live record of an entity has the lake's values now.

        None if nothing is folded yet.
        """
        ...

    def was_given(self, predictions: pl.DataFrame) -> list[bool | None]:
        """Return per prediction whether the model was given its logged features.

        False where another copy of the prediction holds others, or where they do not give the
        logged score; None where nothing can tell.
        """
        ...


class NoEvidence:
    """Knows nothing: every difference that the lake alone cannot explain is unexplained."""

    def definitions(self, digest: str) -> Definitions | None:
        """Return None."""
        return None

    def events(self, source: str, known_from: Micros | None, until: int) -> LogEvents | None:
        """Return None."""
        return None

    def live_agrees(self, view: FeatureView, key: Sequence[Any]) -> bool | None:
        """Return None."""
        return None

    def was_given(self, predictions: pl.DataFrame) -> list[bool | None]:
        """Return None for each."""
        return [None] * predictions.height
