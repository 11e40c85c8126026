"""Every cause of skew is planted in a home for real, and blamed; a clean home blames nobody."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

import homeostat as hs
from homeostat import col
from homeostat.core.clock import ManualClock, from_micros
from homeostat.core.durations import parse_duration
from homeostat.declare.system import System
from homeostat.features.audit import SkewAudit
from homeostat.features.fold import ViewFold
from homeostat.features.keys import KeyCodec
from homeostat.runtime.app import App
from homeostat.runtime.applying import apply_changes, serving
from homeostat.runtime.auditing import Auditor
from homeostat.runtime.giving_up import GivingUp
from homeostat.runtime.home import Home
from homeostat.testing.toy import toy_system
from homeostat.testing.toy_replay import replay_toy, toy_schedule

END = toy_schedule().end
REQUEST = {"card": "card-3", "merchant": "kiosk", "amount": 20.0}
FROM_CARDS = {
    "cards__count_1h", "cards__count_1d", "cards__amount_sum_1d", "cards__amount_mean_1d",
    "times_usual",
}  # fmt: skip


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replayed")
    replay_toy(folder)
    return folder


@pytest.fixture
def folder(replayed: Path, tmp_path: Path) -> Path:
    """A home of its own that has lived through the toy."""
    return Path(shutil.copytree(replayed, tmp_path / "home"))


@contextmanager
def opened(folder: Path, system: System | None = None) -> Iterator[App]:
    """Open a home as it stands at the end of the replay, with such declarations applied."""
    declared = system or toy_system()
    home = Home(folder, declared)
    names = tuple(one.name for one in serving(home, declared))
    apply_changes(home, declared, giving_up=GivingUp(names, END))
    home.close()
    with App(declared, folder, ManualClock(END)) as app:
        yield app


def audited(
    folder: Path, system: System | None = None, *, with_manifests: bool = True
) -> SkewAudit:
    """Audit a home; without manifests, its predictions are as earlier releases logged them."""
    with opened(folder, system) as app:
        if not with_manifests:
            with closing(sqlite3.connect(folder / "meta.db")) as database:
                database.execute("DELETE FROM feature_manifests")
                database.commit()
        return app.audit("fraud")


def swapped(value: Any, old: Any, new: Any) -> Any:
    """Return declarations with one of them replaced wherever it stands."""
    if type(value) is type(old) and value == old:
        return new
    if isinstance(value, tuple):
        return tuple(swapped(inner, old, new) for inner in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = [f.name for f in dataclasses.fields(value) if f.init]
    found = {name: swapped(getattr(value, name), old, new) for name in fields}
    changed = {n: v for n, v in found.items() if v is not getattr(value, n)}
    return dataclasses.replace(value, **changed) if changed else value


def table(folder: Path, source: str) -> DeltaTable:
    return DeltaTable(str(folder / "lake" / source))


def rewrite(folder: Path, offset: int, **columns: str) -> None:
    """Change columns of one row of the lake's payments; each is given as SQL."""
    table(folder, "payments").update(updates=columns, predicate=f"_offset = {offset}")


def rows(folder: Path, source: str = "payments") -> pl.DataFrame:
    home = Home(folder, toy_system())
    try:
        return home.lake.read(source)
    finally:
        home.close()


def a_used_payment(folder: Path, place: int = -200) -> dict[str, Any]:
    """An accepted payment in the replayed week, so that later answers were made of it."""
    return rows(folder).filter(~pl.col("_too_late")).row(place, named=True)


def logged(app: App) -> pl.DataFrame:
    return pl.concat(list(app.home.predictions.frames("fraud")), how="diagonal")


def ask(app: App, request_id: str) -> str:
    """Ask once, some time later, and return the id of the prediction."""
    app.clock.base.advance_to(app.clock.now() + parse_duration("1m"))  # type: ignore[attr-defined]
    return app.predict("fraud", {**REQUEST, "payment_id": request_id})[0].prediction_id


def of_prediction(found: SkewAudit, name: str) -> dict[str, tuple[str, str]]:
    return {d.feature: (d.cause, d.evidence) for d in found.differing if d.prediction_id == name}


def test_in_a_clean_home_nothing_differs(folder: Path) -> None:
    with opened(folder) as app:
        name = ask(app, "clean")
        found = app.audit("fraud")
        assert name in logged(app)["prediction_id"]
    assert (found.different, found.affected, found.differing, found.causes) == (0, 0, (), {})
    assert found.predictions > 1000
    assert found.compared == 8 * found.predictions
    assert found.bound == pytest.approx(3 / found.predictions, rel=0.01)


