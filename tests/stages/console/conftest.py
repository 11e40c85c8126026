"""A made-up summary of a replay, as full as a real one."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

START = datetime(2013, 5, 1, tzinfo=UTC)
END = datetime(2014, 1, 1, tzinfo=UTC)
MODELS = ("final", "frozen", "without_streaming")
LEVEL = {"final": 0.765, "frozen": 0.744, "without_streaming": 0.69}


def day(number: float) -> str:
    return (START + timedelta(days=number)).isoformat()


def weekly(draw: random.Random) -> dict[str, list[list[object]]]:
    found: dict[str, list[list[object]]] = {model: [] for model in MODELS}
    for week in range(35):
        season = 0.02 * math.sin(week / 5)
        for model in MODELS:
            age = week / 35 if model == "frozen" else 0.0
            found[model].append(
                [
                    (START + timedelta(weeks=week)).date().isoformat(),
                    LEVEL[model] + season - 0.03 * age + draw.gauss(0, 0.008),
                    0.32 - LEVEL[model] * 0.2 + season + 0.04 * age + draw.gauss(0, 0.005),
                    abs(0.015 + 0.06 * age + draw.gauss(0, 0.006)),
                    6_400 + draw.randrange(500),
                ]
            )
    return found


def guard(signal: str, ours: float, theirs: float, verdict: str) -> dict[str, object]:
    return {
        "signal": signal,
        "within": 0.02,
        "verdict": verdict,
        "challenger": ours,
        "champion": theirs,
        "rows": 812,
        "rows_needed": 400,
        "sentence": f"{signal} is {ours} against {theirs}",
    }


def decisions() -> list[dict[str, object]]:
    harmful = (
        "canary at 0.05: cost is 0.318 against 0.171 of the champion, more than 0.02 worse, over "
        "812 labelled requests"
    )
    told: list[tuple[float, str, str, int | None, dict[str, object]]] = [
        (0, "promote", "all 3 gates held; it is the first model, so no champion is to protect", 1,
         {"gates": [{"metric": "auc", "value": 0.74, "at_least": 0.65}]}),
        (33, "alert", "drift: 4 features have a PSI above 0.25, weather__temperature_last at 0.81",
         None, {"top": {"weather__temperature_last": 0.81, "origin__delay_mean_3h": 0.31}}),
        (34, "train", "drift: 4 features have a PSI above 0.25; age: the last training was 34d ago",
         None, {"champion": 1, "last_trained": 1_367_356_800_000_000}),
        (35, "shadow", "all 3 gates held; shadow for 2d", 2,
         {"step": 0, "span_us": 172_800_000_000}),
        (37, "canary", "shadow for 2d: 3 guards held; canary at 0.05 for 1d", 2,
         {"guards": [guard("cost", 0.169, 0.174, "held")], "share": 0.05}),
        (39, "canary", "canary at 0.05 for 1d: 3 guards held; canary at 0.5 for 1d", 2,
         {"guards": [guard("cost", 0.168, 0.173, "held")], "share": 0.5}),
        (41, "promote", "canary at 0.5 for 1d: 3 guards held; the way back to version 1 works", 2,
         {"guards": [guard("cost", 0.168, 0.173, "held")]}),
        (42, "clear", "drift: no feature has a PSI above 0.25", None, {}),
        (90, "train", "quality: calibration_error is 0.061, 0.034 worse than at the gates", None,
         {}),
        (91, "reject", "gate auc in slice carrier=YV: 0.561 is below 0.6 over 502 rows", 3, {}),
        (120, "shadow", "all 3 gates held; shadow for 2d", 4, {}),
        (122, "canary", "shadow for 2d: 3 guards held; canary at 0.05 for 1d", 4, {}),
        (123.4, "rollback", harmful, 4, {"guards": [guard("cost", 0.318, 0.171, "broken"),
                                                  guard("mean_score", 0.61, 0.24, "broken")]}),
        (150, "train", "age: the last training was 60d ago, every 60d", None, {}),
        (151, "shadow", "all 3 gates held; shadow for 2d", 5, {}),
        (153, "canary", "shadow for 2d: 3 guards held; canary at 0.05 for 1d", 5, {}),
        (155, "promote", "canary at 0.5 for 1d: 3 guards held; the way back works", 5, {}),
    ]  # fmt: skip
    return [
        {"at": day(at), "model": "late_arrival", "action": action, "reason": reason,
         "version": version, "evidence": found}
        for at, action, reason, version, found in told
    ]  # fmt: skip


def by_month(base: dict[str, float], step: float) -> dict[str, dict[str, float]]:
    months = [f"2013-{month:02d}" for month in range(5, 13)]
    return {
        model: {
            **{month: level + step * math.sin(i * (k + 1)) for i, month in enumerate(months)},
            "all": level,
        }
        for k, (model, level) in enumerate(base.items())
    }


@pytest.fixture
def full() -> dict[str, Any]:
    draw = random.Random(7)
    months = [f"2013-{month:02d}" for month in range(5, 13)]
    return {
        "system": "flights",
        "period": {"start": START.isoformat(), "end": END.isoformat()},
        "seconds": 187.4,
        "peak_rss_mb": 1_412.0,
        "predictions": 226_041,
        "skew_compared": 7_233_312,
        "skew_different": 0,
        "skew_lagging": 12,
        "auc": by_month(LEVEL, 0.012),
        "cost": by_month({"final": 0.168, "frozen": 0.183, "without_streaming": 0.196}, 0.01),
        "calibration_error": by_month(
            {"final": 0.016, "frozen": 0.051, "without_streaming": 0.021}, 0.006
        ),
        "base_rate": dict(
            zip(months, [0.22, 0.28, 0.32, 0.21, 0.13, 0.16, 0.18, 0.31], strict=True)
        ),
        "weekly": weekly(draw),
        "decisions": decisions(),
        "journal_hash": "5f3c9d1e" * 8,
        "model_hashes": {f"late_arrival@{v}": f"{v}a7b3c" * 10 for v in (1, 2, 4, 5)},
        "quarantined": {
            "departures": {"malformed": 40, "invalid_field:delay_minutes": 25, "conflict": 12},
            "weather": {"future": 30, "not_finite": 6},
        },
        "counts": {
            "schedule": {"accepted": 336_776, "duplicates": 0, "too_late": 0, "rejected": 0},
            "departures": {"accepted": 328_521, "duplicates": 55, "too_late": 18, "rejected": 77},
            "arrivals": {"accepted": 327_346, "duplicates": 0, "too_late": 0, "rejected": 0},
            "weather": {"accepted": 26_115, "duplicates": 4, "too_late": 0, "rejected": 36},
        },
        "drift": [
            [day(i)[:10], (i % 40) // 9, "weather__temperature_last",
             0.05 + (i % 40) / 90 + draw.random() * 0.05]
            for i in range(2, 245)
        ],
        "latency": {
            "features": {"p50_ms": 0.31, "p95_ms": 0.52, "p99_ms": 0.93},
            "model": {"p50_ms": 0.12, "p95_ms": 0.19, "p99_ms": 0.41},
            "total": {"p50_ms": 0.52, "p95_ms": 0.83, "p99_ms": 1.62},
        },
        "rollout": [
            [day(0), "champion", 1, 1.0], [day(35), "shadow", 2, 0.0], [day(37), "canary", 2, 0.05],
            [day(39), "canary", 2, 0.5], [day(41), "champion", 2, 1.0],
            [day(120), "shadow", 4, 0.0], [day(122), "canary", 4, 0.05],
            [day(123.4), "rollback", 4, 0.0], [day(151), "shadow", 5, 0.0],
            [day(153), "canary", 5, 0.05], [day(154), "canary", 5, 0.5],
            [day(155), "champion", 5, 1.0],
        ],
        "importance": [
            ["origin_departures__delay_minutes_mean_1h", 0.181], ["hour", 0.122],
            ["aircraft_arrivals__delay_minutes_last", 0.117], ["delay_per_mile", 0.071],
            ["weather__precipitation_last", 0.052], ["route_departures__count_3h", 0.04],
            ["carrier", 0.034], ["distance", 0.03],
        ],
        "reliability": {
            model: [[s / 20, min(1.0, s / 20 * bend), 9_000 // (s + 1)] for s in range(1, 18, 2)]
            for model, bend in (("final", 1.02), ("frozen", 1.2), ("without_streaming", 0.95))
        },
        "costs": {"false_positive": 1.0, "false_negative": 3.0},
        "commands": [
            "homeostat run examples/flights/system.py --home build/demo/state --port 8000",
            "curl -s localhost:8000/predict/late_arrival -d '{\"flight_id\": \"UA1545\"}'",
            "homeostat sql \"select carrier, count(*) from departures group by 1\"",
        ],
    }  # fmt: skip
