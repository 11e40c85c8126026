"""What was learned and answered can be listed, judged, proven, explained and taken back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl
import pytest

from homeostat.testing.toy_home import Commands


def last_prediction(commands: Commands) -> str:
    query = 'select prediction_id from predictions_fraud order by "at" desc, 1 limit 1'
    return str(commands("sql", query, "--json").json[0]["prediction_id"])


def test_models_tells_where_each_version_stands(lived: Commands) -> None:
    rows = {(r["model"], r["version"]): r for r in lived("models", "--json").json}
    assert rows["fraud", 3]["stands"] == "champion"
    assert rows["fraud", 2]["stands"] == "previous"
    assert rows["fraud_plain", 1]["stands"] == ""
    assert all(0.4 < row["auc"] <= 1 and row["rows"] > 50 for row in rows.values())
    only = lived("models", "fraud", "--json").json
    assert {row["model"] for row in only} == {"fraud"}


def test_evaluate_judges_by_period_and_in_all(lived: Commands) -> None:
    found = lived("evaluate", "fraud", "--by", "day", "--json").json
    days, total = found["periods"][:-1], found["periods"][-1]
    assert [row["period"] for row in days] == [f"2024-03-{day:02}" for day in range(6, 13)]
    assert total["rows"] == sum(row["rows"] for row in days)
    assert total["positives"] == sum(row["positives"] for row in days)
    logged = lived("sql", "select count(*) as n from predictions_fraud", "--json").json[0]["n"]
    assert total["rows"] + found["labels_not_final"] == logged
    mean = sum(row["cost"] * row["rows"] for row in days) / total["rows"]
    assert math.isclose(total["cost"], mean, rel_tol=1e-9)
    weeks = lived("evaluate", "fraud", "--json").json["periods"]
    assert [row["period"] for row in weeks] == ["2024-W10", "2024-W11", "all"]
    assert weeks[-1] == total


def test_drift_compares_with_the_champions_training(lived: Commands) -> None:
    found = lived("drift", "fraud", "--json").json
    assert (found["champion"], found["bound"]) == (3, 0.3)
    listed = lived("features", "list", "--json").json
    names = {row["feature"] for row in listed} | {"amount", "merchant"}
    assert {row["feature"] for row in found["features"]} == names
    psi = [row["psi"] for row in found["features"]]
    assert psi == sorted(psi, reverse=True)
    longer = lived("drift", "fraud", "--window", "5d", "--json").json
    assert longer["rows"] > found["rows"]
    nothing = lived("drift", "fraud", "--window", "1h")
    assert (nothing.status, "no prediction in the last 1h" in nothing.err) == (1, True)


def test_rebuild_proves_a_version_and_a_false_one_is_found(own: Commands) -> None:
    found = own("rebuild", "fraud@2", "--json")
    assert (found.status, found.json["same"]) == (0, True)
    hashes = {r["version"]: r["hash"] for r in own("models", "fraud", "--json").json}
    assert found.json["found"] == hashes[2]
    other = own.folder / "system.py"
    other.write_text(other.read_text().replace("patient_toy()", "patient_toy(trees=2)"))
    changed = own("rebuild", "fraud@2", "--json")
    assert (changed.status, changed.json["same"]) == (3, False)
    assert changed.json["declared_otherwise"] is True
    assert "graph" in changed.json["differing"]


def test_the_catalogue_lists_every_feature_with_its_users(lived: Commands) -> None:
    rows = {row["feature"]: row for row in lived("features", "list", "--json").json}
    assert set(rows) == {
        "cards__count_1h", "cards__count_1d", "cards__amount_sum_1d", "cards__amount_mean_1d",
        "merchants__fraud_share_2d", "times_usual",
    }  # fmt: skip
    assert all(row["models"] == ["fraud"] for row in rows.values())
    assert len({row["hash"] for row in rows.values()}) == len(rows)
    assert rows["cards__amount_mean_1d"]["definition"] == "mean(amount) over 1d"


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ndjson"])
def test_a_training_set_is_written(lived: Commands, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows.{suffix}"
    words = ("features", "training-set", "fraud", "--out", file, "--until", "2024-03-10")
    found = lived(*words, "--json").json
    rows: pl.DataFrame = getattr(pl, f"read_{suffix}")(file)
    assert rows.height == found["rows"] > 1000
    assert rows.columns == ["payment_id", "at", "label", *found["features"]]
    assert int(rows["label"].sum()) == found["positives"]


def test_live_values_are_read_by_key(lived: Commands) -> None:
    words = ("features", "read", "cards")
    known = lived(*words, "card=card-1", "--json").json
    assert set(known["features"]) == {"count_1h", "count_1d", "amount_sum_1d", "amount_mean_1d"}
    nobody = lived(*words, "card=nobody", "--json").json["features"]
    assert (nobody["count_1d"], nobody["amount_mean_1d"]) == (0.0, None)


def test_a_receipt_does_a_prediction_again(lived: Commands) -> None:
    name = last_prediction(lived)
    found = lived("receipt", name, "--json")
    assert (found.status, found.json["holds"]) == (0, True)
    body = found.json
    assert body["score_again"] == body["logged"]["score"]
    assert (body["values_compared"], body["values_different"]) == (8, 0)
    assert body["promotion"]["version"] == body["logged"]["version"] == 3
    told = lived("receipt", name).out
    assert "none of them different" in told
    assert "the same bits" in told


def test_an_explanation_adds_up_to_the_score(lived: Commands) -> None:
    name = last_prediction(lived)
    found = lived("explain", name, "--json").json
    parts = [reason["contribution"] for reason in found["reasons"]]
    assert [abs(part) for part in parts] == sorted(map(abs, parts), reverse=True)
    again = lived("receipt", name, "--json").json["reasons"]
    assert again == found["reasons"]
    assert all(
        reason["direction"] == ("raises" if reason["contribution"] > 0 else "lowers")
        for reason in found["reasons"]
    )
    assert "contributions are in log-odds" in lived("explain", name).out


def test_the_journal_is_filtered_and_shows_evidence(lived: Commands) -> None:
    found = lived("journal", "--json").json
    assert [d["action"] for d in found["decisions"]] == [
        "train", "promote", "alert", "train", "shadow", "canary", "promote",
        "train", "shadow", "canary", "promote",
    ]  # fmt: skip
    late = lived("journal", "--since", "2024-03-11", "--json").json["decisions"]
    assert late == found["decisions"][9:]
    promoted = lived("journal", "--action", "promote", "--json").json["decisions"]
    assert [d["version"] for d in promoted] == [1, 2, 3]
    assert lived("journal", "--model", "other", "--json").json["decisions"] == []
    assert '"guards"' in lived("journal", "--action", "promote", "--evidence").out
    assert found["hash"] in lived("journal").out


def test_status_tells_where_everything_stands(lived: Commands) -> None:
    found = lived("status", "--json").json
    model = found["models"][0]
    assert (model["champion"], model["previous"], model["stage"]) == (3, 2, "idle")
    assert {s["source"]: s["freshness"] for s in found["sources"]} == {
        "payments": "fresh", "verdicts": "",
    }  # fmt: skip
    assert found["present"] == "2024-03-13T12:00:00+00:00"
    assert found["written_by"] is None
    assert "nobody runs it" in lived("status", "fraud").out


def test_training_by_hand_begins_a_rollout_and_a_second_waits_for_it(own: Commands) -> None:
    found = own("train", "fraud", "--json")
    assert [d["action"] for d in found.json] == ["train", "shadow"]
    assert own("models", "fraud", "--json").json[3]["stands"] == "shadow"
    again = own("train", "fraud")
    assert (again.status, "version 4 is in shadow" in again.err) == (1, True)
    back = own("rollback", "fraud", "--reason", "a rehearsal", "--json").json
    assert (back["version"], back["evidence"]["back_to"]) == (4, 3)
    assert back["reason"] == "a rehearsal"
    assert own("rollback", "fraud", "--json").json["evidence"]["back_to"] == 2
    nothing = own("rollback", "fraud")
    assert (nothing.status, "nothing to go back to" in nothing.err) == (1, True)
    assert own("doctor").status == 0


def test_the_report_is_one_page_and_its_numbers_are_json(lived: Commands, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    found = lived("report", "--out", page, "--zone", "Europe/Berlin", "--json").json
    assert (found["skew_different"], found["written"]) == (0, str(page))
    assert page.read_text().startswith("<!doctype html>")
    assert len(found["decisions"]) == 11
    assert str(page) in lived("report", "--out", page).out.replace("\n", "")


def test_json_of_every_looking_command_is_one_document(lived: Commands) -> None:
    name = last_prediction(lived)
    for words in (
        ("check",), ("plan",), ("models",), ("evaluate", "fraud"), ("drift", "fraud"), ("status",),
        ("journal",), ("receipt", name), ("explain", name), ("features", "list"), ("doctor",),
        ("features", "audit", "fraud"), ("dead-letters", "list"), ("sql", "select 1"),
    ):  # fmt: skip
        found = lived(*words, "--json")
        assert found.err == "", words
        json.loads(found.out, parse_constant=pytest.fail)
