"""Whatever a training fails of, it ends in a journaled rejection, and the champion goes on."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.runtime.app import App
from homeostat.runtime.applying import apply_changes
from homeostat.runtime.doctor import examine
from homeostat.runtime.home import Home
from homeostat.train.package import Package

START = datetime(2024, 3, 1, tzinfo=UTC)
ROWS, DAYS = 400, 8
SMALL = {"n_estimators": 5, "num_leaves": 5, "min_child_samples": 5}
GOOD = hs.Estimator("lightgbm:LGBMClassifier", SMALL)
HERE = __name__


class Asked(hs.Event):
    pid: str
    shop: str
    amount: float | None
    at: hs.Timestamp


class Told(hs.Event):
    pid: str
    at: hs.Timestamp
    bad: bool


ASKED = hs.EventSource("asked", Asked, event_id="pid", event_time="at", lateness="52w")
TOLD = hs.EventSource("told", Told, event_id="pid", event_time="at", lateness="52w")


class Clumsy:
    """An estimator that fails as its parameter says."""

    def __init__(self, how: str = "fit", random_state: int | None = None) -> None:
        self.how, self.random_state = how, random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"how": self.how, "random_state": self.random_state}

    def set_params(self, **given: Any) -> Clumsy:
        self.__dict__ |= given
        return self

    def fit(self, matrix: Any, labels: Any, **more: Any) -> Clumsy:
        if self.how == "fit":
            raise RuntimeError("the fit\nhas no convergence")
        if self.how == "memory":
            raise MemoryError
        if self.how == "panic":
            raise Panic("a native library gave up")
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def predict_proba(self, matrix: Any) -> Any:
        raise RuntimeError("the predict has no idea")


class Panic(BaseException):
    """As a library in Rust raises: no `Exception`."""


@hs.on_demand("amount")
def raising(amount: Any) -> Any:
    raise ArithmeticError("no logarithm of -5")


@hs.on_demand("amount")
def misshapen(amount: Any) -> Any:
    return np.zeros(len(amount) + 1)


@hs.on_demand("amount")
def infinite(amount: Any) -> Any:
    return np.full(len(amount), np.inf)


ALL = hs.Split(validation="1d", test="1d")


def system(
    estimator: hs.Estimator = GOOD, more: tuple[Any, ...] = (), split: hs.Split = ALL, **given: Any
) -> hs.System:
    label = hs.Label(
        "bad", predicts=ASKED, outcome=TOLD, join_on="pid", value=hs.col("bad") == True,  # noqa: E712
        delay="6h", when_absent=False,
    )  # fmt: skip
    model = hs.Model(
        "m",
        features=("amount", "shop", *more),
        label=label,
        estimator=estimator,
        split=split,
        requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=5),
        **given,
    )
    deployment = hs.Deployment(
        model=model, rollout=(hs.Shadow("1d"),), guards=(), degradation=hs.Degradation(score=0.1)
    )
    return hs.System(
        "s",
        sources=(ASKED, TOLD),
        models=(model,),
        deployments=(deployment,),
        retraining=(hs.Retrain(model, every="1d", cooldown="6h"),),
    )


def events(first: int, rows: int, day: int, bad: bool | None = None, gaps: bool = False) -> Any:
    chance = np.random.default_rng(first + 1)
    at = [START + timedelta(days=day, seconds=86_400 * DAYS / rows * n) for n in range(rows)]
    amount = [None if gaps and n % 7 == 0 else float(chance.integers(1, 60)) for n in range(rows)]
    asked = pl.DataFrame(
        {
            "pid": [f"p{first + n}" for n in range(rows)],
            "shop": [str(chance.choice(["x", "y", "z"])) for _ in range(rows)],
            "amount": amount,
            "at": at,
        }
    )
    says = [(a or 0) > 30 if bad is None else bad for a in amount]
    told = asked.select("pid", pl.col("at") + pl.duration(hours=1)).with_columns(
        bad=pl.Series(says)
    )
    return asked, told


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with a champion; tests copy it."""
    home = tmp_path_factory.mktemp("served") / "home"
    with hs.open(system(), home, clock(DAYS)) as app:
        take(app, *events(0, ROWS, 0))
        assert [d.action for d in app.step()] == ["train", "promote"]
    return home


def clock(days: float) -> ManualClock:
    return ManualClock(to_micros(START + timedelta(days=days)))


def take(app: App, asked: pl.DataFrame, told: pl.DataFrame) -> None:
    app.ingest("asked", asked, history=True)
    app.ingest("told", told, history=True)


