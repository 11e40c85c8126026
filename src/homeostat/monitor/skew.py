"""The skew audit as a finding: logged features, computed again from the lake, must be the same."""

from __future__ import annotations

from homeostat.declare.monitors import Skew
from homeostat.features.audit import SkewAudit
from homeostat.monitor.findings import Finding

__all__ = ["difference_bound", "judge_skew"]


def difference_bound(compared: int) -> float:
    """Return the share of differing values that 0 in `compared` rules out with 95 % confidence.

    The rule of three, 3 / n (Hanley and Lippman-Hand 1983), for n values drawn at random.

    >>> difference_bound(30_000)
    0.0001
    """
    return 3 / compared


def judge_skew(monitor: Skew, audited: SkewAudit) -> Finding:
    """Return the finding about the audited predictions; a single differing bit is found."""
    name = monitor.model.name
    evidence = {
        "predictions": audited.predictions,
        "compared": audited.compared,
        "different": audited.different,
        "lagging": audited.lagging,
        "skipped": audited.skipped,
        "differing": [
            {"prediction_id": d.prediction_id, "feature": d.feature} for d in audited.differing[:5]
        ],
    }
    if not audited.compared:
        return Finding("skew", name, "not judged", "no prediction to audit", evidence)
    told = f"{audited.different} of {audited.compared} logged feature values differ from the lake"
    if audited.different:
        features = sorted({d.feature for d in audited.differing})
        return Finding("skew", name, "found", f"{told}: {', '.join(features[:3])}", evidence)
    bound = difference_bound(audited.compared)
    return Finding(
        "skew", name, "clear", f"{told}: below {bound:.2g} with 95 % confidence", evidence
    )
