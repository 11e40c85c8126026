"""Declarations change in any way around a champion: it answers as before, or `apply` refuses."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, from_micros
from homeostat.core.hashing import canonical_json, plain
from homeostat.declare.system import System
from homeostat.features.keys import view_prefix, view_stem
from homeostat.features.state_format import STATE_FORMAT
from homeostat.runtime.app import App
from homeostat.runtime.applying import ServiceLost, apply_changes, serving
from homeostat.runtime.home import Home
from homeostat.runtime.plan import record_body
from homeostat.runtime.still_needed import still_needed
from homeostat.serve.requests import RequestInvalid
from homeostat.testing.toy import toy_events, toy_system
from homeostat.testing.toy_changes import changed_toy
from homeostat.testing.toy_replay import replay_toy, toy_schedule
from homeostat.train.package import Package

END = toy_schedule().end
MINUTE = 60_000_000
MEASURED = ("prediction_id", "latency_features_us", "latency_model_us", "latency_total_us")
"""Columns of the prediction log that are drawn or measured; all others must repeat."""


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replayed")
    replay_toy(folder)
    with opened(folder, toy_system()):  # what the replay left is taken up once for all
        pass
    return folder


@pytest.fixture(scope="module")
def former(replayed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home as a release left it whose packages do not say what their features were."""
    return as_former(Path(shutil.copytree(replayed, tmp_path_factory.mktemp("f") / "former")))


def as_former(folder: Path, system: System | None = None) -> Path:
    """Take the manifests out of packages; they, and the system that was applied, are of then."""
    with sqlite3.connect(folder / "meta.db") as database:
        for path in (folder / "packages").iterdir():
            package = replace(Package.load(path), declared={})
            package.save(path)
            database.execute(
                "update versions set hash = ? where model || '@' || version = ?",
                (package.hash, path.name),
            )
    body = {**plain(system or toy_system()), "state_format": STATE_FORMAT - 2}
    record_body(folder, canonical_json(body))
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
        assert any(app.live.flush() for _ in range(60))  # the requests are events, too, by now
    return asked


def told(app: App, asked: list[str]) -> tuple[list[Any], list[Any], Any]:
    """Return what was logged, the receipts and the audit."""
    receipts = [app.receipt(name) for name in asked]
    assert all(one.holds for one in receipts)
    logged = [{k: v for k, v in one.logged.items() if k not in MEASURED} for one in receipts]
    said = [(list(one.features.items()), one.score_again, one.package_hash, one.reasons,
             one.audit.compared) for one in receipts]  # fmt: skip
    return logged, said, app.audit("fraud")


def same_service(replayed: Path, folder: Path, seed: int) -> bool:
    """Return whether a change was applied; then the champion answered as in a home without it."""
    system = changed_toy(seed)
    home, twin = (Path(shutil.copytree(replayed, folder / name)) for name in ("home", "twin"))
    refusal = applied(home, system)
    if refusal is not None:
        assert "'times_usual'" in str(refusal)
        assert "fraud@" in str(refusal)
        system = toy_system()
    found = []
    for where, declared in ((home, system), (twin, toy_system())):
        assert applied(where, declared) is None  # live state of another release is filled again
        with opened(where, declared) as app:
            found.append(told(app, life(app, seed)))
    for changed, unchanged in zip(*found, strict=True):
        assert repr(changed) == repr(unchanged)
    assert {row["arm"] for row in found[0][0]} == {"champion"}
    assert (found[0][2].different, found[0][2].skipped) == (0, 0)
    return refusal is None


@pytest.mark.parametrize("seed", [0, 1, 2, 104])  # 104 drops all views of a source
def test_a_champion_outlives_any_change_or_the_change_is_refused(
    replayed: Path, tmp_path: Path, seed: int
) -> None:
    same_service(replayed, tmp_path, seed)


@pytest.mark.parametrize("seed", [0, 1, 104])
def test_a_champion_of_an_earlier_release_outlives_any_change_too(
    former: Path, tmp_path: Path, seed: int
) -> None:
    same_service(former, tmp_path, seed)


def test_what_was_declared_is_believed_only_if_the_package_has_its_hashes(
    replayed: Path, tmp_path: Path
) -> None:
    """It was applied after the training, so it is not what the package was trained with."""
    then, now = toy_system(), changed_toy(104)
    home = as_former(Path(shutil.copytree(replayed, tmp_path / "home")), now)
    refused = applied(home, now)
    assert refused is not None
    assert "a package of this age does not say how it was" in str(refused)
    assert applied(home, then) is None
    with opened(home, then) as app:
        assert {row["arm"] for row in told(app, life(app, 1))[0]} == {"champion"}


def test_warming_reads_a_stored_entity_of_every_view_of_every_version(
    replayed: Path, tmp_path: Path
) -> None:
    system = changed_toy(0)
    folder = Path(shutil.copytree(replayed, tmp_path / "home"))
    assert applied(folder, system) is None
    with opened(folder, system) as app:
        views = {v.name + view_stem(v).hex(): v for v in system.views_of(system.model("fraud"))}
        for one in serving(app.home, system):
            assert one.bound is not None
            views |= {v.name + view_stem(v).hex(): v for v in one.bound.views}
        assert len(views) == 4
        assert 'part="store"' not in app.live.metrics.text({})
        app.live.service.warm()
        assert 'part="store"' not in app.live.metrics.text({})
        for number, view in enumerate(views.values(), 1):
            with app.home.store.writer() as writer:
                key, kept = next(iter(writer.scan(view_prefix(view))))
                writer.put(key, b"no record")
            app.live.service.warm()
            assert faults(app) == number
            with app.home.store.writer() as writer:
                writer.put(key, kept)


def faults(app: App) -> int:
    lines = app.live.metrics.text({}).splitlines()
    return sum(int(float(one.split()[-1])) for one in lines if 'part="store"' in one)


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
