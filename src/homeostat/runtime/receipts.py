"""A receipt: one prediction, replayed bit for bit, with the evidence behind its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from homeostat.core.decisions import Decision
from homeostat.core.errors import HomeostatError
from homeostat.declare.system import System
from homeostat.features.assemble import Features
from homeostat.features.audit import SkewAudit
from homeostat.monitor.logged import logged_features
from homeostat.runtime.auditing import Auditor
from homeostat.runtime.home import Home
from homeostat.serve.explain import Reason, reasons
from homeostat.train.servable import ExplanationRefused, Servable

__all__ = ["Explained", "PredictionUnknown", "Receipt", "explain", "receipt"]


class PredictionUnknown(HomeostatError, LookupError):
    """An id that no logged prediction has."""

    def __init__(self, prediction_id: str) -> None:
        super().__init__(
            f"prediction {prediction_id!r}: not in the prediction log; allowed: the prediction_id "
            "of an answer; find one with `homeostat sql`, in the table predictions_MODEL"
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was logged, what comes out when it is done again, and why that model was serving.

    `features` are the logged values by name; `audit` compares them with the lake at the recorded
    offsets. `score_again` is the package's score of the logged features: the same bits, or None
    where a fallback answered. `promotion` is the journaled decision that put the version there.
    """

    logged: Mapping[str, Any]
    features: Mapping[str, float | str | None]
    audit: SkewAudit
    score_again: float | None
    package_hash: str | None
    promotion: Decision | None
    reasons: tuple[Reason, ...]

    @property
    def holds(self) -> bool:
        """Whether features and score came out to the same bits."""
        same = self.score_again is None or self.score_again == self.logged["score"]
        return same and self.audit.different == 0


@dataclass(frozen=True, slots=True)
class Explained:
    """A logged prediction with every feature it was made from, and its part in the score.

    `reasons` are sorted, the strongest first; with `base`, the score of no features at all, their
    contributions add up to the score before its link; an estimator without exact contributions has
    none, and none are computed where the model declares explain=False. `again` is the package's
    score of the logged features. Where a fallback answered, or no features were there, all of it is
    empty.
    """

    logged: Mapping[str, Any]
    features: Mapping[str, float | str | None]
    reasons: tuple[Reason, ...]
    base: float | None
    again: float | None
    package_hash: str | None


def explain(system: System, home: Home, prediction_id: str) -> Explained:
    """Return why a logged prediction has its score; raise `PredictionUnknown` if there is none."""
    return _explained(system, home, _find(system, home, prediction_id))


def receipt(
    system: System,
    home: Home,
    prediction_id: str,
    events_of: Callable[[str], pl.DataFrame] | None = None,
) -> Receipt:
    """Return the receipt of a logged prediction; raise `PredictionUnknown` if there is none.

    `events_of` returns the events of a source, up to the prediction's offsets at least; by default
    it reads the lake.
    """
    row = _find(system, home, prediction_id)
    model = system.model(row["model"][0])
    found = _explained(system, home, row)
    version = found.logged["version"]
    return Receipt(
        logged=found.logged,
        features=found.features,
        audit=Auditor(system, home).audit(model, row, events_of or home.lake.read),
        score_again=found.again,
        package_hash=found.package_hash,
        promotion=None if version is None else _introduced(home, model.name, int(version)),
        reasons=found.reasons,
    )


def _explained(system: System, home: Home, row: pl.DataFrame) -> Explained:
    logged = {name: row[name][0] for name in row.columns if name != "features"}
    if logged["version"] is None:
        return Explained(logged, {}, (), None, None, None)
    package = home.registry.load(logged["model"], int(logged["version"]))
    names = package.features
    matrix, texts = logged_features(row, names, tuple(package.encodings))
    if not len(matrix):
        return Explained(logged, {}, (), None, None, package.hash)
    servable, features = Servable(package), Features(matrix, texts)
    declared = system.model(logged["model"]).requirements.explain
    why, base = ((), None) if declared is False else _contributions(servable, features)
    return Explained(
        logged=logged,
        features={
            name: texts[name][0] if name in texts else float(matrix[0, column])
            for column, name in enumerate(names)
        },
        reasons=why,
        base=base,
        again=float(servable.score(features)[0]),
        package_hash=package.hash,
    )


def _contributions(
    servable: Servable, features: Features
) -> tuple[tuple[Reason, ...], float | None]:
    try:
        parts = servable.contributions(features)
    except ExplanationRefused:
        return (), None
    names = servable.names
    return tuple(reasons(names, features, 0, parts, len(names))), float(parts[0, -1])


def _find(system: System, home: Home, prediction_id: str) -> pl.DataFrame:
    for deployment in system.deployments:
        row = home.predictions.find(deployment.model.name, prediction_id)
        if row is not None:
            return row
    raise PredictionUnknown(prediction_id)


def _introduced(home: Home, model: str, version: int) -> Decision | None:
    """Return the decision that first let a version answer users."""
    for decision in home.journal.decisions():
        answers = decision.action in ("promote", "canary", "blue_green")
        if answers and decision.model == model and decision.version == version:
            return decision
    return None
