"""Reasons: promised, they gate a version and are watched; declined, nothing ever computes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock
from homeostat.core.hashing import content_hash, plain
from homeostat.evaluate.reasons import reasons_gate
from homeostat.runtime.app import App
from homeostat.runtime.plan import record_applied
from homeostat.runtime.receipts import explain, receipt
from homeostat.testing.toy import toy_events, toy_system
from homeostat.testing.toy_replay import toy_schedule
from homeostat.testing.toy_training import toy_package, toy_sample
from homeostat.train.servable import Servable

MUTE = hs.Estimator("of_ones_own:Forest", {"n_estimators": 3})
HEARD = hs.Estimator("lightgbm:LGBMClassifier", {"n_estimators": 3})


@pytest.fixture(autouse=True)
def own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimator of which a declaration alone cannot tell whether it gives reasons."""
    from sklearn.ensemble import RandomForestClassifier

    module = ModuleType("of_ones_own")
    module.Forest = RandomForestClassifier  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "of_ones_own", module)


def declaring(explain: bool | None, estimator: hs.Estimator) -> hs.System:
    toy = toy_system()
    first = toy.models[0]
    needs = replace(first.requirements, explain=explain, gates=())
    model = replace(first, estimator=estimator, requirements=needs)
    return replace(
        toy, models=(model,), deployments=(replace(toy.deployments[0], model=model),),
        monitors=(), retraining=(),
    )  # fmt: skip


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[bool | None, hs.Estimator], App]:
    def opened(explain: bool | None, estimator: hs.Estimator) -> App:
        system, home = declaring(explain, estimator), tmp_path / "home"
        new = not home.exists()
        home.mkdir(exist_ok=True)
        if new:
            declared = declaring(None, HEARD)
            App(declared, home, ManualClock(toy_schedule().end)).close()
        record_applied(home, system)  # as one that nobody asked whether it keeps its promise
        return App(system, home, ManualClock(toy_schedule().end))

    return opened


def filled(app: App) -> App:
    for source, events in toy_events().items():
        app.ingest(source, events.drop("known_at"), history=True)
    return app


def ask(app: App) -> Any:
    request = {"card": "card-3", "merchant": "kiosk", "amount": 20.0, "payment_id": "n1",
               "asked_at": None}  # fmt: skip
    (answer,) = app.predict("fraud", request, reasons=True)
    return answer


def test_a_version_without_promised_reasons_is_rejected(opened: Any) -> None:
    with filled(opened(True, MUTE)) as app:
        made = app.train("fraud")
        assert [d.action for d in made] == ["train", "reject"]
        assert "explain=True, and the estimator has no contributions" in made[-1].reason
        assert app.state("fraud").champion is None


def test_promised_after_it_was_promoted_the_version_in_service_has_an_alert(opened: Any) -> None:
    with filled(opened(None, MUTE)) as app:
        assert app.train("fraud")[-1].action == "promote"
        answer = ask(app)
        assert (answer.reasons, answer.degraded) == ([], ["reasons_unknown"])
        assert not [d for d in app.step() if d.action == "alert"]
    with opened(True, MUTE) as app:
        (alert,) = [d for d in app.step() if d.action == "alert"]
        assert alert.evidence["key"] == "reasons/fraud"
        assert "explain=True, and version 1 has no contributions" in alert.reason
    with opened(None, MUTE) as app:
        assert [d.action for d in app.step() if d.evidence.get("key")] == ["clear"]


@pytest.mark.parametrize("promised", [None, True])
def test_reasons_that_can_be_given_are(opened: Any, promised: bool | None) -> None:
    with filled(opened(promised, HEARD)) as app:
        made = app.train("fraud")
        assert made[-1].action == "promote"
        gates = [g["metric"] for g in made[-1].evidence["gates"]["results"]]
        assert gates == (["reasons"] if promised else [])
        answer = ask(app)
        assert answer.reasons
        assert answer.degraded == []


def test_declined_reasons_are_computed_nowhere(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Servable, features: Any) -> Any:
        raise AssertionError("reasons were computed")

    monkeypatch.setattr(Servable, "contributions", never)
    with filled(opened(False, HEARD)) as app:
        assert app.train("fraud")[-1].action == "promote"
        answer = ask(app)
        assert (answer.reasons, answer.degraded) == ([], ["reasons_not_declared"])
        app.live.drain()
        app.step()
        for found in (explain, receipt):
            told = found(app.system, app.home, answer.prediction_id)
            assert told.reasons == ()
        logged = app.home.predictions.find("fraud", answer.prediction_id)
        assert logged is not None
        assert not [name for name in logged.columns if "reason" in name]


def test_a_home_of_before_there_was_a_promise_opens() -> None:
    """Then True was the default, and promised nothing."""
    needs = hs.Requirements(false_positive_cost=1, false_negative_cost=2)
    assert plain(needs)["explain"] is True
    assert plain(replace(needs, explain=False))["explain"] is False
    assert len({content_hash(replace(needs, explain=e)) for e in (None, True, False)}) == 3


@pytest.mark.parametrize("shift", [0.0, 0.5, float("nan")])
def test_the_gate_holds_reasons_against_scores(
    monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    servable, test = Servable(toy_package(0)), toy_sample(40, seed=3)
    right = Servable.contributions
    monkeypatch.setattr(Servable, "contributions", lambda s, f: right(s, f) + np.float64(shift))
    assert reasons_gate(servable, test).passed == (shift == 0)
