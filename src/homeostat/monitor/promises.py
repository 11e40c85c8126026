"""Tells a model in service that breaks what is required: latency, freshness, reasons."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros, format_duration
from homeostat.declare.models import Model
from homeostat.monitor.findings import Finding

__all__ = ["LATENCY_WINDOW", "judge_latency", "judge_reasons", "judge_waiting"]

LATENCY_WINDOW = 600_000_000
"""The answers of the last ten minutes are judged, in microseconds."""

_LEAST = 100
"""Of fewer answers the 99th percentile is one of them."""


def judge_latency(model: Model, times_us: npt.NDArray[np.float64]) -> Finding:
    """Return the finding about how long answers took, NaN where that was not measured."""
    bound, times = model.requirements.latency_p99_us, times_us[~np.isnan(times_us)]
    if len(times) < _LEAST:
        told = f"{len(times)} answers, and {_LEAST} are needed"
        return Finding("latency", model.name, "not judged", told)
    p99 = int(np.percentile(times, 99))
    told = f"99 of 100 answers took at most {format_duration(p99)}"
    evidence = {"p99_us": p99, "bound_us": bound, "rows": len(times)}
    if p99 > bound:
        reason = f"{told}, more than the required {format_duration(bound)}"
        return Finding("latency", model.name, "found", reason, evidence)
    return Finding("latency", model.name, "clear", f"{told} of {format_duration(bound)}", evidence)


def judge_waiting(model: Model, since: Mapping[str, Micros | None], now: Micros) -> Finding:
    """Return the finding about how long received events wait to be folded.

    Args:
        model: whose views' sources they are.
        since: by source, when the oldest record that waits was received; None if none waits.
        now: the instant.
    """
    bound = model.requirements.freshness_us
    waits = {name: max(now - at, 0) for name, at in since.items() if at is not None}
    name = max(waits, key=lambda source: (waits[source], source), default="")
    longest = waits.get(name, 0)
    evidence: dict[str, object] = {"waits_us": longest, "bound_us": bound, "source": name}
    if longest > bound:
        reason = (
            f"an event of {name!r} waits for {format_duration(longest)} to count in features, "
            f"longer than the required {format_duration(bound)}"
        )
        return Finding("behind", model.name, "found", reason, evidence)
    return Finding("behind", model.name, "clear", "received events count in features", evidence)


def judge_reasons(model: Model, version: int, *, explains: bool) -> Finding:
    """Return the finding about promised reasons: `explains` says whether the version has any."""
    if model.requirements.explain is True and not explains:
        reason = (
            f"explain=True, and version {version} has no contributions of features to a score; "
            "train one with an estimator of lightgbm, or leave explain out"
        )
        return Finding("reasons", model.name, "found", reason, {"version": version})
    return Finding("reasons", model.name, "clear", "reasons are given as declared")
