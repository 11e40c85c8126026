"""Declarations change in any way around a champion: it answers as before, or `apply` refuses."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import homeostat as hs
from homeostat import col, count, maximum, mean, share, sum_
from homeostat.core.clock import ManualClock, from_micros
from homeostat.declare.system import System
from homeostat.runtime.app import App
from homeostat.runtime.applying import ServiceLost, apply_changes, serving
from homeostat.runtime.home import Home
from homeostat.runtime.still_needed import still_needed
from homeostat.serve.requests import RequestInvalid
from homeostat.testing.toy import toy_events, toy_system
from homeostat.testing.toy_replay import replay_toy, toy_schedule

END = toy_schedule().end
MINUTE = 60_000_000
LOGGED = ("version", "arm", "score", "threshold", "decision", "degraded", "offset_payments",
          "offset_verdicts", "features", "definitions", "request")  # fmt: skip


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replayed")
    replay_toy(folder)
    with opened(folder, toy_system()):  # what the replay left is taken up once for all
        pass
    return folder


@contextmanager
def opened(folder: Path, system: System) -> Iterator[App]:
    with App(system, folder, ManualClock(END)) as app:
        yield app


def applied(folder: Path, system: System) -> ServiceLost | None:
    """Apply declarations; return the refusal if a version in service would be lost."""
    home = Home(folder, system, sync=False)
    try:
        apply_changes(home, system)
    except ServiceLost as refused:
        return refused
    finally:
        home.close()
    return None


def varied(draw: random.Random) -> System:
    """Return the toy with its views, conditions, order, transforms, code or estimator changed."""
    old = toy_system()
    payments, verdicts = old.sources
    model = old.model("fraud")
    if draw.random() < 0.3:
        payments = replace(payments, lateness=draw.choice(("10m", "3h")))
    cards, merchants = old.views
    pool = [
        count().over("1h", "1d"), count().over("1h", "1d", "2d"), sum_("amount").over("1d"),
        mean("amount").over("1d"), count(col("amount") > 20).named("large").over("6h"),
        maximum("amount").over("1d", hop="1h"), sum_("amount").named("ever"),
    ]  # fmt: skip
    own = draw.sample(pool[2:], draw.randint(1, 4))
    own.insert(draw.randint(0, len(own)), pool[draw.randint(0, 1)])
    where = draw.choice((None, None, col("amount") > 9, col("merchant") != "casino"))
    cards = hs.FeatureView("cards", cards.entity, payments, tuple(own), where=where)
    spans = draw.choice((("2d",), ("2d", "3d"), ("1d",)))
    fraudulent = share(col("fraud") == True).named("fraud_share")  # noqa: E712
    merchants = hs.FeatureView("merchants", merchants.entity, verdicts, (fraudulent.over(*spans),))
    busy = hs.FeatureView("busy", merchants.entity, payments, (count().over("1h"),))
    both = (cards, merchants)
    views = draw.choice((both, both[::-1], both[:1], (*both, busy)))
    features: list[Any] = [ref for view in views for ref in view.all()]
    features += ["amount", "merchant"]
    times_usual = next(f for f in model.features if isinstance(f, hs.OnDemand))
    has_mean = "amount_mean_1d" in [spec.name for spec in cards.features()]
    kept: tuple[hs.OnDemand, ...] = ()
    code = draw.choice(("same", "other", "gone", "kept", "kept"))
    if code == "same" and has_mean:
        features.append(times_usual)
    elif code in ("same", "kept"):
        kept = (times_usual,)
    if code in ("other", "kept") and has_mean:

        def twice_usual(amount: Any, usual: Any) -> Any:
            return 2 * np.asarray(amount) / np.asarray(usual)

        name = "times_usual" if code == "other" else "twice_usual"
        features.append(hs.OnDemand(name, ("amount", cards["amount_mean_1d"]), twice_usual))
    draw.shuffle(features)
    features = features[: draw.randint(max(1, len(features) - 2), len(features))]
    names = [f if isinstance(f, str) else f.name for f in features]
    transforms = (hs.Impute(["amount"]),) if "amount" in names and draw.random() < 0.5 else ()
    changed = replace(
        model,
        features=tuple(features),
        label=replace(model.label, predicts=payments),
        transforms=transforms,
        estimator=hs.Estimator(
            "lightgbm:LGBMClassifier", {"n_estimators": draw.randint(2, 9), "num_leaves": 5}
        ),
    )
    deployment = replace(old.deployments[0], model=changed)
    return System(
        "toy", sources=(payments, verdicts), views=views, models=(changed,),
        deployments=(deployment,), kept=kept,
    )  # fmt: skip


def life(app: App, seed: int) -> list[str]:
    """Let events come and requests be asked; return the ids of the predictions."""
    draw, asked, clock = random.Random(seed), list[str](), app.clock.base
    assert isinstance(clock, ManualClock)
    frame = toy_events(days=1, per_day=60, seed=seed)["payments"].drop("known_at")
    for number in range(6):
        clock.advance_to(app.clock.now() + draw.randint(1, 90) * MINUTE)
        now = from_micros(app.clock.now())
        waited = [timedelta(minutes=draw.choice((0, 0, 5, 30, 100))) for _ in range(8)]
        rows = frame[number * 8 : number * 8 + 8].with_columns(
            payment_id=pl.lit(f"later-{number}-") + pl.col("payment_id"),
            asked_at=pl.Series([now - wait for wait in waited]).cast(frame["asked_at"].dtype),
        )
        app.ingest("payments", rows)
        clock.advance_to(app.clock.now() + MINUTE)
        requests = [
            {"payment_id": f"asked-{number}-{n}", "card": f"card-{draw.randint(0, 40)}",
             "merchant": draw.choice(("bakery", "casino", "kiosk")), "amount": draw.random() * 90}
            for n in range(3)
        ]  # fmt: skip
        asked += [answer.prediction_id for answer in app.predict("fraud", requests)]
    return asked


def told(app: App, asked: list[str]) -> tuple[list[Any], list[Any], Any]:
    """Return what was logged, the receipts and the audit."""
    receipts = [app.receipt(name) for name in asked]
    assert all(one.holds for one in receipts)
    logged = [{name: one.logged[name] for name in LOGGED if name in one.logged} for one in receipts]
    said = [(one.features, one.score_again, one.package_hash, one.reasons) for one in receipts]
    audit = app.audit("fraud")
    return logged, said, (audit.predictions, audit.compared, audit.different, audit.causes)


def same_service(replayed: Path, folder: Path, seed: int) -> bool:
    """Return whether a change was applied; then the champion answered as in a home without it."""
    system = varied(random.Random(seed))
    home, twin = (Path(shutil.copytree(replayed, folder / name)) for name in ("home", "twin"))
    refusal = applied(home, system)
    if refusal is not None:
        assert "'times_usual'" in str(refusal)
        assert "fraud@" in str(refusal)
        system = toy_system()
    found = []
    for where, declared in ((home, system), (twin, toy_system())):
        with opened(where, declared) as app:
            found.append(told(app, life(app, seed)))
    for changed, unchanged in zip(*found, strict=True):
        assert repr(changed) == repr(unchanged)
    assert {row["arm"] for row in found[0][0]} == {"champion"}
    assert found[0][2][2] == 0
    return refusal is None


@pytest.mark.parametrize("seed", [0, 1, 2, 104])  # 104 drops all views of a source
def test_a_champion_outlives_any_change_or_the_change_is_refused(
    replayed: Path, tmp_path: Path, seed: int
) -> None:
    same_service(replayed, tmp_path, seed)


def test_a_field_that_only_the_champion_reads_is_asked_for(replayed: Path, tmp_path: Path) -> None:
    old = toy_system()
    was = old.model("fraud")
    times_usual = next(f for f in was.features if isinstance(f, hs.OnDemand))
    left = tuple(f for f in was.features if f not in (times_usual, "amount"))
    changed = replace(was, features=left, transforms=())
    system = System(
        "toy", sources=old.sources, views=old.views, models=(changed,), kept=(times_usual,),
        deployments=(replace(old.deployments[0], model=changed),),
    )  # fmt: skip
    home, twin = (Path(shutil.copytree(replayed, tmp_path / name)) for name in ("home", "twin"))
    assert applied(home, system) is None
    request = {"card": "card-1", "merchant": "kiosk", "amount": 12.5}
    with opened(home, system) as app:
        with pytest.raises(RequestInvalid, match="amount: missing"):
            app.predict("fraud", {name: request[name] for name in ("card", "merchant")})
        answer = app.predict("fraud", request)[0]
        needed = still_needed(system, serving(app.home, system))
    with opened(twin, old) as app:
        assert app.predict("fraud", request)[0].score == answer.score
    assert [(one.field, one.may_be_null) for one in needed] == [("amount", False)]
    assert needed[0].versions[0] == f"fraud@{answer.version}"
    assert "no longer the champion" in needed[0].until


@pytest.mark.soak
def test_champions_outlive_many_changes(replayed: Path, tmp_path: Path) -> None:
    outcomes = []
    for seed in range(100, 220):
        outcomes.append(same_service(replayed, tmp_path / str(seed), seed))
        shutil.rmtree(tmp_path / str(seed))
    assert 0.3 < sum(outcomes) / len(outcomes) < 0.95
