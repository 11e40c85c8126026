"""Declarations change: the plan says what, a home refuses until they are applied and filled."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

import homeostat as hs
from homeostat.runtime.loading import load_system
from homeostat.runtime.plan import record_applied
from homeostat.runtime.trainable import NotTrainable
from homeostat.testing.toy_home import Commands

CHANGED = """\
from dataclasses import replace

import homeostat as hs
from homeostat import count
from homeostat.testing.toy_home import patient_toy



def changed(old: hs.System) -> hs.System:
    cards, merchants = old.views
    wider = replace(merchants, aggregations=(*merchants.aggregations, count().over("3h")))
    busy = hs.FeatureView("busy", merchants.entity, cards.source, (count().over("1h", "2d"),))
    return replace(old, views=(cards, wider, busy))


system = changed(patient_toy())
"""


def test_a_new_folder_has_everything_to_apply(fresh: Commands) -> None:
    found = fresh("plan", "--json").json
    assert {change["kind"] for change in found["changes"]} == {"added"}
    assert found["views_to_fill"] == []
    assert not (fresh.folder / "state").exists()
    assert fresh("apply", "--json").json["filled"] == {}
    assert fresh("plan", "--exit-code").status == 0


def test_a_changed_view_is_refused_until_it_is_applied_and_filled(own: Commands) -> None:
    (own.folder / "changed.py").write_text(CHANGED)
    changed = Commands(own.folder, system="changed.py")
    planned = changed("plan", "--exit-code", "--json")
    assert planned.status == 3
    assert {c["name"]: c["kind"] for c in planned.json["changes"]} == {
        "merchants": "changed", "busy": "added",
    }  # fmt: skip
    assert planned.json["views_to_fill"] == ["merchants", "busy"]
    assert changed("plan").out.splitlines()[0].startswith("+ view 'busy'")
    for words in (("train", "fraud"), ("features", "read", "busy", "merchant=bakery")):
        refused = changed(*words)
        assert (refused.status, "homeostat apply" in refused.err) == (1, True)

    applied = changed("apply", "--json").json
    assert applied["filled"] == {"merchants": 1800, "busy": 1820}
    assert changed("plan", "--exit-code").status == 0
    assert changed("apply", "--json").json["filled"] == {}

    live = {
        (view, key): changed("features", "read", view, f"merchant={key}", "--json").json
        for view in ("merchants", "busy")
        for key in ("bakery", "casino", "ジム", "unheard-of")
    }
    with hs.open(load(own.folder / "changed.py"), own.folder / "state") as app:
        for (view, key), found in live.items():
            spine = pl.DataFrame({"merchant": [key], "at": [found["at"]]}).with_columns(
                pl.col("at").str.to_datetime(time_unit="us", time_zone="UTC")
            )
            then = app.features([view], spine).row(0, named=True)
            for name, value in found["features"].items():
                again = then[f"{view}__{name}"]
                assert value == (None if again != again else again), (view, key, name)
    assert any(found["features"]["count_2d"] for (v, _), found in live.items() if v == "busy")
    assert own("status").status == 0  # looking is allowed beside other declarations
    assert own("train", "fraud").status == 1


def test_live_state_in_an_older_format_is_refused_until_it_is_filled_again(own: Commands) -> None:
    read = ("features", "read", "merchants", "merchant=bakery")
    values = own(*read, "--json").json["features"]
    note = own.folder / "state" / "applied.json"
    said = json.loads(note.read_text())
    note.write_text(json.dumps({**said, "state_format": 2}))
    planned = own("plan", "--json").json
    assert {(c["name"], c["kind"]) for c in planned["changes"]} == {
        ("cards", "changed"), ("merchants", "changed"),
    }  # fmt: skip
    assert "live state: in a new format" in own("plan").out
    refused = own(*read)
    assert (refused.status, "homeostat apply" in refused.err) == (1, True)
    assert set(own("apply", "--json").json["filled"]) == {"cards", "merchants"}
    assert own("plan", "--exit-code").status == 0
    assert own(*read, "--json").json["features"].keys() == values.keys()


EDITED = """\
from dataclasses import replace

from homeostat.testing.toy_home import patient_toy


def edited(old):
    cards, merchants = old.views
    backwards = replace(cards, aggregations=cards.aggregations[::-1])
    share = merchants.aggregations[0]
    wider = replace(merchants, aggregations=(share.over("2d", "3d"),))
    patient = replace(old.monitors[0], within="26h")
    return replace(old, views=(backwards, wider), monitors=(patient, *old.monitors[1:]))


