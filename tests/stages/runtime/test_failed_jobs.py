"""Whatever a training fails of, it ends in a journaled rejection, and the champion goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.decisions import Decision
from homeostat.runtime.app import App
from homeostat.runtime.doctor import examine
from homeostat.runtime.journal import Journal
from homeostat.runtime.plan import record_applied
from homeostat.train.dataset import Sample
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
        if self.how == "exit":
            raise SystemExit(3)
        if self.how == "group":
            raise ExceptionGroup("two", [ValueError("first cause"), OSError("2nd")])
        if self.how == "speechless":
            raise Speechless
        if self.how == "unwritable":
            raise ValueError("no \ud800 text\0")
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def predict_proba(self, matrix: Any) -> Any:
        raise RuntimeError("the predict has no idea")


class Panic(BaseException):
    """As a library in Rust raises: no `Exception`."""


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


@hs.on_demand("amount")
def leaving(amount: Any) -> Any:
    raise SystemExit(3)


@hs.on_demand("amount")
def raising(amount: Any) -> Any:
    raise ArithmeticError("no logarithm of -5")


@hs.on_demand("amount")
def complex_numbers(amount: Any) -> Any:
    return np.full(len(amount), 1j)


@hs.on_demand("amount")
def misshapen(amount: Any) -> Any:
    return np.zeros(len(amount) + 1)


@hs.on_demand("amount")
def infinite(amount: Any) -> Any:
    return np.full(len(amount), np.inf)


ALL = hs.Split(validation="1d", test="1d")


def system(
    estimator: hs.Estimator = GOOD,
    more: tuple[Any, ...] = (),
    split: hs.Split = ALL,
    gates: tuple[hs.Gate, ...] = (),
    *,
    is_retrained: bool = True,
    **given: Any,
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
        requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=5, gates=gates),
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
        retraining=(hs.Retrain(model, every="1d", cooldown="6h"),) if is_retrained else (),
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
        file.rename(file.with_suffix(".gone"))


def fill_the_disk(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(package: Package, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Package, "save", no_room)


def forget_how_to_learn(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(model: hs.Model, sample: Sample) -> None:
        raise ValueError("nothing can be learned")

    monkeypatch.setattr("homeostat.train.fit.learn", refused)


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
    "on-demand is complex": ({"more": (complex_numbers,)}, None, "returned complex numbers"),
    "on-demand is misshapen": ({"more": (misshapen,)}, None, "misshapen"),
    "on-demand is infinite": (
        {"more": (infinite,), **of("sklearn.linear_model:LogisticRegression")}, None, "infinit",
    ),
    "fit raises": (clumsy("fit"), None, f"the fit has no convergence (in {HERE}.fit, line"),
    "predict raises": (clumsy("-"), None, "training failed: "),
    "memory": (clumsy("memory"), None, "MemoryError"),
    "panic": (clumsy("panic"), None, "Panic: a native library gave up"),
    "group": (clumsy("group"), None, "two (2 sub-exceptions): ValueError: first cause; "),
    "exit": (clumsy("exit"), None, "SystemExit: 3"),
    "on-demand exits": ({"more": (leaving,)}, None, "'leaving': raised SystemExit"),
    "no text": (clumsy("speechless"), None, "its text cannot be made: RuntimeError"),
    "a text that cannot be written": (clumsy("unwritable"), None, r"no \ud800 text\x00"),
    "a missing table": (NOTHING, lose_a_table, "told"),
    "a full disk": (NOTHING, fill_the_disk, "No space left on device"),
    "one class": ({"split": LATEST}, None, "are positive"),
    "a transform cannot learn": (NOTHING, forget_how_to_learn, "nothing can be learned"),
}  # fmt: skip


def latest(way: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what comes after the champion was trained."""
    has_gaps = way != "on-demand is infinite"
    asked, told = events(ROWS, ROWS, DAYS, True if way == "one class" else None, has_gaps)
    return asked, told


def applied(declared: hs.System, home: Path, at: ManualClock) -> App:
    """Open a home under declarations that were applied when nobody asked for their estimators."""
    home.mkdir(parents=True, exist_ok=True)
    record_applied(home, declared)
    return hs.open(declared, home, at)


def outcomes(app: App) -> list[str]:
    """Return what was journaled of the model; a training is followed by its outcome."""
    actions = [d.action for d in app.home.journal.decisions() if d.model == "m"]
    kept: list[str] = [action for action in actions if action not in ("alert", "clear")]
    for action, after in pairwise([*kept, "train"]):
        assert (action == "train") != (after == "train") or action != "train", kept
    return kept


ASK = {"shop": "x", "amount": 5.0}


def apart(decisions: Sequence[Decision]) -> tuple[list[Decision], list[tuple[str, object]]]:
    """Part the decisions about a model from the alerts that open and close."""
    told = [d for d in decisions if d.action in ("alert", "clear")]
    return (
        [d for d in decisions if d not in told],
        [(d.action, d.evidence["key"]) for d in told],
    )


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
            made, alerts = apart(app.train("m"))
            assert [d.action for d in made] == ["train", "reject"]
            assert alerts == ([("alert", "training/m")] if made[-1].evidence else [])
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
        for file in (home / "lake" / "told").rglob("*.gone"):
            file.rename(file.with_suffix(".parquet"))
    with applied(system(), home, clock(2 * DAYS + 0.02)) as app:
        if way == "one class":
            take(app, *events(2 * ROWS, ROWS, DAYS))
        failed = bool(made[-1].evidence)
        made, alerts = apart(app.train("m"))
        assert [d.action for d in made] == ["train", "shadow"], made[-1].reason
        assert alerts == ([("clear", "training/m")] if failed else [])
    checks = {check.name: check for check in examine(system(), home)}
    assert checks["training of m"].status == "ok"


