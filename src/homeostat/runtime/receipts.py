"""A receipt: one prediction, replayed bit for bit, with the evidence behind its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from homeostat.core.decisions import Decision
from homeostat.core.errors import HomeostatError
from homeostat.declare.system import System
from homeostat.features.assemble import Features
from homeostat.features.audit import SkewAudit, audit
from homeostat.monitor.logged import logged_features
from homeostat.runtime.home import Home
from homeostat.serve.explain import Reason, reasons
from homeostat.train.servable import Servable

__all__ = ["PredictionUnknown", "Receipt", "receipt"]


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


def receipt(system: System, home: Home, prediction_id: str) -> Receipt:
    """Return the receipt of a logged prediction; raise `PredictionUnknown` if there is none."""
    row = _find(system, home, prediction_id)
    model = system.model(row["model"][0])
    checked = audit(system, model, row, home.lake.read)
    logged = {name: row[name][0] for name in row.columns if name != "features"}
    version = logged["version"]
    if version is None:
        return Receipt(logged, {}, checked, None, None, None, ())
    package = home.registry.load(model.name, int(version))
    servable = Servable(package)
    matrix, texts = logged_features(row, package.features, tuple(package.encodings))
    features = Features(matrix, texts)
    again: float | None = None
    why: tuple[Reason, ...] = ()
    if len(matrix):
        again = float(servable.score(features)[0])
        why = tuple(reasons(package.features, features, 0, servable.contributions(features)))
    values = {
        name: texts[name][0] if name in texts else float(matrix[0, column])
        for column, name in enumerate(package.features)
        if len(matrix)
    }
    return Receipt(
        logged=logged,
        features=values,
        audit=checked,
        score_again=again,
        package_hash=package.hash,
        promotion=_introduced(home, model.name, int(version)),
        reasons=why,
    )


def _find(system: System, home: Home, prediction_id: str) -> pl.DataFrame:
    for deployment in system.deployments:
        for frame in home.predictions.newest_first(deployment.model.name):
            row = frame.filter(pl.col("prediction_id") == prediction_id)
            if row.height:
                return row
    raise PredictionUnknown(prediction_id)


def _introduced(home: Home, model: str, version: int) -> Decision | None:
    """Return the decision that first let a version answer users."""
    for decision in home.journal.decisions():
        answers = decision.action in ("promote", "canary", "blue_green")
        if answers and decision.model == model and decision.version == version:
            return decision
    return None
