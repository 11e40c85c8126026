"""The skew audit of a home's predictions, with everything the home can say about the causes."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.features.audit import SkewAudit, audit
from homeostat.features.logged import EventsOf
from homeostat.runtime.evidence import HomeEvidence
from homeostat.runtime.home import Home

__all__ = ["Auditor"]

PART = 50_000
"""Predictions audited at once, to bound the memory."""


class Auditor:
    """Audits predictions of one home; nothing in it is changed."""

    def __init__(self, system: System, home: Home) -> None:
        self._system, self._home = system, home

    def audit(
        self,
        model: Model,
        predictions: pl.DataFrame,
        events_of: EventsOf,
        told: Callable[[int], None] = lambda done: None,
    ) -> SkewAudit:
        """Return what differs, and why.

        Args:
            model: whose predictions these are.
            predictions: rows of its prediction log.
            events_of: returns the events of a source, from as far back as the features look.
            told: hears after each part how many predictions are done.
        """
        evidence = HomeEvidence(self._system, self._home)
        found, done = SkewAudit(), 0
        for part in predictions.iter_slices(PART):
            found += audit(self._system, model, part, events_of, evidence)
            done += part.height
            told(done)
        return found
