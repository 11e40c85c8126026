"""What requirements promise is watched: a violation of each is found, and no other thing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from homeostat.monitor.promises import judge_latency, judge_waiting
from homeostat.testing.toy import toy_system

MODEL = toy_system().model("fraud")
SECOND = 1_000_000


@pytest.mark.parametrize(
    ("times_ms", "status"),
    [
        ([5.0] * 1000, "clear"), ([5.0] * 985 + [150.0] * 15, "found"), ([], "not judged"),
        ([5.0] * 995 + [150.0] * 5, "clear"), ([float("nan")] * 500, "not judged"),
        ([150.0] * 99, "not judged"),
        ([150.0] * 100 + [float("nan")] * 900, "found"),
    ],
)  # fmt: skip
def test_the_99th_percentile_is_held_against_the_bound(times_ms: list[float], status: str) -> None:
    finding = judge_latency(MODEL, np.array(times_ms, np.float64) * 1000)
    assert finding.status == status
    assert finding.key == "latency/fraud"
    if status == "found":
        assert finding.reason.endswith("more than the required 100ms")


def test_the_longest_wait_is_held_against_the_bound() -> None:
    needs = replace(MODEL.requirements, freshness="10s")
    model = replace(MODEL, requirements=needs)
    now = 100 * SECOND
    assert judge_waiting(model, {"a": None, "b": None}, now).status == "clear"
    assert judge_waiting(model, {"a": now - 10 * SECOND, "b": None}, now).status == "clear"
    finding = judge_waiting(model, {"a": now - 11 * SECOND, "b": now - 2 * SECOND}, now)
    assert (finding.status, finding.evidence["source"]) == ("found", "a")
    assert finding.reason == (
        "an event of 'a' waits for 11s to count in features, longer than the required 10s"
    )
