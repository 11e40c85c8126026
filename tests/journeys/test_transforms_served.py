"""A model with transforms lives through a replay, and its receipts still come out to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import homeostat as hs
from homeostat.runtime.history import import_history
from homeostat.runtime.home import Home
from homeostat.runtime.replay import replay
from homeostat.testing.toy import toy_events, toy_system
from homeostat.testing.toy_replay import toy_schedule

TRANSFORMS = (
    hs.Impute(("cards__amount_mean_1d", "times_usual"), indicator=True),
    hs.Clip("amount", flag=True),
    hs.Log(("amount", "cards__amount_sum_1d")),
    hs.Scale("amount"),
    hs.OneHot("merchant", at_most=2),
    hs.TargetEncoding("merchant"),
)


def transformed(system: hs.System) -> hs.System:
    """Return the system whose first model has transforms, wherever that model is named."""
    plain = system.models[0]
    model = replace(plain, transforms=TRANSFORMS)

    def renewed(part: Any) -> Any:
        return replace(part, model=model) if getattr(part, "model", None) == plain else part

    return replace(
        system,
        models=(model, *system.models[1:]),
        deployments=tuple(map(renewed, system.deployments)),
        monitors=tuple(map(renewed, system.monitors)),
        retraining=tuple(map(renewed, system.retraining)),
    )


def test_what_is_served_with_transforms_can_be_done_again(tmp_path: Path) -> None:
    system = transformed(toy_system())
    home = Home(tmp_path, system, sync=False)
    for name, frame in toy_events().items():
        import_history(home.log, system.source(name), frame, known_time="known_at")
    replay(system, home, toy_schedule())
    versions = home.registry.list("fraud")
    assert len(versions) > 1, "the replay is to retrain once"
    package = home.registry.load("fraud", versions[-1].version)
    assert package.inputs.width > len(package.features)
    assert set(package.importance) == set(package.features)
    home.close()
    app = hs.open(system, home=tmp_path)
    try:
        request = {
            "payment_id": "new", "card": "card-1", "merchant": "kiosk", "amount": 955.0,
            "asked_at": "2024-03-12T12:00:00Z",
        }  # fmt: skip
        (answer,) = app.predict("fraud", request, reasons=True)
        assert answer.arm == "champion"
        assert {reason.feature for reason in answer.reasons or ()} <= set(package.features)
        assert app.receipt(answer.prediction_id).holds
        assert app.audit("fraud").different == 0
    finally:
        app.close()