def test_a_damaged_champion_does_not_stop_the_next_one(served: Path, tmp_path: Path) -> None:
    """A gate that compares with it is left out, and says so."""
    home = tmp_path / "home"
    shutil.copytree(served, home)
    gated = system(gates=(hs.Gate("auc", within=0.1),))
    with applied(gated, home, clock(2 * DAYS)) as app:
        take(app, *events(ROWS, ROWS, DAYS))
        for file in (home / "packages").rglob("*.onnx"):
            file.write_bytes(b"no graph")
    with hs.open(gated, home, clock(2 * DAYS + 0.01)) as app:
        made = app.train("m")
        assert [d.action for d in made] == ["train", "shadow"]
        assert "1 skipped" in made[-1].reason
        assert app.predict("m", {**ASK, "pid": "new"})[0].score == 0.1, "the fallback answers"
    with hs.open(gated, home, clock(2 * DAYS + 0.02)) as app:
        assert app.state("m").challenger == 2


def test_without_any_row_the_next_step_tries_again(tmp_path: Path) -> None:
    home, at = tmp_path / "home", clock(DAYS)
    with hs.open(system(), home, at) as app:
        made = app.step()
        assert [d.action for d in made] == ["train", "reject"]
    with hs.open(system(), home, clock(DAYS + 0.5)) as app:
        take(app, *events(0, ROWS, 0))
        assert [d.action for d in app.step()] == ["train", "promote"]


def test_trainings_that_fail_are_tried_ever_more_rarely(tmp_path: Path) -> None:
    """Until they are declared otherwise; and nothing is tried twice at one instant."""
    home, at = tmp_path / "home", clock(DAYS)
    tried = []
    with applied(system(**clumsy("fit"), is_retrained=False), home, at) as app:
        take(app, *events(0, ROWS, 0))
        for minute in range(0, 160, 5):
            at.advance_to(to_micros(START + timedelta(days=DAYS, minutes=minute)))
            if "train" in [d.action for d in app.step()]:
                tried.append(minute)
    assert tried == [0, 10, 30, 70, 150]
    with applied(system(is_retrained=False), home, at) as app:
        assert "promote" in [d.action for d in app.step()]


def test_one_models_failure_stops_no_other(served: Path, tmp_path: Path) -> None:
    """Nor does a companion's failure lose the candidate."""
    home = tmp_path / "home"
    shutil.copytree(served, home)
    good = system()
    model, failing = good.models[0], replace(system(**clumsy("fit")).models[0], name="first")
    companion = replace(failing, name="beside")
    both = replace(
        good,
        models=(failing, model, companion),
        deployments=(
            replace(good.deployments[0], model=failing),
            *good.deployments,
        ),
        retraining=(hs.Retrain(model, every="1d", companions=(companion,)),),
    )
    with applied(both, home, clock(2 * DAYS)) as app:
        take(app, *events(ROWS, ROWS, DAYS))
        made = app.step()
        told = {(d.model, d.action) for d in made}
        assert {("first", "reject"), ("beside", "reject"), ("m", "shadow")} <= told
        assert ("alert", "training/first") in apart(made)[1], "in the step of the failure"
        assert app.state("m").challenger == 2
    with hs.open(both, home, clock(2 * DAYS + 0.01)) as app:
        assert app.state("m").challenger == 2
        assert app.live.loop.has_alert("training/first")


KILLED = """
import sys
from pathlib import Path
import homeostat as hs
from {name} import *
at = clock(DAYS)
with applied(system(**clumsy("killed")), Path(sys.argv[1]), at) as app:
    if not app.home.journal.decisions():
        take(app, *events(0, ROWS, 0))
    app.step()
"""


def test_a_training_that_takes_its_process_along_is_rejected_after_a_few(tmp_path: Path) -> None:
    """As one that needs more memory than there is, at every start."""
    home = tmp_path / "home"
    words = [sys.executable, "-c", KILLED.format(name=Path(__file__).stem), str(home)]
    place = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    ends = [subprocess.run(words, env=place, check=False).returncode for _ in range(4)]
    assert ends == [-signal.SIGKILL] * 3 + [0]
    with hs.open(system(**clumsy("killed")), home, clock(DAYS)) as app:
        assert outcomes(app) == ["train", "reject"] * 3
        made, alerts = apart(app.home.journal.decisions())
        assert "attempt 3 of 3" in made[-1].reason
        assert alerts[-1] == ("alert", "training/m")
        assert app.state("m").failures == 1
    found = {check.name: check for check in examine(system(**clumsy("killed")), home)}
    assert "the process ended while it trained" in found["training of m"].found
    with applied(system(), home, clock(DAYS + 0.5)) as app:
        made, alerts = apart(app.train("m"))
        assert [d.action for d in made] == ["train", "promote"]
        assert alerts == [("clear", "training/m")]


def test_a_home_of_a_release_that_left_trainings_without_outcome_opens(
    served: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(served, home)
    journal = Journal(home / "meta.db")
    for place in range(2):  # the second one was refused only after it had been written down
        at = to_micros(START + timedelta(days=2 * DAYS, minutes=place))
        step = (journal.last_step() or 0) + 1
        journal.write(step, 0, Decision(at, "m", "train", "age"))
    journal.close()
    with hs.open(system(), home, clock(2 * DAYS + 0.01)) as app:
        assert app.state("m").champion == 1
        last = [d.action for d in app.home.journal.decisions()][-2:]
        assert last == ["train", "reject"], "it is finished: the same rows, the same package"
        assert app.predict("m", {**ASK, "pid": "new"})[0].version == 1