def test_a_changed_definition_is_no_difference_where_its_manifest_is_kept(folder: Path) -> None:
    system = toy_system()
    view = system.view("cards")
    changed = dataclasses.replace(view, where=col("amount") > 9)
    found = audited(folder, swapped(system, view, changed))
    assert (found.different, found.causes) == (0, {})
    assert found.compared == 8 * found.predictions
    assert found.predictions > 1000


def test_a_changed_definition_is_blamed_for_what_it_changed(folder: Path) -> None:
    system = toy_system()
    view = system.view("cards")
    changed = dataclasses.replace(view, where=col("amount") > 9)
    found = audited(folder, swapped(system, view, changed), with_manifests=False)
    assert found.causes == {"definition_changed": found.different}
    assert found.different > 1000
    assert {d.feature for d in found.differing} <= FROM_CARDS
    assert all("declared now is" in d.evidence for d in found.differing)


def test_a_changed_function_is_blamed_for_its_feature_alone(folder: Path) -> None:
    system = toy_system()
    old = next(f for f in system.model("fraud").features if getattr(f, "name", "") == "times_usual")

    def times_usual(amount: Any, usual: Any) -> Any:
        return np.asarray(amount) / np.asarray(usual) + 1.0

    assert isinstance(old, hs.OnDemand)
    new = hs.OnDemand("times_usual", old.inputs, times_usual)
    found = audited(folder, swapped(system, old, new))
    assert found.causes == {"code_changed": found.different}
    assert {d.feature for d in found.differing} == {"times_usual"}
    assert found.affected == found.different > 1000


@pytest.mark.parametrize("is_gone", [False, True])
def test_what_cannot_be_computed_any_more_leaves_the_rest_by_its_manifest(
    folder: Path, is_gone: bool
) -> None:
    system = toy_system()
    view, old = system.view("cards"), system.model("fraud").features[-3]
    assert isinstance(old, hs.OnDemand)
    declared = swapped(system, view, dataclasses.replace(view, where=col("amount") > 9))
    kept = next(f for f in declared.model("fraud").features if getattr(f, "name", "") == old.name)
    if is_gone:
        model = declared.model("fraud")
        fewer = tuple(one for one in model.features if one is not kept)
        declared = swapped(declared, model, dataclasses.replace(model, features=fewer))
    else:
        new = hs.OnDemand(old.name, kept.inputs, lambda amount, usual: amount)
        declared = swapped(declared, kept, new)
    with opened(folder, declared) as app:
        found = app.audit("fraud")
        auditor = Auditor(app.system, app.home)
        list(auditor.by_definition(app.system.model("fraud"), logged(app)))
    assert found.predictions > 1000
    if is_gone:
        assert (found.different, found.causes) == (0, {})
        assert found.compared == 7 * found.predictions
        assert any("'times_usual' is not compared" in note for note in auditor.notes)
    else:
        assert found.causes == {"code_changed": found.different}
        assert {d.feature for d in found.differing} == {"times_usual"}
        assert found.compared == 8 * found.predictions


def test_a_change_that_changes_no_value_is_not_blamed_for_an_altered_event(folder: Path) -> None:
    """Another tag, monitor or model parameter is no other definition of a feature."""
    system = toy_system(trees=9)
    event = a_used_payment(folder)
    rewrite(folder, event["_offset"], amount="amount + 1000")
    found = audited(folder, system)
    assert set(found.causes) == {"event_altered"}


def test_a_rewritten_row_of_the_lake_is_named(folder: Path) -> None:
    event = a_used_payment(folder)
    rewrite(folder, event["_offset"], amount="amount + 1000")
    found = audited(folder)
    assert found.causes == {"event_altered": found.different}
    assert {d.feature for d in found.differing} == FROM_CARDS - {
        "cards__count_1h",
        "cards__count_1d",
    }
    for d in found.differing:
        assert f"offset {event['_offset']} of 'payments' is not what the log holds (amount)" in (
            d.evidence
        )


def test_a_row_that_was_put_into_the_lake_is_named(folder: Path) -> None:
    event = a_used_payment(folder)
    home = Home(folder, toy_system())
    taken = home.lake.read("payments").filter(pl.col("_offset") == event["_offset"])
    home.lake.append("payments", taken, "somebody", 1)
    home.close()
    found = audited(folder)
    assert found.causes == {"event_altered": found.different}
    assert found.different > 0
    assert f"offset {event['_offset']} " in found.differing[0].evidence