system = edited(patient_toy(trees=9))
"""


def test_the_plan_names_what_differs(fresh: Commands) -> None:
    fresh("apply")
    (fresh.folder / "system.py").write_text(EDITED)
    planned = fresh("plan", "--json").json["changes"]
    assert {change["name"]: change["details"] for change in planned} == {
        "cards": ["aggregations: in another order"],
        "merchants": ["aggregations.fraud_share.windows: 2d -> 2d, 3d"],
        "fraud": ["estimator.parameters.n_estimators: 8 -> 9"],
        "fraud_plain": ["estimator.parameters.n_estimators: 8 -> 9"],
        "Freshness of payments": ["within: 1d -> 1d2h"],
    }  # fmt: skip


def load(path: Path) -> hs.System:
    from homeostat.runtime.loading import load_system

    return load_system(path)


def test_older_state_is_kept_for_packages_in_service_and_no_other(
    own: Commands,
) -> None:
    from homeostat.adapters.lmdb import LmdbStore

    def prefixes() -> set[bytes]:
        store = LmdbStore(own.folder / "state" / "online")
        with store.writer() as writer:
            found = {re.split(rb"[/-]", key)[1] for key, _ in writer.scan(b"view/")}
        store.close()
        return found

    before = prefixes()
    store = LmdbStore(own.folder / "state" / "online")
    with store.writer() as writer:
        for name in before:  # a page of a busy entity, by each definition
            writer.put(b"view/" + name + b"+busy" + bytes(8), b"page")
    store.close()
    pages = {name + b"+busy" + bytes(8) for name in before}
    (own.folder / "changed.py").write_text(CHANGED)
    changed = Commands(own.folder, system="changed.py")
    [stands] = changed("status", "--json").json["models"]
    users = [f"fraud@{stands['champion']}", f"fraud@{stands['previous']}"]
    planned = changed("plan", "--json").json["kept"]
    assert [(one["view"], one["for"]) for one in planned] == [("merchants", users)]
    assert planned[0]["entities"] >= 4
    assert planned[0]["bytes"] > 0
    changed("apply")
    after = prefixes()
    records = after - pages
    assert after & pages == pages  # what did not change, and what the way back reads
    names = sorted(name.split(b"@")[0] for name in records)
    assert names == [b"busy", b"cards", b"merchants", b"merchants"]
    assert len(before & records) == 2
    assert own("apply").status == 0
    assert prefixes() == before | pages


SHOP = """\
import homeostat as hs


class Sale(hs.Event):
    sale: str
    shop: str
    at: hs.Timestamp


sales = hs.EventSource("sales", Sale, event_id="sale", event_time="at", lateness="520w")
shop = hs.Entity("shop", key="shop")
system = hs.System(
    "shops",
    sources=(sales,),
    views=(hs.FeatureView("busy", shop, sales, (hs.count().over("52w"),)),),
)
"""


def test_remembering_ids_for_another_time_fills_nothing_again(tmp_path: Path) -> None:
    (tmp_path / "system.py").write_text(SHOP)
    (tmp_path / "sales.csv").write_text("sale,shop,at\na,bakery,2024-03-04T09:00:00Z\n")
    shop = Commands(tmp_path)
    assert shop("ingest", "sales", str(tmp_path / "sales.csv")).status == 0
    (tmp_path / "system.py").write_text(SHOP.replace('"520w"', '"520w", dedup="30d"'))
    planned = shop("plan", "--json").json
    assert {change["name"]: change["details"] for change in planned["changes"]} == {
        "sales": ["dedup: all time -> 30d"]
    }
    assert planned["views_to_fill"] == []
    assert shop("apply", "--json").json["filled"] == {}
    assert shop("plan", "--exit-code").status == 0


MISSPELT = """\
from dataclasses import replace

import homeostat as hs
from homeostat.testing.toy_home import patient_toy


def misspelt(old: hs.System) -> hs.System:
    wrong = hs.Estimator("lightgbm:LGBMClassifier", {"n_estimatorz": 5})
    models = [replace(m, estimator=wrong) if m.name == "fraud_plain" else m for m in old.models]
    return replace(old, models=tuple(models), retraining=())


system = misspelt(patient_toy())
"""


def test_what_check_says_of_an_estimator_is_refused_by_all_that_let_it_hold(
    fresh: Commands, tmp_path: Path
) -> None:
    assert fresh("apply").status == 0
    assert fresh("plan", "--json").json["untrainable"] == []
    (fresh.folder / "changed.py").write_text(MISSPELT)
    changed = Commands(fresh.folder, system="changed.py")
    (mistake,) = changed("check", "--json").json["mistakes"]
    assert "Did you mean 'n_estimators'" in mistake
    planned = changed("plan", "--json")
    assert (planned.status, planned.json["untrainable"]) == (3, [mistake])
    assert "`homeostat apply` refuses it: model 'fraud_plain', estimator" in changed("plan").out
    before = (fresh.folder / "state" / "applied.json").read_bytes()
    for words in (("apply",), ("run", "--port", "0"), ("train", "fraud")):
        refused = changed(*words)
        assert (refused.status, mistake in refused.err) == (1, True), words
    system = load_system(fresh.folder / "changed.py")
    for home in (fresh.folder / "state", tmp_path / "new"):
        with pytest.raises(NotTrainable, match="n_estimatorz"):
            hs.open(system, home)
    assert (fresh.folder / "state" / "applied.json").read_bytes() == before
    assert not (tmp_path / "new" / "applied.json").exists()
    record_applied(fresh.folder / "state", system)  # as an earlier release let it hold
    assert changed("plan", "--json").json["untrainable"] == []
    hs.open(system, fresh.folder / "state").close()