def damage_the_champion(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (app.home.folder / "packages").rglob("*.onnx"):
        file.write_bytes(b"no graph")


def lose_a_table(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (app.home.folder / "lake" / "told").rglob("*.parquet"):
        file.unlink()


def fill_the_disk(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(package: Package, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Package, "save", no_room)


Act = Callable[[App, pytest.MonkeyPatch], None]
NOTHING: dict[str, Any] = {}


def clumsy(how: str) -> dict[str, Any]:
    return {"estimator": hs.Estimator(f"{HERE}:Clumsy", {"how": how})}


def of(estimator: str, **parameters: Any) -> dict[str, Any]:
    return {"estimator": hs.Estimator(estimator, parameters)}


LATEST = hs.Split(validation="1d", test="1d", history="7d")
WAYS: dict[str, tuple[dict[str, Any], Act | None, str]] = {
    "no exact export": (of("sklearn.neighbors:KNeighborsClassifier"), None, "KNeighbors"),
    "not installed": (of("surely_absent:Classifier"), None, "surely_absent"),
    "out of range": (
        of("sklearn.linear_model:LogisticRegression", C=-1.0), None, "InvalidParameterError",
    ),
    "gaps reach it": (of("sklearn.linear_model:LogisticRegression"), None, "NaN"),
    "on-demand raises": ({"more": (raising,)}, None, "no logarithm of -5"),
    "on-demand is misshapen": ({"more": (misshapen,)}, None, "misshapen"),
    "on-demand is infinite": (
        {"more": (infinite,), **of("sklearn.linear_model:LogisticRegression")}, None, "infinit",
    ),
    "fit raises": (clumsy("fit"), None, f"the fit has no convergence (in {HERE}.fit, line"),
    "predict raises": (clumsy("-"), None, "training failed: "),
    "memory": (clumsy("memory"), None, "MemoryError"),
    "panic": (clumsy("panic"), None, "Panic: a native library gave up"),
    "a missing table": (NOTHING, lose_a_table, "told"),
    "a full disk": (NOTHING, fill_the_disk, "No space left on device"),
    "no rows": ({"split": LATEST}, None, "at least"),
    "one class": ({"split": LATEST}, None, "are positive"),
    "a transform cannot learn": (
        {"split": LATEST, "transforms": (hs.Bins("amount", count=4),)}, None, "amount",
    ),
}  # fmt: skip


def latest(way: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what comes after the champion was trained."""
    if way == "no rows":
        return events(ROWS, 1, DAYS)
    has_gaps = way != "on-demand is infinite"
    asked, told = events(ROWS, ROWS, DAYS, True if way == "one class" else None, has_gaps)
    if way == "a transform cannot learn":
        asked = asked.with_columns(amount=pl.lit(None, pl.Float64))
        told = told.with_columns(bad=pl.int_range(pl.len()) % 2 == 0)
    return asked, told


def applied(declared: hs.System, home: Path, at: ManualClock) -> App:
    """Open a home under declarations that are applied first."""
    there = Home(home, declared)
    try:
        apply_changes(there, declared)
    finally:
        there.close()
    return hs.open(declared, home, at)


def outcomes(app: App) -> list[str]:
    """Return what was journaled of the model; a training is followed by its outcome."""
    actions = [d.action for d in app.home.journal.decisions() if d.model == "m"]
    kept = [action for action in actions if action not in ("alert", "clear")]
    for action, after in pairwise([*kept, "train"]):
        assert (action == "train") != (after == "train") or action != "train", kept
    return kept


ASK = {"shop": "x", "amount": 5.0}


@pytest.mark.parametrize("way", WAYS)
def test_the_champion_goes_on_and_the_home_opens(
    way: str, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a restart; and the next training works, once the cause is gone."""
    home = tmp_path / "home"
    shutil.copytree(served, home)
    given, act, words = WAYS[way]
    failing = system(**given)
    with monkeypatch.context() as patched:
        with applied(failing, home, clock(2 * DAYS)) as app:
            take(app, *latest(way))
            app.live.flush()
            if act is not None:
                act(app, patched)
            made = app.train("m")
            assert [d.action for d in made] == ["train", "reject"]
            assert words in made[-1].reason
            assert "\n" not in made[-1].reason
            assert "train" not in [d.action for d in app.step()], "it was tried just now"
        with hs.open(failing, home, clock(2 * DAYS + 0.01)) as app:
            assert app.state("m").champion == 1
            assert app.predict("m", {**ASK, "pid": "new"})[0].version == 1
            assert outcomes(app)[-2:] == ["train", "reject"]
        checks = {check.name: check for check in examine(failing, home)}
        found = checks["training of m"]
        if made[-1].evidence:  # it failed; too few rows are a refusal, by rule
            assert found.status == "note"
            assert words in found.found
            assert "homeostat train m" in found.advice
        assert "version 1 answers" in found.found
    if act is lose_a_table:
        shutil.copytree(served / "lake" / "told", home / "lake" / "told", dirs_exist_ok=True)
    with applied(system(), home, clock(2 * DAYS + 0.02)) as app:
        if way in ("no rows", "one class", "a transform cannot learn"):
            take(app, *events(2 * ROWS, ROWS, DAYS))
        assert [d.action for d in app.train("m")] == ["train", "shadow"]
    checks = {check.name: check for check in examine(system(), home)}
    assert checks["training of m"].status == "ok"