def test_an_erased_row_of_the_lake_is_named(folder: Path) -> None:
    event = a_used_payment(folder)
    table(folder, "payments").delete(f"_offset = {event['_offset']}")
    found = audited(folder)
    assert found.causes == {"event_erased": found.different}
    assert found.different > 0
    for d in found.differing:
        assert f"offset {event['_offset']} of 'payments' is in the log and not in the lake" in (
            d.evidence
        )


def test_erased_and_altered_rows_are_told_apart(folder: Path) -> None:
    first, other = (a_used_payment(folder, place) for place in (-200, -420))
    assert first["card"] != other["card"]
    table(folder, "payments").delete(f"_offset = {first['_offset']}")
    rewrite(folder, other["_offset"], amount="amount + 1000")
    found = audited(folder)
    assert set(found.causes) == {"event_erased", "event_altered"}
    named = {d.cause: d.evidence for d in found.differing}
    assert f"offset {first['_offset']} " in named["event_erased"]
    assert f"offset {other['_offset']} " in named["event_altered"]


def test_an_event_that_the_lake_counts_though_it_came_too_late(folder: Path) -> None:
    late = rows(folder).filter("_too_late").row(-2, named=True)
    rewrite(folder, late["_offset"], _too_late="false")
    found = audited(folder)
    assert found.causes == {"late_event": found.different}
    assert found.different > 0
    assert f"offset {late['_offset']} of 'payments' is counted in only one" in (
        found.differing[0].evidence
    )


def too_late_payment(app: App, request_id: str, amount: float = 5.0) -> dict[str, Any]:
    asked = from_micros(app.clock.now()) - timedelta(hours=2)
    return {
        **REQUEST, "payment_id": request_id, "asked_at": asked.isoformat(), "amount": amount,
    }  # fmt: skip


def test_a_too_late_event_that_slipped_into_the_store(folder: Path) -> None:
    with opened(folder) as app:
        assert app.ingest("payments", [too_late_payment(app, "slow")]).too_late == 1
        assert app.ingest("payments", [too_late_payment(app, "slower", 7.0)]).too_late == 1
        view = app.system.view("cards")
        app.live.flush()
        event = app.home.lake.read("payments").filter(pl.col("payment_id") == "slow")
        fold = ViewFold(view)
        with app.home.store.writer() as writer:
            fold.apply(writer, fold.prepare(event.with_columns(_too_late=pl.lit(False))), 0, 1)
        name = ask(app, "after")
        found = app.audit("fraud")
    assert set(found.causes) == {"late_event"}
    assert set(of_prediction(found, name)) <= FROM_CARDS
    assert "cards__count_1d" in of_prediction(found, name)
    assert (
        f"offset {event['_offset'][0]} of 'payments' counted, which is too late"
        in (of_prediction(found, name)["cards__count_1d"][1])
    )


def test_a_lateness_that_was_changed_is_not_that_of_a_package_in_service(
    folder: Path, tmp_path: Path
) -> None:
    system = toy_system()
    source = system.source("payments")
    patient = swapped(system, source, dataclasses.replace(source, lateness="3h"))
    killed = tmp_path / "killed"
    with opened(folder, patient) as app:
        assert app.ingest("payments", [too_late_payment(app, "slow")]).too_late == 0
        name = ask(app, "after")
        app.live.fold()
        shutil.copytree(folder, killed)  # what a kill would leave: the lake lacks the event
    found = audited(killed, system)
    assert of_prediction(found, name) == {}
    assert found.different == 0


@pytest.mark.parametrize("mended", [False, True])
def test_a_wrong_record_in_the_store_is_a_fault_of_the_store(folder: Path, mended: bool) -> None:
    with opened(folder) as app:
        view = app.system.view("cards")
        mine, other = (KeyCodec(view).key((card,)) for card in ("card-3", "card-7"))
        assert mine is not None
        assert other is not None
        with app.home.store.writer() as writer:
            right = writer.get(mine)
            writer.put(mine, writer.get(other) or b"")
        name = ask(app, "misread")
        if mended:
            with app.home.store.writer() as writer:
                writer.put(mine, right or b"")
        found = app.audit("fraud")
    assert found.causes == {"store_fault": found.different}
    assert {d.prediction_id for d in found.differing} == {name}
    assert found.affected == 1
    words = "agrees with the lake now" if mended else "disagrees with the lake still"
    assert all(words in d.evidence for d in found.differing)
    assert {d.feature for d in found.differing} <= FROM_CARDS


