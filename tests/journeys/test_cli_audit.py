"""`homeostat features audit`: what differs and why, for people and for machines."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from homeostat.features.assemble import Features
from homeostat.features.confidence import upper_bound
from homeostat.monitor.logged import logged_features
from homeostat.runtime.home import Home
from homeostat.testing.toy import toy_system
from homeostat.testing.toy_home import Commands
from homeostat.train.servable import Servable

AUDIT = ("features", "audit", "fraud")


def lake(commands: Commands) -> DeltaTable:
    return DeltaTable(str(commands.folder / "state" / "lake" / "payments"))


def change_a_logged_value(commands: Commands) -> None:
    """Change one logged feature that moved the score, as nobody but a hand in the lake can."""
    where = commands.folder / "state" / "lake" / "predictions_fraud"
    with closing(Home(commands.folder / "state", toy_system())) as home:
        rows = next(home.predictions.frames("fraud"))
        servable = Servable(home.registry.load("fraud", rows["version"][0]))
    for number, place, by in product(range(50), range(len(servable.names) - 1), (1e6, -1e6)):
        row = rows[number : number + 1]
        values = row["features"].to_list()[0]
        values[place] = by + (values[place] or 0.0)
        changed = row.with_columns(pl.Series("features", [values], row["features"].dtype))
        matrix, texts = logged_features(changed, servable.names, ("merchant",))
        if servable.score(Features(matrix, texts))[0] != row["score"][0]:
            break
    else:
        raise AssertionError("no feature moves the score")
    DeltaTable(where).delete(f"prediction_id = '{row['prediction_id'][0]}'")
    days = changed.with_columns(pl.col("at").dt.date().alias("_day"))
    write_deltalake(where, days, mode="append")


def test_a_clean_home_gets_a_bound(lived: Commands) -> None:
    found = lived(*AUDIT, "--json")
    n = found.json["predictions"]
    assert (found.status, found.json["different"], found.json["causes"]) == (0, 0, {})
    assert found.json["notes"] == []
    assert found.json["bound"] == upper_bound(0, n)
    told = lived(*AUDIT).out
    assert f"0 of {8 * n:,} values differ, in 0 of {n:,} predictions: below 0.29 %" in told
    assert "cause" not in told


@pytest.mark.parametrize(
    ("declared", "left_out"),
    [("changed_toy(1)", 1), ("changed_toy(4)", 0), ("toy_without_code(is_kept=False)", 1)],
)
@pytest.mark.parametrize("has_manifests", [True, False])
def test_declarations_that_are_not_applied_explain_no_difference(
    own: Commands, declared: str, left_out: int, *, has_manifests: bool
) -> None:
    if not has_manifests:
        with closing(sqlite3.connect(own.folder / "state" / "meta.db")) as database:
            database.execute("DELETE FROM feature_manifests")
            database.commit()
    (own.folder / "system.py").write_text(
        "from homeostat.testing.toy_changes import changed_toy, toy_without_code\n\n"
        f"system = {declared}\n"
    )
    found = own(*AUDIT, "--json")
    assert (found.status, found.json["different"], found.json["skipped"]) == (0, 0, 0)
    assert found.json["compared"] == (8 - left_out) * found.json["predictions"]
    notes = found.json["notes"]
    assert "changes that are not applied" in notes[0]
    assert ["'times_usual' is not compared" in note for note in notes[1:]] == [True] * left_out
    assert notes[0] in own(*AUDIT).out


def test_causes_are_counted_and_each_is_listed_with_its_evidence(own: Commands) -> None:
    lake(own).delete("_offset = 1500")
    lake(own).update(updates={"amount": "amount + 1000"}, predicate="_offset = 1600")
    found = own(*AUDIT, "--json")
    assert found.status == 3
    counts = found.json["causes"]
    assert list(counts) == ["event_erased", "event_altered"]
    assert sum(counts.values()) == found.json["different"]
    assert found.json["bound"] == upper_bound(found.json["affected"], found.json["predictions"])
    listed = found.json["differing"]
    assert {d["cause"] for d in listed} == set(counts)
    told = own(*AUDIT)
    assert told.status == 3
    lines = told.out.splitlines()
    table = lines[lines.index(next(x for x in lines if x.startswith("cause"))) :][1:3]
    assert [line.split() for line in table] == [
        ["event", "erased", str(counts["event_erased"])],
        ["event", "altered", str(counts["event_altered"])],
    ]
    for d in listed:
        assert sum(d["evidence"] in line for line in lines) == 1
        assert any(d["prediction_id"] in line and d["feature"] in line for line in lines)
    assert f"{len(listed)} of {found.json['different']} are listed" in told.out


def test_a_changed_prediction_log_is_no_fault_of_the_store(own: Commands) -> None:
    change_a_logged_value(own)
    found = own(*AUDIT, "--json")
    assert (found.status, found.json["causes"]) == (3, {"unexplained": 1})
    (difference,) = found.json["differing"]
    assert "the prediction log does not hold what the model was given" in difference["evidence"]
    told = own(*AUDIT).out
    assert f"{difference['logged']:.4g}" in told
    assert f"{difference['recomputed']:.4g}" in told
    receipt = own("receipt", difference["prediction_id"])
    assert receipt.status == 3
    assert f"unexplained: {difference['evidence']}" in receipt.out


def test_a_sample_is_the_same_each_time_and_part_of_a_larger_one(lived: Commands) -> None:
    few = lived(*AUDIT, "--sample", "100", "--json").json
    assert (few["predictions"], few["compared"]) == (100, 800)
    assert few["asked"] > 1000
    assert few["bound"] == upper_bound(0, 100)
    assert lived(*AUDIT, "--sample", "100", "--json").json == few
    assert f"100 predictions drawn from {few['asked']:,}" in lived(*AUDIT, "--sample", "100").out


def test_since_leaves_out_what_was_asked_before(lived: Commands, own: Commands) -> None:
    whole = lived(*AUDIT, "--json").json
    recent = lived(*AUDIT, "--since", "2024-03-10", "--json").json
    query = "select count(*) as n from predictions_fraud where \"at\" >= '2024-03-10'"
    assert recent["asked"] == recent["predictions"] == lived("sql", query, "--json").json[0]["n"]
    assert 0 < recent["asked"] < whole["asked"]
    change_a_logged_value(own)  # of the first predictions
    assert own(*AUDIT, "--since", "2024-03-10").status == 0


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("--since", "2030-01-01"), 1, "no prediction is that new; allowed: an instant up to"),
        (("--sample", "0"), 2, "0 is not in the range x>=1"),
    ],
)
def test_what_cannot_be_audited_is_said(
    lived: Commands, words: tuple[Any, ...], status: int, told: str
) -> None:
    found = lived(*AUDIT, *words)
    assert (found.status, told in found.err) == (status, True)


def test_a_home_whose_declarations_were_not_applied_is_audited_all_the_same(
    own: Commands, tmp_path: Path
) -> None:
    other = own.folder / "system.py"
    other.write_text(
        "import dataclasses\nfrom homeostat import col\n"
        + other.read_text()
        + "view = system.views[0]\n"
        "narrow = dataclasses.replace(view, where=col('amount') > 9)\n"
        "system = dataclasses.replace(system, views=(narrow, *system.views[1:]))\n"
    )
    found = own(*AUDIT, "--json")  # each prediction by the definitions it was made under
    assert (found.status, found.json["different"], found.json["causes"]) == (0, 0, {})
