"""The skew audit as a finding: logged features, computed again from the lake, must be the same."""

from __future__ import annotations

from homeostat.declare.monitors import Skew
from homeostat.features.audit import SkewAudit
from homeostat.monitor.findings import Finding

__all__ = ["judge_skew"]

LISTED = 5
"""So many of the differences are part of the evidence."""


def judge_skew(monitor: Skew, audited: SkewAudit, asked: int) -> Finding:
    """Return the finding about the audited predictions; a single differing bit is found.

    `asked` is how many predictions there were, of which those audited were drawn.
    """
    name = monitor.model.name
    evidence = {
        "asked": asked,
        "predictions": audited.predictions,
        "compared": audited.compared,
        "different": audited.different,
        "affected": audited.affected,
        "bound": audited.bound,
        "causes": dict(audited.causes),
        "lagging": audited.lagging,
        "skipped": audited.skipped,
        "differing": [
            {
                "prediction_id": d.prediction_id, "feature": d.feature, "cause": d.cause,
                "evidence": d.evidence,
            }
            for d in audited.differing[:LISTED]
        ],
    }  # fmt: skip
    if not audited.compared:
        return Finding("skew", name, "not judged", "no prediction to audit", evidence)
    told = f"{audited.told}; drawn from {asked:,} predictions"
    if not audited.different:
        return Finding("skew", name, "clear", told, evidence)
    causes = ", ".join(f"{cause} {n:,}" for cause, n in audited.causes.items())
    return Finding("skew", name, "found", f"{told}; by cause: {causes}", evidence)