def test_without_a_readable_log_nothing_is_blamed_on_the_store(folder: Path) -> None:
    table(folder, "payments").delete(f"_offset = {a_used_payment(folder)['_offset']}")
    with closing(sqlite3.connect(folder / "log.db")) as log, log:
        log.execute("UPDATE segments SET checksum = checksum + 1 WHERE source = 'payments'")
    home = Home(folder, toy_system())
    try:
        asked = pl.concat(list(home.predictions.frames("fraud")))
        model = home.system.model("fraud")
        found = Auditor(home.system, home).audit(model, asked, home.lake.read)
    finally:
        home.close()
    assert found.causes == {"unexplained": found.different}
    assert found.different > 0
    assert "the log of 'payments' cannot be read" in found.differing[0].evidence


def forget_definitions(folder: Path) -> None:
    """Make a home as it was before predictions carried their definitions."""
    name = "predictions_fraud"
    home = Home(folder, toy_system())
    held = home.lake.read(name).drop("definitions")
    version = home.lake.application_version(name, "log/fraud")
    home.close()
    shutil.rmtree(folder / "lake" / name)
    home = Home(folder, toy_system())
    home.lake.append(name, held, "log/fraud", version, day="at")
    home.close()


def test_predictions_of_before_they_carried_definitions_are_audited(folder: Path) -> None:
    forget_definitions(folder)
    rewrite(folder, a_used_payment(folder)["_offset"], amount="amount + 1000")
    with opened(folder) as app:
        name = ask(app, "now")
        found = app.audit("fraud")
        carried = dict(logged(app).select("prediction_id", "definitions").iter_rows())
        app.clock.base.advance_to(app.clock.now() + parse_duration("1d"))  # type: ignore[attr-defined]
        app.step()
        held = app.sql("select prediction_id, definitions from predictions_fraud")
    assert {key for key, digest in carried.items() if digest is not None} == {name}
    assert found.causes == {"event_altered": found.different}
    assert dict(held.iter_rows()) == carried


def test_the_monitor_alerts_with_the_cause_and_what_it_compared(folder: Path) -> None:
    with opened(folder) as app:
        view = app.system.view("cards")
        mine, other = (KeyCodec(view).key((card,)) for card in ("card-3", "card-7"))
        with app.home.store.writer() as writer:
            writer.put(mine or b"", writer.get(other or b"") or b"")
        names = {ask(app, f"misread-{n}") for n in range(4)}
        decisions = app.step()
    (alert,) = [d for d in decisions if d.evidence.get("kind") == "skew"]
    assert (alert.evidence["asked"], alert.evidence["predictions"]) == (4, 4)
    assert alert.evidence["affected"] == 4
    assert alert.evidence["bound"] == 1.0
    assert set(alert.evidence["causes"]) == {"store_fault"}
    assert {d["prediction_id"] for d in alert.evidence["differing"]} <= names
    assert "by cause: store_fault" in alert.reason


def test_the_monitor_computes_no_more_than_its_budget(folder: Path) -> None:
    system = toy_system()
    monitor = next(m for m in system.monitors if isinstance(m, hs.Skew))
    frugal = swapped(system, monitor, dataclasses.replace(monitor, at_most=3))
    with opened(folder, frugal) as app:
        view = app.system.view("cards")
        mine, other = (KeyCodec(view).key((card,)) for card in ("card-3", "card-7"))
        with app.home.store.writer() as writer:
            writer.put(mine or b"", writer.get(other or b"") or b"")
        for n in range(8):
            ask(app, f"misread-{n}")
        decisions = app.step()
    (alert,) = [d for d in decisions if d.evidence.get("kind") == "skew"]
    assert (alert.evidence["asked"], alert.evidence["predictions"]) == (8, 3)
    assert "in 3 of 3 predictions" in alert.reason
    assert "drawn from 8 predictions" in alert.reason


def test_features_are_compared_by_name_when_the_model_lists_others(folder: Path) -> None:
    system = toy_system()
    model = system.model("fraud")
    features = tuple(f for f in reversed(model.features) if f != "amount")
    other = swapped(system, model, dataclasses.replace(model, features=features))
    found = audited(folder, other, with_manifests=False)
    assert (found.different, found.skipped) == (0, 0)
    assert found.compared == 7 * found.predictions > 7000
